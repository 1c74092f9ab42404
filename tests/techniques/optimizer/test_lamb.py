"""LAMB by hand, and against its algorithm in plain Python numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from rule_checks import SHAPES, largest_difference, parameters, tensors, trained
from torch import Tensor, nn

from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.techniques import AdamW, Lamb, lamb_
from stepwell.techniques.optimizer.lamb import _descend_by_tensors_


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def stepped(w: Tensor, gradients: list[Tensor], **settings: Any) -> Tensor:
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for count, g in enumerate(gradients, start=1):
        lamb_([w], [g], [m], [v], [torch.tensor(float(count))], **{"eps": 1e-14, **settings})
    return w


def test_the_first_step_by_hand() -> None:
    w = stepped(row(3.0, 4.0), [row(9.0, -9.0)], lr=0.2, weight_decay=0.1)
    # The moments' quotient is [1, -1]; u = [1.3, -0.6]; |w| = 5, |u| = sqrt(2.05).
    rate = 0.2 * 5 / math.sqrt(2.05)
    torch.testing.assert_close(w, row(3 - rate * 1.3, 4 + rate * 0.6), rtol=0, atol=1e-12)


def test_the_second_step_by_hand() -> None:
    w = stepped(row(3.0, 4.0), [row(9.0, -9.0), row(-9.0, -9.0)], lr=0.2, betas=(0.5, 0.75), weight_decay=0.0)
    # First: u = [1, -1], trust = 5 / sqrt(2). Then m = [4.5, -4.5] / 2 + [-4.5, -4.5] = [-2.25, -6.75], over 0.75: [-3, -9];
    # v / (1 - 0.75^2) = 81: u = [-1/3, -1].
    first = (3 - 1 / math.sqrt(2), 4 + 1 / math.sqrt(2))
    rate = 0.2 * math.hypot(*first) / math.hypot(1 / 3, 1)
    torch.testing.assert_close(w, row(first[0] + rate / 3, first[1] + rate), rtol=0, atol=1e-12)


def test_the_ratio_has_an_upper_bound_only_where_one_is_set() -> None:
    moved = [
        float(3 - stepped(row(3.0, 4.0), [row(9.0, -9.0)], lr=0.1, weight_decay=0.0, max_trust=bound)[0, 0])
        for bound in (None, 2.0, 10.0)
    ]
    assert moved == pytest.approx([0.5 / math.sqrt(2), 0.2, 0.5 / math.sqrt(2)])


def test_the_ratio_is_1_where_weights_or_update_are_0() -> None:
    assert stepped(row(0.0, 0.0), [row(9.0, -9.0)], lr=0.1)[0].tolist() == pytest.approx([-0.1, 0.1])
    assert stepped(row(3.0, 4.0), [row(0.0, 0.0)], lr=0.1, weight_decay=0.0).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(("bound", "ratio"), [(None, 5 / math.sqrt(2.05)), (2.0, 2.0), (10.0, 5 / math.sqrt(2.05))])
def test_the_way_of_accelerators_gives_the_hand_numbers_too(bound: float | None, ratio: float) -> None:
    w, other = row(3.0, 4.0), row(0.0, 0.0)
    gradients, m, v = [row(9.0, -9.0), row(4.0, -4.0)], [row(0.0, 0.0)] * 2, [row(0.0, 0.0)] * 2
    lists = ([w, other], gradients, [each.clone() for each in m], [each.clone() for each in v], [torch.tensor(1.0)] * 2)
    moments = {"betas": (0.9, 0.999), "eps": 1e-14, "skip": None}
    _descend_by_tensors_(*lists, lr=0.2, decay=0.1, max_trust=bound, moments=moments)
    # As in the first step above; weights of 0 move by the rate itself.
    torch.testing.assert_close(w, row(3 - 0.2 * ratio * 1.3, 4 + 0.2 * ratio * 0.6), rtol=0, atol=1e-12)
    torch.testing.assert_close(other, row(-0.2, 0.2), rtol=0, atol=1e-12)


def test_eps_is_outside_the_root() -> None:
    w = stepped(torch.zeros(1, 1, dtype=torch.float64), [row(4.0)], lr=1.0, eps=4.0, weight_decay=0.0)
    assert float(w) == pytest.approx(-0.5, abs=1e-12)


def by_algorithm(num_steps: int, *, lr: float, betas: tuple[float, float], weight_decay: float, bound: float) -> list[Tensor]:
    """Algorithm 2 of arXiv:1904.00962, one number at a time; biases move without a ratio."""
    weights = [[float(x) for x in p.detach().reshape(-1)] for p in parameters()]
    means, squares = ([[0.0] * len(each) for each in weights] for _ in range(2))
    for count in range(1, num_steps + 1):
        for layer, gradient in enumerate(tensors(SHAPES, 99 + count)):
            w, m, v, update = weights[layer], means[layer], squares[layer], []
            for i, g in enumerate(gradient.reshape(-1).tolist()):
                m[i] = betas[0] * m[i] + (1 - betas[0]) * g
                v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
                corrected = (m[i] / (1 - betas[0] ** count)) / (math.sqrt(v[i] / (1 - betas[1] ** count)) + 1e-6)
                update.append(corrected + weight_decay * w[i])
            trust = 1.0
            if len(SHAPES[layer]) > 1:
                trust = min(bound, math.sqrt(sum(x * x for x in w)) / math.sqrt(sum(x * x for x in update)))
            for i, change in enumerate(update):
                w[i] -= lr * trust * change
    return [torch.tensor(each, dtype=torch.float64).view(shape) for each, shape in zip(weights, SHAPES)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("bound", [None, 0.8])
def test_fifty_steps_follow_the_algorithm(weight_decay: float, bound: float | None) -> None:
    settings: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": weight_decay}
    ours = trained(lambda p: Lamb(p, max_trust=bound, **settings), torch.float64)
    assert largest_difference(ours, by_algorithm(50, bound=bound or math.inf, **settings)) <= 1e-12


def test_without_adaptation_it_is_adamw() -> None:
    ours = trained(lambda p: Lamb(p, lr=0.02, weight_decay=0.1, eps=1e-8, adapt="none"), torch.float64)
    assert largest_difference(ours, trained(lambda p: AdamW(p, lr=0.02, weight_decay=0.1), torch.float64)) <= 1e-12


def test_a_bias_has_a_ratio_only_where_all_adapt() -> None:
    moved = {}
    for adapt in ("matrices", "all", "none"):
        w = torch.tensor([3.0, 4.0], dtype=torch.float64)
        g = torch.tensor([9.0, -9.0], dtype=torch.float64)
        moved[adapt] = float(3 - stepped(w, [g], lr=0.1, weight_decay=0.0, adapt=adapt)[0])
    assert moved == pytest.approx({"matrices": 0.1, "none": 0.1, "all": 0.5 / math.sqrt(2)})


def test_tensors_that_a_group_exempts_from_decay_have_no_trust_ratio_either() -> None:
    weights = [nn.Parameter(torch.tensor([[3.0, 4.0]])) for _ in range(2)]
    optimizer = Lamb([{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0}], lr=0.1, weight_decay=1e-9)
    for weight in weights:
        weight.grad = torch.tensor([[9.0, -9.0]])
    optimizer.step()
    assert [float(3 - weight.detach()[0, 0]) for weight in weights] == pytest.approx([0.5 / math.sqrt(2), 0.1], rel=1e-5)


def test_defaults_and_tags() -> None:
    group = Lamb([nn.Parameter(torch.ones(1))]).param_groups[0]
    names = ("lr", "betas", "eps", "weight_decay", "max_trust", "adapt")
    assert [group[name] for name in names] == [2e-3, (0.9, 0.999), 1e-6, 0.01, None, "matrices"]
    assert lookup("lamb").provides == ("momentum", "decoupled_decay", "adaptive", "layerwise_trust")


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1e-9},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": 0.0},
        {"weight_decay": -1e-9},
        {"max_trust": 0.0},
        {"adapt": "x"},
    ],
)
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=rf"^lamb\.{next(iter(settings))} is "):
        Lamb(**settings)  # type: ignore[arg-type]


def test_values_at_the_ends_of_their_range_are_taken() -> None:
    assert Lamb(lr=0.0, betas=(0.0, 0.0), weight_decay=0.0, max_trust=1e-9, adapt="all").lr == 0.0
