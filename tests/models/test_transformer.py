"""The decoder-only transformer."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.core.modules.norms import is_norm
from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.transformer import Attention, Block, transformer

SHAKESPEARE = Signature("tokens", (64,), 65, vocab_size=65)
SMALL = Signature("tokens", (6,), 11, vocab_size=11)


def num_parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_default_has_the_parameters_of_nanogpt_s_cpu_configuration() -> None:
    block = 2 * 128 + 128 * 384 + 128 * 128 + 2 * 128 * 512
    by_hand = 65 * 128 + 64 * 128 + 4 * block + 128
    assert by_hand == 804_096
    assert num_parameters(transformer(SHAKESPEARE)) == by_hand


def test_gpt_2_small_has_its_124_million_parameters() -> None:
    with torch.device("meta"):
        net = transformer(
            Signature("tokens", (1024,), 50257, vocab_size=50257), num_layers=12, num_heads=12, width=768, bias="all"
        )
    assert num_parameters(net) == 124_439_808


def test_separate_embeddings_add_a_head() -> None:
    separate = transformer(SMALL, width=8, num_heads=2, embeddings="separate")
    tied = transformer(SMALL, width=8, num_heads=2)
    assert num_parameters(separate) == num_parameters(tied) + 11 * 8
    assert separate(torch.zeros(1, 6, dtype=torch.int64)).shape == (1, 6, 11)


def test_a_token_changes_no_earlier_prediction_and_every_later_one() -> None:
    net = transformer(SMALL, width=8, num_heads=2, num_layers=2).double()
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    changed = tokens.clone()
    changed[0, 3] = 9
    before, after = net(tokens), net(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-15)
    assert (before[:, 3:] != after[:, 3:]).any(dim=2).all()


def test_attention_computes_the_formula_of_vaswani() -> None:
    attention = Attention(8, 2, dropout=0.0).double()
    states = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    query, key, value = (states @ attention.mix.weight.T).split(8, dim=2)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(dim=2) @ value[..., part])
    torch.testing.assert_close(attention(states), torch.cat(heads, dim=2) @ attention.project.weight.T)


def test_weights_start_as_gpt_2_draws_them() -> None:
    torch.manual_seed(0)
    net = transformer(SHAKESPEARE, bias="all")
    projections = [block.attention.branch[1].project for block in net.blocks]
    projections += [block.feed_forward.branch[4] for block in net.blocks]
    for layer in projections:  # 16,384 draws and more: the sd is known to 0.6 % (one sd)
        assert layer.weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.03)
    for weight in (net.embedding.weight, net.positions.weight, net.blocks[0].attention.branch[1].mix.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.04)
    assert all((parameter == 0).all() for name, parameter in net.named_parameters() if name.endswith("bias"))


def test_positions_declare_their_role_also_in_a_copy() -> None:
    net = transformer(SMALL, width=8, num_heads=2)
    for model in (net, copy.deepcopy(net), net.double()):
        roles = {name: getattr(parameter, "stepwell_role", None) for name, parameter in model.named_parameters()}
        assert roles.pop("positions.weight") == "position"
        assert set(roles.values()) == {None}


def test_blocks_and_branches_declare_their_roles() -> None:
    net = transformer(SMALL, width=8, num_heads=2, num_layers=3)
    assert sum(isinstance(module, Block) and module.stepwell_role == "block" for module in net.modules()) == 3
    assert sum(isinstance(module, Residual) for module in net.modules()) == 6


@pytest.mark.parametrize("place", ["embedding_dropout", "attention_dropout", "residual_dropout", "ffn_dropout"])
def test_dropout_at_each_place_acts_in_training_only(place) -> None:
    torch.manual_seed(0)
    net = transformer(SMALL, width=8, num_heads=2, **{place: 0.5})
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    assert not torch.equal(net(tokens), net(tokens))
    net.eval()
    assert torch.equal(net(tokens), net(tokens))


def test_one_dropout_rate_reaches_all_four_places_and_a_place_s_own_rate_comes_first() -> None:
    net = transformer(SMALL, width=8, num_heads=2, num_layers=1, dropout=0.1, ffn_dropout=0.3)
    block = net.blocks[0]
    feed_forward = block.feed_forward.branch
    assert net.dropout.p == block.attention.branch[1].dropout == block.attention.branch[2].p == feed_forward[5].p == 0.1
    assert feed_forward[3].p == 0.3


def test_at_the_start_it_predicts_every_token_about_equally() -> None:
    torch.manual_seed(0)
    net = transformer(SHAKESPEARE)
    tokens = torch.randint(65, (8, 64))
    loss = torch.nn.functional.cross_entropy(net(tokens).flatten(0, 1), torch.randint(65, (8 * 64,)))
    assert loss.item() == pytest.approx(math.log(65), abs=0.05)


def test_more_tokens_than_the_block_are_refused_and_fewer_are_taken() -> None:
    net = transformer(SMALL, width=8, num_heads=2)
    assert net(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, 11)
    with pytest.raises(DataError, match="got 7 tokens; expected at most its block size, 6"):
        net(torch.zeros(1, 7, dtype=torch.int64))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(JobError, match=r"model.width is 10; expected a multiple of num_heads, 4"):
        transformer(SMALL, width=10)
    with pytest.raises(JobError, match=r"model.ffn_dropout is 1.0; expected a number in \[0, 1\)"):
        transformer(SMALL, ffn_dropout=1.0)
    with pytest.raises(JobError, match="tied embeddings give 11 outputs where the data need 2"):
        transformer(Signature("tokens", (6,), 2, vocab_size=11))


def test_rms_norm_takes_the_place_of_every_layer_norm() -> None:
    net = transformer(Signature("tokens", (8,), 5, vocab_size=5), num_layers=2, width=8, norm="rms", bias="all")
    norms = [module for module in net.modules() if is_norm(module)]
    assert [type(module) for module in norms] == [torch.nn.RMSNorm] * 5
    assert net(torch.zeros(2, 8, dtype=torch.int64)).shape == (2, 8, 5)
    states = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net.norm(states), states / (states.square().mean(-1, keepdim=True) + 1e-5).sqrt())
