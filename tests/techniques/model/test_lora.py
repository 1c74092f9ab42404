"""LoRA: a low-rank change of some layers is trained, everything else keeps its bits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.core.modules.low_rank import Adapter, adapted_layers, adapter_of, attach_, detach_, merge_, weight_change
from stepwell.core.randomness import Rng, seeded_defaults
from stepwell.core.signature import Signature
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.models import build
from stepwell.techniques import AdamW, Dropout
from stepwell.techniques.model.lora import Lora, lora_targets, trainable_share
from stepwell.techniques.objective.mse import Mse


def net() -> nn.Sequential:
    with seeded_defaults(0):
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))


def batch(number: int) -> Batch:
    draw = torch.Generator().manual_seed(number)
    return Batch(torch.randn(16, 4, generator=draw) + 1, torch.randn(16, 2, generator=draw))


def steps(model: nn.Module, techniques: list[Any], num_steps: int, **execution: Any) -> TrainStep:
    step = TrainStep(
        model,
        objective=Mse(),
        optimizer=AdamW(lr=0.05, weight_decay=0.1),
        techniques=techniques,
        horizon=Horizon.of("6 steps"),
        execution=Execution(**execution),
    )
    for number in range(num_steps):
        step(batch(number))
    return step


LAYERS: list[tuple[nn.Module, Tensor]] = [
    (nn.Linear(4, 3), torch.linspace(-1, 1, 8).view(2, 4)),
    (nn.Conv1d(2, 3, 3, stride=2, padding=1), torch.linspace(-1, 1, 20).view(1, 2, 10)),
    (nn.Conv2d(2, 3, (3, 2), padding=2, dilation=2, padding_mode="circular"), torch.linspace(-1, 1, 98).view(1, 2, 7, 7)),
    (nn.Embedding(7, 3, padding_idx=0), torch.tensor([[0, 3, 6]])),
]


@pytest.mark.parametrize(("layer", "inputs"), LAYERS, ids=lambda value: type(value).__name__)
def test_an_adapter_changes_nothing_at_first_and_merged_the_outputs_stay(layer: nn.Module, inputs: Tensor) -> None:
    layer = copy.deepcopy(layer).eval()
    plain, kind, names = layer(inputs), type(layer), list(layer.state_dict())
    attach_(layer, Adapter(rank=2, scaling=1.5), Rng(0))
    assert torch.equal(layer(inputs), plain)
    assert type(layer) is kind
    assert list(layer.state_dict()) == [*names, "lora_a", "lora_b"]
    with torch.no_grad():
        for name in ("lora_a", "lora_b"):
            layer.get_parameter(name).normal_(generator=torch.Generator().manual_seed(1))
    adapted = layer(inputs)
    assert (adapted - plain).abs().max() > 0.1
    merge_(layer)
    torch.testing.assert_close(layer(inputs), adapted, rtol=0, atol=1e-5)
    assert list(layer.state_dict()) == names
    assert not layer._forward_hooks
    assert adapter_of(layer) is None


def test_a_linear_layer_adds_scaling_times_b_a_x() -> None:
    layer = nn.Linear(2, 2, bias=False)
    attach_(layer, Adapter(rank=1, scaling=0.5), Rng(0))
    with torch.no_grad():
        layer.weight.zero_()
        layer.get_parameter("lora_a").copy_(torch.tensor([[1.0, 2.0]]))
        layer.get_parameter("lora_b").copy_(torch.tensor([[3.0], [-4.0]]))
    # A x = 1 * 10 + 2 * 1 = 12; B A x = (36, -48); half of it.
    assert layer(torch.tensor([[10.0, 1.0]])).tolist() == [[18.0, -24.0]]
    assert weight_change(layer).tolist() == [[1.5, 3.0], [-2.0, -4.0]]


def test_an_embedding_adds_a_row_of_scaling_times_b_a_transposed() -> None:
    layer = nn.Embedding(3, 2)
    attach_(layer, Adapter(rank=1, scaling=2.0), Rng(0))
    with torch.no_grad():
        layer.weight.zero_()
        layer.get_parameter("lora_a").copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        layer.get_parameter("lora_b").copy_(torch.tensor([[1.0], [10.0]]))
    assert layer(torch.tensor([2, 0])).tolist() == [[6.0, 60.0], [2.0, 20.0]]


def test_first_values_are_drawn_as_the_paper_and_torch_do() -> None:
    linear, convolution, embedding = nn.Linear(100, 50), nn.Conv2d(4, 8, 5), nn.Embedding(9, 400)
    for layer in (linear, convolution, embedding):
        attach_(layer, Adapter(rank=20, scaling=1.0), Rng(5))
    # U(-b, b) with b = 1 / sqrt(fan in): 0.1 of 100 and of 4 * 25 inputs.
    for layer in (linear, convolution):
        a = layer.get_parameter("lora_a").detach()
        assert 0.095 < a.abs().max() <= 0.1
        assert abs(a.std().item() - 0.1 / 3**0.5) < 5 * 0.03 / a.numel() ** 0.5
        assert layer.get_parameter("lora_b").eq(0).all()
    assert [tuple(convolution.get_parameter(name).shape) for name in ("lora_a", "lora_b")] == [(20, 4, 5, 5), (8, 20, 1, 1)]
    assert embedding.get_parameter("lora_a").eq(0).all()
    b = embedding.get_parameter("lora_b").detach()
    assert b.shape == (400, 20)
    assert abs(b.std().item() - 1) < 5 / (2 * b.numel()) ** 0.5


def test_the_inputs_of_a_are_dropped_in_training_alone() -> None:
    layer = nn.Linear(4, 3, bias=False)
    attach_(layer, Adapter(rank=2, scaling=1.0, dropout=0.5), Rng(0))
    nn.init.ones_(layer.get_parameter("lora_b"))
    inputs = torch.ones(5, 4)
    with seeded_defaults(3):
        noisy = layer(inputs)
    with seeded_defaults(3):
        expected = F.dropout(inputs, 0.5) @ layer.get_parameter("lora_a").T @ layer.get_parameter("lora_b").T
    torch.testing.assert_close(noisy, inputs @ layer.weight.T + expected)
    layer.eval()
    assert torch.equal(layer(inputs)[0], layer(inputs)[1])


def test_every_weight_of_the_model_keeps_its_bits_and_the_adapters_move() -> None:
    for techniques in ([Lora(rank=2)], [Lora(rank=2), Dropout(probability=0.2, insert="after_activations")]):
        for memory in ("flat", "tensors"):
            model = net()
            before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            steps(model, techniques, 5, memory=memory)
            after = model.state_dict()
            moved = {name for name in before if not torch.equal(before[name], after[name])}
            assert moved == {"5.weight", "5.bias"}
            assert all(after[f"{layer}.lora_b"].abs().max() > 0.01 for layer in (0, 3))


def test_the_first_forward_has_the_bits_of_the_given_model() -> None:
    inputs = batch(0).inputs
    plain = net().eval()(inputs)
    assert torch.equal(Lora(rank=3)(net(), Rng(4)).eval()(inputs), plain)


def test_batch_norms_of_the_frozen_part_keep_their_statistics_in_training_and_those_of_trained_parts_do_not() -> None:
    held, free = net(), net()
    steps(held, [Lora(rank=1)], 2)
    steps(free, [Lora(rank=1, train_also=["1"])], 2)
    assert held.state_dict()["1.running_mean"].eq(0).all()
    assert not free.state_dict()["1.running_mean"].eq(0).any()


def test_a_resumed_run_has_the_bits_of_the_whole_one() -> None:
    whole, first, second = (steps(net(), [Lora(rank=2, dropout=0.3)], 0) for _ in range(3))
    for number in range(6):
        whole(batch(number))
    for number in range(3):
        first(batch(number))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for number in range(3, 6):
        second(batch(number))
    ours, theirs = whole.model.state_dict(), second.model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_copied_model_has_adapters_that_work_and_can_be_merged() -> None:
    model = Lora(rank=2)(net(), Rng(0))
    for layer in adapted_layers(model).values():
        nn.init.ones_(layer.get_parameter("lora_b"))
    model.eval()
    twin, inputs = copy.deepcopy(model), batch(0).inputs
    assert torch.equal(model(inputs), twin(inputs))
    for layer in adapted_layers(twin).values():
        merge_(layer)
    torch.testing.assert_close(model(inputs), twin(inputs), rtol=0, atol=1e-5)
    assert list(adapted_layers(model)) == ["0", "3"]


def test_draws_of_a_layer_follow_from_the_seed_and_its_name() -> None:
    one, same, other = (Lora(rank=2)(net(), Rng(seed)) for seed in (1, 1, 2))
    part = Lora(rank=2, targets=["3"])(net(), Rng(1))
    assert torch.equal(one[3].lora_a, same[3].lora_a)
    assert torch.equal(one[3].lora_a, part[3].lora_a)
    assert not torch.equal(one[3].lora_a, other[3].lora_a)
    assert not torch.equal(one[3].lora_a[:, :4], one[0].lora_a)


def test_what_trains_is_the_adapters_and_the_head_unless_told() -> None:
    def trained(**settings: Any) -> set[str]:
        model = Lora(rank=1, **settings)(net(), Rng(0))
        return {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    adapters = {"0.lora_a", "0.lora_b", "3.lora_a", "3.lora_b"}
    assert trained() == adapters | {"5.weight", "5.bias"}
    assert trained(train_also=[]) == adapters
    assert trained(train_also=["1", "3.bias"]) == adapters | {"1.weight", "1.bias", "3.bias"}
    assert trained(targets=["5"]) == {"5.lora_a", "5.lora_b"}
    assert trained(targets=["[03]*", "5"]) == adapters | {"5.lora_a", "5.lora_b"}


def test_scaling_is_alpha_over_rank() -> None:
    model = Lora(rank=4, alpha=10.0, dropout=0.1)(net(), Rng(0))
    assert adapter_of(model[0]) == Adapter(rank=4, scaling=2.5, dropout=0.1)
    assert (Lora().rank, Lora().alpha, Lora().dropout) == (8, 32.0, 0.05)


def test_the_share_that_trains_is_counted_and_reported() -> None:
    model = Lora(rank=1)(net(), Rng(0))
    # 4*6+6 + 12 + 6*5+5 + 5*2+2 = 89 of the model's own, (4 + 6) + (6 + 5) in adapters, 12 of the head train.
    share = trainable_share(model)
    assert (share.trainable, share.total) == (33, 110)
    assert share.percent == pytest.approx(30.0)
    assert Lora().report(model) == "lora adapts 2 layers: 33 of 110 parameters train (30 %)"
    assert trainable_share(nn.ReLU()).percent == 0.0


def test_a_tied_transformer_has_no_head_and_its_embedding_is_refused() -> None:
    signature = Signature("tokens", (8,), 11, vocab_size=11)
    tied = build("transformer", signature, {"num_layers": 1, "width": 8}, seed=0)
    assert list(lora_targets(tied, None)) == [
        "blocks.0.attention.branch.1.mix",
        "blocks.0.attention.branch.1.project",
        "blocks.0.feed_forward.branch.1",
        "blocks.0.feed_forward.branch.4",
    ]
    with pytest.raises(JobError, match="covers 'embedding', whose weight is also used without calling the layer"):
        Lora(targets=["embedding"])(tied, Rng(0))
    separate = build("transformer", signature, {"num_layers": 1, "width": 8, "embeddings": "separate"}, seed=0)
    assert "head" not in lora_targets(separate, None)


def test_layers_that_are_not_called_or_share_their_weight_are_left_out_or_refused() -> None:
    attention = nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 4), nn.Linear(4, 2))
    assert list(lora_targets(attention, None)) == ["1"]
    with pytest.raises(JobError, match=r"covers '0.out_proj'"):
        Lora(targets=["0"])(attention, Rng(0))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    tied[1].weight = tied[0].weight
    assert list(lora_targets(tied, None)) == ["2"]


def test_a_torch_encoder_layer_sees_its_adapters_in_evaluation_too() -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 2))
    Lora(rank=2, targets=["0.linear*"])(model, Rng(0))
    model.eval()
    inputs = torch.randn(2, 5, 8)
    with torch.no_grad():
        before = model(inputs)
        nn.init.ones_(model[0].linear1.lora_b)
        assert not torch.allclose(model(inputs), before)


@pytest.mark.parametrize(
    ("targets", "message", "fix"),
    [
        (["1.weigth"], r"lora.targets has '1.weigth', which covers no layer", "Known: 0.q_proj, 1"),
        (["q_proj"], r"lora.targets has 'q_proj'", r"Write '*.q_proj'"),
        (["0.norm"], r"lora.targets has '0.norm'", "Known"),
    ],
)
def test_targets_that_cover_nothing_are_refused_with_names(targets: list[str], message: str, fix: str) -> None:
    model = nn.Sequential(nn.ModuleDict({"q_proj": nn.Linear(2, 2), "norm": nn.LayerNorm(2)}), nn.Linear(2, 2))
    with pytest.raises(JobError, match=message) as refusal:
        Lora(targets=targets)(model, Rng(0))
    assert fix in refusal.value.fix


def test_a_model_with_a_head_alone_is_refused() -> None:
    with pytest.raises(JobError, match="lora found no linear layer but the head") as refusal:
        Lora()(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)), Rng(0))
    assert "Known: 0, 2" in refusal.value.fix


def test_a_layer_named_to_be_adapted_and_trained_whole_is_refused() -> None:
    with pytest.raises(JobError, match=r"lora.train_also is \['0'\]"):
        Lora(rank=2, train_also=["0"])(net(), Rng(0))


def test_what_is_to_train_also_must_exist() -> None:
    with pytest.raises(JobError, match=r"lora.train_also has 'haed'"):
        Lora(rank=2, train_also=["haed"])(net(), Rng(0))


def test_grouped_convolutions_and_second_adapters_are_refused() -> None:
    with pytest.raises(JobError, match="Conv2d with 2 groups"):
        attach_(nn.Conv2d(2, 2, 3, groups=2), Adapter(1, 1.0), Rng(0))
    model = Lora(rank=2)(net(), Rng(0))
    with pytest.raises(JobError, match="has an adapter already"):
        Lora(rank=2)(model, Rng(0))
    detach_(model[0])
    assert list(adapted_layers(model)) == ["3"]


@pytest.mark.parametrize(
    ("layer", "size", "largest"),
    [
        (nn.Linear(4, 6), "6 x 4", 4),
        (nn.Linear(6, 4), "4 x 6", 4),
        (nn.Conv2d(2, 5, 3), "5 x 18", 5),  # A sees 2 * 3 * 3 numbers
        (nn.Conv1d(1, 9, 2), "9 x 2", 2),
        (nn.Embedding(7, 3), "7 x 3", 3),
    ],
    ids=str,
)
def test_a_rank_above_a_layer_s_smaller_side_is_refused_and_the_smaller_side_is_not(
    layer: nn.Module, size: str, largest: int
) -> None:
    model = nn.Sequential(nn.Linear(20, 20), layer, nn.Linear(2, 2))
    with pytest.raises(JobError, match=f"^lora.rank is {largest + 1}, but the weight of '1' is {size}; ") as refusal:
        Lora(rank=largest + 1, targets=["0", "1"])(model, Rng(0))
    assert refusal.value.expected.startswith(f"a rank of at most {largest}, ")
    assert not adapted_layers(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    Lora(rank=largest, targets=["0", "1"])(model, Rng(0))
    assert list(adapted_layers(model)) == ["0", "1"]


def test_a_rank_above_several_layers_names_the_smallest_and_counts_the_others() -> None:
    with pytest.raises(JobError, match=r"^lora.rank is 8, but the weight of '0' is 6 x 4, and 1 more of the chosen layers"):
        Lora()(net(), Rng(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 0},
        {"rank": 1.5},
        {"alpha": 0.0},
        {"alpha": 1e7},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"targets": []},
        {"targets": "0"},
        {"targets": [1]},
        {"train_also": "0"},
        {"train_also": [1]},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"lora.{next(iter(settings))} is"):
        Lora(**settings)


def test_the_ends_of_the_ranges_are_accepted() -> None:
    assert Lora(rank=1, alpha=1e6, dropout=0.0, train_also=[]).rank == 1
    assert Lora(alpha=1e-3).alpha == 1e-3
