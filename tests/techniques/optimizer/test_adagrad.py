"""Adagrad by hand, and against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rule_checks import largest_difference, trained
from torch import nn

from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.core.updates.elementwise import ElementwiseOptimizer
from stepwell.techniques import Adagrad, adagrad_


def test_two_steps_by_hand() -> None:
    w, s = torch.tensor([1.0], dtype=torch.float64), torch.tensor([16.0], dtype=torch.float64)
    seen = []
    for count, gradient in enumerate((2.9, 11.93), start=1):
        g, t = torch.tensor([gradient], dtype=torch.float64), torch.tensor(float(count))
        adagrad_([w], [g], [s], [t], lr=0.5, lr_decay=1.0, eps=1e-13, weight_decay=0.1)
        seen.append((float(w), float(s)))
    # g = 2.9 + 0.1 = 3; s = 16 + 9; w = 1 - 0.5 * 3 / 5.
    assert seen[0] == pytest.approx((0.7, 25.0), abs=1e-12)
    # g = 11.93 + 0.07 = 12; s = 25 + 144; the rate is 0.5 / (1 + 1): w = 0.7 - 0.25 * 12 / 13.
    assert seen[1] == pytest.approx((0.7 - 3 / 13, 169.0), abs=1e-12)


def test_eps_is_outside_the_root() -> None:
    w, s = torch.tensor([1.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    adagrad_([w], [torch.full((1,), 4.0, dtype=torch.float64)], [s], [torch.tensor(1.0)], lr=1.0, eps=4.0)
    assert float(w) == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.1}, {"lr_decay": 0.2}])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_fifty_steps_are_torchs(dtype: torch.dtype, tolerance: float, more: dict[str, Any], start: float) -> None:
    ours = trained(lambda p: Adagrad(p, lr=0.1, initial_accumulator=start, **more), dtype)
    theirs = trained(
        lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-8, initial_accumulator_value=start, foreach=False, **more), dtype
    )
    assert largest_difference(ours, theirs) <= tolerance


@pytest.mark.parametrize("memory", ["flat", "tensors"])
def test_the_sum_starts_from_its_initial_value(memory: str) -> None:
    weight = nn.Parameter(torch.zeros(3))
    optimizer = Adagrad([weight], initial_accumulator=0.5)
    assert isinstance(optimizer, ElementwiseOptimizer)
    weight.grad = torch.ones(3)
    if memory == "flat":
        optimizer.lay_out()
        weight.grad.fill_(1.0)
    optimizer.step()
    assert optimizer.state[weight]["sum"].tolist() == [1.5] * 3


def test_defaults_and_tags() -> None:
    group = Adagrad([nn.Parameter(torch.ones(1))]).param_groups[0]
    names = ("lr", "lr_decay", "initial_accumulator", "eps", "weight_decay")
    assert [group[name] for name in names] == [0.01, 0.0, 0.0, 1e-8, 0.0]
    assert lookup("adagrad").provides == ("l2_decay", "adaptive")


@pytest.mark.parametrize("name", ["lr", "lr_decay", "initial_accumulator", "eps", "weight_decay"])
def test_values_outside_their_range_are_refused_by_name(name: str) -> None:
    with pytest.raises(JobError, match=rf"^adagrad\.{name} is -1e-09") as caught:
        Adagrad(**{name: -1e-9})  # type: ignore[arg-type]
    assert caught.value.fix.startswith("Try ")


def test_values_at_the_ends_of_their_range_are_taken_and_an_eps_of_0_is_not() -> None:
    assert Adagrad(lr=0.0, lr_decay=0.0, initial_accumulator=0.0, weight_decay=0.0).lr == 0.0
    with pytest.raises(JobError, match=r"^adagrad\.eps is 0"):
        Adagrad(eps=0.0)
