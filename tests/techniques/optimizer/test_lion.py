"""Lion by hand, and against its algorithm in plain Python numbers."""

from __future__ import annotations

import pytest
import torch
from rule_checks import SHAPES, largest_difference, parameters, tensors, trained
from torch import Tensor, nn

from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.techniques import AdamW, Lion, lion_


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_two_steps_by_hand() -> None:
    w, m = one(1.0), one(0.5)
    lion_([w], [one(-4.0)], [m], lr=0.1, weight_decay=0.5)
    # c = 0.9 * 0.5 - 0.1 * 4 = 0.05 > 0: w = 1 - 0.1 * (1 + 0.5 * 1); m = 0.99 * 0.5 - 0.01 * 4.
    assert (float(w), float(m)) == pytest.approx((0.85, 0.455), abs=1e-14)
    lion_([w], [one(-5.0)], [m], lr=0.1, weight_decay=0.5)
    # c = 0.9 * 0.455 - 0.5 < 0: w = 0.85 + 0.1 * (1 - 0.5 * 0.85); m = 0.99 * 0.455 - 0.05.
    assert (float(w), float(m)) == pytest.approx((0.9075, 0.40045), abs=1e-14)


def test_where_direction_and_decay_are_0_nothing_moves() -> None:
    w, m = one(1.0), one(0.0)
    lion_([w], [one(0.0)], [m], lr=0.1)
    assert (float(w), float(m)) == (1.0, 0.0)


def by_algorithm(num_steps: int, *, lr: float, betas: tuple[float, float], weight_decay: float) -> list[Tensor]:
    """Algorithm 2 of arXiv:2302.06675, one number at a time."""
    weights = [[float(x) for x in p.detach().reshape(-1)] for p in parameters()]
    momenta = [[0.0] * len(row) for row in weights]
    for count in range(num_steps):
        for row, momentum, gradient in zip(weights, momenta, tensors(SHAPES, 100 + count)):
            for i, g in enumerate(gradient.reshape(-1).tolist()):
                update = betas[0] * momentum[i] + (1 - betas[0]) * g
                sign = (update > 0) - (update < 0)
                row[i] -= lr * (sign + weight_decay * row[i])
                momentum[i] = betas[1] * momentum[i] + (1 - betas[1]) * g
    return [torch.tensor(row, dtype=torch.float64).view(shape) for row, shape in zip(weights, SHAPES)]


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.95, 0.98), (0.0, 0.5)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_fifty_steps_follow_the_algorithm(betas: tuple[float, float], weight_decay: float) -> None:
    ours = trained(lambda p: Lion(p, lr=0.01, betas=betas, weight_decay=weight_decay), torch.float64)
    assert largest_difference(ours, by_algorithm(50, lr=0.01, betas=betas, weight_decay=weight_decay)) <= 1e-12


def test_its_state_is_half_of_adamws() -> None:
    def num_values(kind: type[Lion] | type[AdamW]) -> int:
        weight = nn.Parameter(torch.ones(10, 10))
        optimizer = kind([weight])
        weight.grad = torch.ones(10, 10)
        optimizer.step()  # type: ignore[attr-defined]
        state = optimizer.state[weight]  # type: ignore[attr-defined]
        return sum(tensor.numel() for name, tensor in state.items() if name != "step")

    assert (num_values(Lion), num_values(AdamW)) == (100, 200)


def test_defaults_and_tags() -> None:
    group = Lion([nn.Parameter(torch.ones(1))]).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.99), 0.0)
    assert lookup("lion").provides == ("momentum", "decoupled_decay")


@pytest.mark.parametrize("settings", [{"lr": -1e-9}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"weight_decay": -1e-9}])
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=rf"^lion\.{next(iter(settings))} is ") as caught:
        Lion(**settings)  # type: ignore[arg-type]
    assert caught.value.fix.startswith("Try ")


def test_values_at_the_ends_of_their_range_are_taken() -> None:
    assert Lion(lr=0.0, betas=(0.0, 0.0), weight_decay=0.0).lr == 0.0
