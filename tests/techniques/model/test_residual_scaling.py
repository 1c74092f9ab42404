"""Residual scaling: GPT-2's 1 / sqrt(2 N), and a stream whose variance doesn't grow with depth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.registry import build
from stepwell.techniques.model.residual_scaling import ResidualScaling, residual_factor


@pytest.mark.parametrize(("num_layers", "factor"), [(2, 0.5), (8, 0.25), (12, 0.2041241452)])
def test_two_branches_a_layer_give_gpt_2_s_factor(num_layers: int, factor: float) -> None:
    assert residual_factor(2 * num_layers) == pytest.approx(factor)
    assert residual_factor(2 * num_layers) == pytest.approx(1 / math.sqrt(2 * num_layers))


def test_the_last_layer_of_each_branch_of_a_transformer_is_scaled_and_nothing_else() -> None:
    signature = Signature("tokens", (8,), 5, vocab_size=5)
    plain, scaled = (build("transformer", signature, {"num_layers": 2, "width": 8, "bias": "all"}, seed=0) for _ in range(2))
    ResidualScaling()(scaled, Rng(0))
    ratios = {
        name: (after / before).mean().item()
        for (name, before), (_, after) in zip(plain.named_parameters(), scaled.named_parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert set(ratios) == {
        f"blocks.{n}.{part}.weight" for n in (0, 1) for part in ("attention.branch.1.project", "feed_forward.branch.4")
    }
    assert list(ratios.values()) == pytest.approx([0.5] * 4)


def test_the_variance_of_a_stream_of_forty_branches_doubles_instead_of_growing_forty_times() -> None:
    class Linear(nn.Module):
        """A branch of variance 1, whatever comes in: its own noise times a weight that starts at 1."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(place))
            self.out = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.out.weight)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.out(self.noise)

    model = nn.Sequential(*(Residual(Linear(place)) for place in range(40)))
    inputs = torch.randn(4000, 1, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        assert model(inputs).var().item() == pytest.approx(41, rel=6 * math.sqrt(2 / 4000))
        assert ResidualScaling()(model, Rng(0))(inputs).var().item() == pytest.approx(2, rel=6 * math.sqrt(2 / 4000))


def test_convolutions_count_and_biases_stay() -> None:
    branch = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.Dropout(0.1))
    before = [parameter.detach().clone() for parameter in branch.parameters()]
    ResidualScaling()(nn.Sequential(Residual(branch), Residual(nn.Linear(2, 2))), Rng(0))
    after = list(branch.parameters())
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, True, False, True]
    torch.testing.assert_close(after[2], before[2] / math.sqrt(2))


def test_branches_can_be_named_where_a_block_of_another_library_has_two() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj = nn.Linear(4, 12), nn.Linear(4, 4)

    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn, self.mlp = Attention(), Mlp()

    model = nn.ModuleDict({"blocks": nn.Sequential(Block())})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ResidualScaling(patterns=["blocks.*.attn"])(model, Rng(0))
    assert torch.equal(model.get_parameter("blocks.0.attn.proj.weight"), before["blocks.0.attn.proj.weight"])  # 1 / sqrt(1)
    ResidualScaling(patterns=["*.attn", "*.mlp"])(model, Rng(0))
    changed = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert changed == ["blocks.0.attn.proj.weight", "blocks.0.mlp.fc2.weight"]


def test_a_branch_without_weights_is_refused() -> None:
    with pytest.raises(JobError, match="no linear or convolution layer in the branch of 1"):
        ResidualScaling()(nn.Sequential(Residual(nn.Linear(2, 2)), Residual(nn.LayerNorm(2))), Rng(0))


def test_a_model_without_residual_blocks_and_wrong_patterns_are_refused() -> None:
    with pytest.raises(JobError, match=r"no residual block that declares itself.*residual_scaling\.patterns"):
        ResidualScaling()(nn.Linear(2, 2), Rng(0))
    with pytest.raises(JobError, match=r"residual_scaling\.patterns is 3"):
        ResidualScaling(patterns=3)  # type: ignore[arg-type]
