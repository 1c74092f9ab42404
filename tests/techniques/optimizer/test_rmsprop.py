"""RMSprop by hand, and against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rule_checks import largest_difference, trained
from torch import Tensor, nn

from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.techniques import RMSprop, rmsprop_


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_two_steps_by_hand() -> None:
    w, v = one(1.0), one(0.0)
    rmsprop_([w], [one(2.0)], [v], lr=0.1, alpha=0.75, eps=1e-13)
    assert (float(w), float(v)) == pytest.approx((0.8, 1.0), abs=1e-12)  # v = 0.25 * 4; w = 1 - 0.1 * 2 / 1
    rmsprop_([w], [one(-3.0)], [v], lr=0.1, alpha=0.75, eps=1e-13)
    assert (float(w), float(v)) == pytest.approx((0.8 + 0.3 / 3**0.5, 3.0), abs=1e-12)  # v = 0.75 + 0.25 * 9


def test_momentum_sums_the_divided_gradients_with_the_rate_outside() -> None:
    w, v, b = one(1.0), one(0.0), one(0.0)
    for gradient, rate in ((2.0, 0.1), (1.0, 0.2)):
        rmsprop_([w], [one(gradient)], [v], lr=rate, alpha=0.75, eps=1e-13, momentum=0.5, momentum_buffers=[b])
    # b = 2 / 1, w = 1 - 0.1 * 2; then v = 0.75 + 0.25, b = 1 + 1, w = 0.8 - 0.2 * 2.
    assert (float(b), float(w)) == pytest.approx((2.0, 0.4), abs=1e-12)


def test_centered_divides_by_the_standard_deviation() -> None:
    w, v, a = one(1.0), one(0.0), one(0.0)
    rmsprop_([w], [one(2.0)], [v], lr=0.1, alpha=0.75, eps=1e-13, grad_avgs=[a])
    # v = 1, a = 0.5: w = 1 - 0.1 * 2 / sqrt(1 - 0.25).
    assert (float(a), float(w)) == pytest.approx((0.5, 1 - 0.2 / 0.75**0.5), abs=1e-12)


@pytest.mark.parametrize("kind", ["plain", "momentum", "centered"])
def test_eps_is_outside_the_root_and_the_decay_is_l2(kind: str) -> None:
    w, v = one(1.0), one(0.0)
    more: dict[str, Any] = {"momentum": {"momentum": 0.5, "momentum_buffers": [one(0.0)]}, "centered": {"grad_avgs": [one(0.0)]}}
    rmsprop_([w], [one(1.5)], [v], lr=0.1, alpha=0.75, eps=1.0, weight_decay=0.5, **more.get(kind, {}))
    deviation = 0.75**0.5 if kind == "centered" else 1.0  # g = 1.5 + 0.5 * 1 = 2, v = 1
    assert (float(w), float(v)) == pytest.approx((1 - 0.1 * 2 / (deviation + 1), 1.0), abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("centered", [False, True])
def test_fifty_steps_are_torchs(
    dtype: torch.dtype, tolerance: float, weight_decay: float, momentum: float, centered: bool
) -> None:
    settings = {"lr": 0.01, "alpha": 0.95, "momentum": momentum, "centered": centered, "weight_decay": weight_decay}
    ours = trained(lambda p: RMSprop(p, **settings), dtype)  # type: ignore[arg-type]
    theirs = trained(lambda p: torch.optim.RMSprop(p, eps=1e-8, foreach=False, **settings), dtype)  # type: ignore[arg-type]
    assert largest_difference(ours, theirs) <= tolerance


def test_centered_stays_finite_where_all_gradients_are_equal() -> None:
    weight = nn.Parameter(torch.linspace(-1, 1, 64))
    optimizer = RMSprop([weight], lr=1e-12, alpha=0.5, centered=True)
    for _ in range(200):
        weight.grad = torch.linspace(0.1, 1.7, 64)
        optimizer.step()
    assert bool(weight.isfinite().all())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["square_avg", "step"]),
        ({"momentum": 0.9}, ["momentum_buffer", "square_avg", "step"]),
        ({"centered": True}, ["grad_avg", "square_avg", "step"]),
    ],
)
def test_only_what_is_used_is_kept_as_state(settings: dict[str, Any], names: list[str]) -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = RMSprop([weight], **settings)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert sorted(optimizer.state[weight]) == names


def test_a_momentum_that_is_raised_from_0_later_is_refused_with_the_remedy() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = RMSprop([weight])
    weight.grad = torch.ones(2)
    optimizer.param_groups[0]["momentum"] = 0.5
    with pytest.raises(JobError, match=r"^rmsprop\.momentum became 0\.5") as caught:
        optimizer.step()
    assert caught.value.fix == "Set momentum: 0.9"


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_centered_step_leaves_the_gradients_as_they_are(weight_decay: float) -> None:
    g = one(2.0)
    rmsprop_([one(1.0)], [g], [one(1.0)], lr=0.1, weight_decay=weight_decay, grad_avgs=[one(0.5)])
    assert float(g) == 2.0


def test_defaults_and_tags() -> None:
    group = RMSprop([nn.Parameter(torch.ones(1))]).param_groups[0]
    names = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered")
    assert [group[name] for name in names] == [1e-3, 0.99, 1e-8, 0.0, 0.0, False]
    assert lookup("rmsprop").provides == ("momentum", "l2_decay", "adaptive")


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1e-9},
        {"alpha": 1.0},
        {"alpha": -1e-9},
        {"eps": 0.0},
        {"weight_decay": -1e-9},
        {"momentum": 1.0},
        {"momentum": -0.1},
    ],
)
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, float]) -> None:
    with pytest.raises(JobError, match=rf"^rmsprop\.{next(iter(settings))} is ") as caught:
        RMSprop(**settings)  # type: ignore[arg-type]
    assert caught.value.fix.startswith("Try ")


def test_values_at_the_ends_of_their_range_are_taken() -> None:
    assert RMSprop(lr=0.0, alpha=0.0, weight_decay=0.0, momentum=0.0).alpha == 0.0
