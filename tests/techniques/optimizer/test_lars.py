"""LARS by hand, and against its algorithm in plain Python numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from rule_checks import SHAPES, largest_difference, parameters, tensors, trained
from torch import Tensor, nn

from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.techniques import Lars, Sgd, lars_
from stepwell.techniques.optimizer.lars import _descend_by_tensors_


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_two_steps_by_hand_the_second_without_a_gradient() -> None:
    w, b = row(3.0, 4.0), row(0.0, 0.0)
    settings = {"lr": 2.0, "momentum": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.1}
    lars_([w], [row(0.0, 2.0)], [b], **settings)  # type: ignore[arg-type]
    # trust = 0.1 * 5 / (2 + 0.1 * 5) = 0.2; g = [0.3, 2.4]; b = 2 * 0.2 * g; w = w - b.
    torch.testing.assert_close(b, row(0.12, 0.96), rtol=0, atol=1e-15)
    torch.testing.assert_close(w, row(2.88, 3.04), rtol=0, atol=1e-15)
    lars_([w], [row(0.0, 0.0)], [b], **settings)  # type: ignore[arg-type]
    # |g| = 0, so trust = 1: b = 0.5 * b + 2 * [0.288, 0.304].
    torch.testing.assert_close(b, row(0.636, 1.088), rtol=0, atol=1e-15)
    torch.testing.assert_close(w, row(2.244, 1.952), rtol=0, atol=1e-15)


def test_a_weight_of_0_moves_at_the_plain_rate() -> None:
    w, b = row(0.0, 0.0), row(0.0, 0.0)
    lars_([w], [row(3.0, 4.0)], [b], lr=0.5, momentum=0.0)
    assert w.tolist() == [[-1.5, -2.0]]
    assert b.tolist() == [[0.0, 0.0]]


def test_a_bias_moves_at_the_plain_rate_unless_all_adapt() -> None:
    moved = {}
    for adapt in ("matrices", "all", "none"):
        w, b = torch.tensor([3.0, 4.0]), torch.zeros(2)
        lars_([w], [torch.tensor([0.0, 2.0])], [b], lr=1.0, trust_coefficient=0.1, adapt=adapt)  # type: ignore[arg-type]
        moved[adapt] = w.tolist()
    assert moved == {"matrices": [3.0, 2.0], "none": [3.0, 2.0], "all": [3.0, 3.5]}
    w = torch.tensor([[3.0, 4.0]])
    lars_([w], [torch.tensor([[0.0, 2.0]])], [torch.zeros(1, 2)], lr=1.0, trust_coefficient=0.1, adapt="none")
    assert w.tolist() == [[3.0, 2.0]]


def by_algorithm(num_steps: int, *, momentum: float, weight_decay: float, eta: float) -> list[Tensor]:
    """Algorithm 1 of arXiv:1708.03888, one number at a time; the rate falls, and stands inside the buffer."""
    weights = [[float(x) for x in p.detach().reshape(-1)] for p in parameters()]
    velocities = [[0.0] * len(each) for each in weights]
    for count in range(num_steps):
        rate = 2.0 / (1 + count)
        for layer, gradient in enumerate(tensors(SHAPES, 100 + count)):
            g, w, v = gradient.reshape(-1).tolist(), weights[layer], velocities[layer]
            local = 1.0
            if len(SHAPES[layer]) > 1:
                w_norm, g_norm = math.sqrt(sum(x * x for x in w)), math.sqrt(sum(x * x for x in g))
                local = eta * w_norm / (g_norm + weight_decay * w_norm)
            for i in range(len(w)):
                v[i] = momentum * v[i] + rate * local * (g[i] + weight_decay * w[i])
                w[i] -= v[i]
    return [torch.tensor(each, dtype=torch.float64).view(shape) for each, shape in zip(weights, SHAPES)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_fifty_steps_with_a_falling_rate_follow_the_algorithm(momentum: float, weight_decay: float) -> None:
    made = parameters()
    optimizer = Lars(made, momentum=momentum, weight_decay=weight_decay, trust_coefficient=0.02)
    for count in range(50):
        optimizer.param_groups[0]["lr"] = 2.0 / (1 + count)
        for parameter, gradient in zip(made, tensors(SHAPES, 100 + count)):
            parameter.grad = gradient
        optimizer.step()
    expected = by_algorithm(50, momentum=momentum, weight_decay=weight_decay, eta=0.02)
    assert largest_difference([p.detach() for p in made], expected) <= 1e-12


def test_without_adaptation_it_is_momentum_sgd() -> None:
    ours = trained(lambda p: Lars(p, lr=0.1, weight_decay=0.01, adapt="none"), torch.float64)
    assert largest_difference(ours, trained(lambda p: Sgd(p, lr=0.1, momentum=0.9, weight_decay=0.01), torch.float64)) <= 1e-12


def test_tensors_that_a_group_exempts_from_decay_have_no_trust_ratio_either() -> None:
    def moved(groups: list[dict[str, object]], **settings: object) -> list[float]:
        optimizer = Lars(groups, lr=1.0, momentum=0.0, trust_coefficient=0.1, **settings)
        for group in groups:
            weight: nn.Parameter = group["params"][0]  # type: ignore[index]
            weight.grad = torch.tensor([[0.0, 2.0]])
        optimizer.step()
        return [float(group["params"][0].detach()[0, 1]) for group in groups]  # type: ignore[index]

    def weight() -> nn.Parameter:
        return nn.Parameter(torch.tensor([[3.0, 4.0]]))

    # The first adapts: trust = 0.1 * 5 / (2 + 0.5) = 0.2 on g = 2.4. The second is exempt: the plain rate on g = 2.
    exempt = [{"params": [weight()]}, {"params": [weight()], "weight_decay": 0.0}]
    assert moved(exempt, weight_decay=0.1) == pytest.approx([4 - 0.2 * 2.4, 2.0])
    all_of_them = [{"params": [weight()]}, {"params": [weight()], "weight_decay": 0.0}]
    assert moved(all_of_them, weight_decay=0.1, adapt="all") == pytest.approx([4 - 0.2 * 2.4, 4 - 0.25 * 2])
    # Where nothing decays, nothing is exempt.
    assert moved([{"params": [weight()]}], weight_decay=0.0) == pytest.approx([4 - 0.25 * 2])


def test_defaults_and_tags() -> None:
    group = Lars([nn.Parameter(torch.ones(1))]).param_groups[0]
    names = ("lr", "momentum", "weight_decay", "trust_coefficient", "adapt")
    assert [group[name] for name in names] == [1.0, 0.9, 0.0, 1e-3, "matrices"]
    assert lookup("lars").provides == ("momentum", "l2_decay", "layerwise_trust")


@pytest.mark.parametrize(
    "settings",
    [{"lr": -1e-9}, {"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1e-9}, {"trust_coefficient": -1e-9}, {"adapt": "x"}],
)
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=rf"^lars\.{next(iter(settings))} is "):
        Lars(**settings)  # type: ignore[arg-type]


def test_values_at_the_ends_of_their_range_are_taken() -> None:
    assert Lars(lr=0.0, momentum=0.0, weight_decay=0.0, trust_coefficient=0.0, adapt="none").lr == 0.0


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_way_of_accelerators_gives_the_hand_numbers_too(momentum: float) -> None:
    w, other = (torch.tensor([values], dtype=torch.float64) for values in ([3.0, 4.0], [0.0, 0.0]))
    gradients = [torch.tensor([[0.0, 2.0]], dtype=torch.float64) for _ in range(2)]
    buffers = [torch.ones(1, 2, dtype=torch.float64) for _ in range(2)]
    settings: dict[str, Any] = {"momentum": momentum, "weight_decay": 0.1, "trust_coefficient": 0.1, "skip": None}
    _descend_by_tensors_([w, other], gradients, buffers, lr=0.5, **settings)
    # trust = 0.1 * 5 / (2 + 0.1 * 5) = 0.2; the step is 0.5 * 0.2 * ([0, 2] + 0.1 * [3, 4]). Weights of 0 have trust 1.
    assert w[0].tolist() == pytest.approx([3 - 0.03 - momentum, 4 - 0.24 - momentum], rel=1e-12)
    assert other[0].tolist() == pytest.approx([-momentum, -1 - momentum], rel=1e-12)
