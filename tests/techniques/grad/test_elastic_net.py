"""The elastic net: autograd of the penalty as oracle, the two penalties one after the other, once per step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.updates.gradients import Gradients
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import L1Penalty, L2Penalty, Mse, Sgd
from stepwell.techniques.grad.elastic_net import ElasticNet, add_elastic_net_


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters() -> list[nn.Parameter]:
    made = [
        nn.Parameter(draws(4, 3)),
        nn.Parameter(draws(3, seed=1)),
        nn.Parameter(draws(2, 2, 2, seed=2)),
        nn.Parameter(draws(2)),
    ]
    for parameter in made[:-1]:
        parameter.grad = torch.ones_like(parameter)
    return made


def grads(made: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in made if parameter.grad is not None]


def test_two_weights_worked_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    weight.grad = torch.tensor([[1.0, 1.0]])
    # 0.5 * (2 + 3) + 2 / 2 * (4 + 9); slopes 0.5 * sign + 2 * p.
    assert ElasticNet(l1=0.5, l2=2.0)([weight])["penalty"].item() == 15.5
    assert weight.grad.tolist() == [[5.5, -5.5]]


@pytest.mark.parametrize("apply_to", ["matrices", "all"])
def test_penalty_and_gradient_are_those_of_autograd(apply_to: Any) -> None:
    made = parameters()
    chosen = [p for p in made[:-1] if apply_to == "all" or p.ndim >= 2]
    penalty = sum(0.3 * p.abs().sum() + 0.7 / 2 * p.square().sum() for p in chosen)
    assert isinstance(penalty, Tensor)
    expected = [torch.ones_like(p) for p in made[:-1]]
    for parameter, slope in zip(chosen, torch.autograd.grad(penalty, chosen)):
        expected[[p is parameter for p in made].index(True)] += slope
    found = ElasticNet(l1=0.3, l2=0.7, apply_to=apply_to)(made)["penalty"]
    torch.testing.assert_close(found, penalty.detach())
    for mine, other in zip(grads(made), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_it_is_the_two_penalties_one_after_the_other() -> None:
    both, one = parameters(), parameters()
    sum_ = sum(technique(one)["penalty"] for technique in (L1Penalty(weight=0.3), L2Penalty(weight=0.7)))
    torch.testing.assert_close(ElasticNet(l1=0.3, l2=0.7)(both)["penalty"], sum_)
    assert all(torch.equal(mine, other) for mine, other in zip(grads(both), grads(one), strict=True))


@pytest.mark.parametrize(("l1", "l2", "alone"), [(0.3, 0.0, L1Penalty(weight=0.3)), (0.0, 0.7, L2Penalty(weight=0.7))])
def test_a_strength_of_zero_leaves_the_other_penalty_alone(l1: float, l2: float, alone: Any) -> None:
    both, one = parameters(), parameters()
    torch.testing.assert_close(ElasticNet(l1=l1, l2=l2)(both)["penalty"], alone(one)["penalty"])
    assert all(torch.equal(mine, other) for mine, other in zip(grads(both), grads(one), strict=True))


def test_two_strengths_of_zero_keep_every_bit_of_the_gradient_down_to_the_sign_of_zero() -> None:
    weight = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    weight.grad = torch.tensor([[-0.0, 1.0]])
    assert ElasticNet(l1=0.0, l2=0.0)([weight])["penalty"].item() == 0
    assert torch.signbit(weight.grad).tolist() == [[True, False]]


@pytest.mark.parametrize("sizes", [None, 4, [1, 2, 5]])
def test_it_is_added_once_per_step_however_the_batch_is_cut(sizes: Any) -> None:
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    weight, batch = model.weight.detach().clone(), Batch(draws(8, 3), draws(8, seed=1))
    step = TrainStep(
        model,
        objective=Mse(),
        optimizer=Sgd(lr=0.1, momentum=0.0),
        techniques=[ElasticNet(l1=0.5, l2=0.25)],
        execution=Execution(micro_batch_size=sizes),
    )
    report = step(batch)
    slope = 2 * (batch.inputs @ weight[0] - batch.targets) @ batch.inputs / 8
    expected = weight[0] - 0.1 * (slope + 0.5 * weight[0].sign() + 0.25 * weight[0])
    torch.testing.assert_close(step.model.weight.detach()[0], expected, rtol=1e-10, atol=0)
    assert report.measured["elastic_net.penalty"].item() == pytest.approx(0.5 * 3.5 + 0.125 * 5.25)
    torch.testing.assert_close(report.loss, (batch.inputs @ weight[0] - batch.targets).square().mean())


def test_the_defaults_are_the_usual_strengths_with_the_half_taken_into_account() -> None:
    # lambda_1 = 1e-5 and lambda_2 = 1e-4 of a penalty without the half.
    assert ElasticNet() == ElasticNet(l1=1e-5, l2=2e-4, apply_to="matrices")
    weight = nn.Parameter(torch.tensor([2.0]))
    weight.grad = torch.zeros(1)
    assert add_elastic_net_([weight], l1=1e-5, l2=2e-4).item() == pytest.approx(1e-5 * 2 + 1e-4 * 4)


def test_the_norm_is_measured_anew_afterwards() -> None:
    made = parameters()
    gradients = Gradients.of(made)
    before = gradients.norm().item()
    add_elastic_net_(gradients, l1=1.0, l2=0.0)
    assert gradients.norm().item() != before


@pytest.mark.parametrize("value", [-1e-9, math.nan])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_negative_strength_is_refused(name: str, value: float) -> None:
    with pytest.raises(JobError, match=rf"^elastic_net\.{name} is"):
        ElasticNet(**{name: value})  # type: ignore[arg-type]


def test_an_unknown_reach_is_refused() -> None:
    with pytest.raises(JobError, match=r"^elastic_net\.apply_to is 'biases'"):
        ElasticNet(apply_to="biases")  # type: ignore[arg-type]


def test_no_gradient_at_all_measures_zero() -> None:
    assert ElasticNet()([nn.Parameter(torch.ones(2, 2))])["penalty"].item() == 0
