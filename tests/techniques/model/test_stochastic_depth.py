"""Stochastic depth: branches of residual blocks are left out sample by sample, deeper ones more often."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Clock
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng, seeded_defaults
from stepwell.core.signature import Signature
from stepwell.engine.train_step import TrainStep
from stepwell.models import build
from stepwell.models.parts import Residual
from stepwell.techniques import Sgd
from stepwell.techniques.model.stochastic_depth import StochasticDepth, depth_probabilities, drop_branch
from stepwell.techniques.objective.mse import Mse


def net(num_blocks: int = 3) -> nn.Sequential:
    with seeded_defaults(0):
        return nn.Sequential(*(Residual(nn.Linear(4, 4)) for _ in range(num_blocks)), nn.Linear(4, 2))


def test_survival_falls_linearly_with_depth_as_in_the_paper() -> None:
    # Figure 2 of the paper: p_0 = 1, p_L = 0.5; block l of L survives with 1 - l / L * 0.5.
    assert depth_probabilities(0.5, 54)[53] == 0.5
    assert depth_probabilities(0.5, 54)[26] == pytest.approx(27 / 54 * 0.5)
    assert depth_probabilities(0.6, 3) == pytest.approx([0.2, 0.4, 0.6])
    assert depth_probabilities(0.6, 3, "uniform") == [0.6] * 3


def test_whole_samples_are_dropped_and_the_others_scaled() -> None:
    num, probability = 20_000, 0.25
    with seeded_defaults(4):
        outputs = drop_branch(torch.ones(num, 3, 2), probability)
    assert torch.equal(outputs, outputs[:, :1, :1].expand_as(outputs))
    assert sorted(outputs.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    share = (outputs[:, 0, 0] == 0).double().mean().item()
    assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / num)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_type_is_kept_and_vectors_are_taken(dtype: torch.dtype) -> None:
    outputs = drop_branch(torch.ones(64, dtype=dtype), 0.5)
    assert outputs.dtype == dtype
    assert set(outputs.tolist()) == {0.0, 2.0}


def test_each_block_has_its_own_probability_and_its_own_draws() -> None:
    num = 20_000
    model = StochasticDepth(probability=0.6)(nn.Sequential(*(Residual(nn.Identity()) for _ in range(3))), Rng(0))
    seen: list[Tensor] = []
    for block in model:
        block.register_forward_hook(lambda module, args, outputs: seen.append(outputs - args[0]))
    with seeded_defaults(1):
        model(torch.ones(num, 1))
    gone = [(branch == 0).double() for branch in seen]
    for share, expected in zip([g.mean().item() for g in gone], (0.2, 0.4, 0.6)):
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / num)
    # Independent: both dropped with 0.4 * 0.6.
    assert abs((gone[1] * gone[2]).mean().item() - 0.24) < 5 * math.sqrt(0.24 * 0.76 / num)


def test_evaluation_uses_every_block_as_it_is() -> None:
    inputs = torch.randn(8, 4)
    model = StochasticDepth(probability=0.9)(net(), Rng(0)).eval()
    assert torch.equal(model(inputs), net()(inputs))
    assert not torch.equal(model.train()(inputs), net()(inputs))


def test_names_types_and_state_stay() -> None:
    model = StochasticDepth()(net(), Rng(0))
    assert list(model.state_dict()) == list(net().state_dict())
    assert [type(module) for module in model.modules()] == [type(module) for module in net().modules()]


def rates(model: nn.Module) -> list[float]:
    return [hook.probability for module in model.modules() for hook in module._forward_hooks.values()]


def test_a_copy_has_places_of_its_own_and_a_moved_probability_moves_them_all() -> None:
    technique = StochasticDepth(probability=0.3)
    model = technique(net(), Rng(0))
    twin = copy.deepcopy(model)
    assert replace(technique, probability=0.15).at(twin, Clock(), None) is False
    assert rates(model) == pytest.approx([0.1, 0.2, 0.3])
    assert rates(twin) == pytest.approx([0.05, 0.1, 0.15])
    assert technique.report(model) == "stochastic_depth drops the branches of 3 blocks at 0.1 to 0.3"


def test_applied_again_it_has_the_new_settings_and_no_second_place() -> None:
    model = StochasticDepth(probability=0.3)(net(), Rng(0))
    StochasticDepth(probability=0.2, decay="uniform")(model, Rng(0))
    assert rates(model) == [0.2, 0.2, 0.2]


def weights(techniques: list[Any]) -> Tensor:
    step = TrainStep(net(), objective=Mse(), optimizer=Sgd(lr=0.1), techniques=techniques, seed=3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(3):
        step(Batch(torch.randn(16, 4, generator=draw), torch.randn(16, 2, generator=draw)))
    return torch.cat([parameter.detach().flatten() for parameter in step.model.parameters()])


def test_probability_0_has_the_bits_of_a_run_without_it() -> None:
    assert torch.equal(weights([StochasticDepth(probability=0.0)]), weights([]))
    assert not torch.equal(weights([StochasticDepth(probability=0.5)]), weights([]))
    inputs, state = torch.ones(3), torch.default_generator.get_state()
    assert drop_branch(inputs, 0.0) is inputs
    assert torch.equal(torch.default_generator.get_state(), state)


def test_the_models_of_stepwell_have_blocks_to_drop() -> None:
    resnet = build("resnet", Signature("image", (1, 16, 16), 3), {"num_blocks": 2}, seed=0)
    transformer = build("transformer", Signature("tokens", (8,), 11, vocab_size=11), {"num_layers": 2, "width": 8}, seed=0)
    assert rates(StochasticDepth(probability=0.6)(resnet, Rng(0))) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert rates(StochasticDepth(probability=0.4)(transformer, Rng(0))) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    tokens = torch.zeros(4, 8, dtype=torch.int64)
    assert transformer(tokens).shape == (4, 8, 11)


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.first(inputs)
        return outputs


class WithBranch(Whole):
    def __init__(self) -> None:
        super().__init__()
        self.branch = self.first


def test_blocks_are_named_by_place_or_class_where_they_do_not_declare_themselves() -> None:
    model = nn.Sequential(WithBranch(), WithBranch(), nn.Linear(4, 2))
    assert rates(StochasticDepth(probability=0.4, patterns=["WithBranch"])(model, Rng(0))) == pytest.approx([0.2, 0.4])
    alone = nn.Sequential(WithBranch(), WithBranch(), nn.Linear(4, 2))
    assert rates(StochasticDepth(probability=0.4, patterns=["1"])(alone, Rng(0))) == [0.4]


def test_a_block_whose_branch_is_no_module_is_refused() -> None:
    with pytest.raises(JobError, match=r"can't tell the branch of 0 \(Whole\) from the rest") as refusal:
        StochasticDepth(patterns=["Whole"])(nn.Sequential(Whole(), nn.Linear(4, 2)), Rng(0))
    assert "self.branch" in refusal.value.fix


def test_a_model_without_residual_blocks_is_refused() -> None:
    with pytest.raises(JobError, match="no residual block"):
        StochasticDepth()(nn.Linear(2, 2), Rng(0))
    with pytest.raises(JobError, match=r"stochastic_depth.patterns has 'Blok'"):
        StochasticDepth(patterns=["Blok"])(net(), Rng(0))


@pytest.mark.parametrize(
    "settings", [{"probability": 1.0}, {"probability": -0.1}, {"decay": "no"}, {"patterns": "x"}, {"patterns": []}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"stochastic_depth.{next(iter(settings))} is"):
        StochasticDepth(**settings)
