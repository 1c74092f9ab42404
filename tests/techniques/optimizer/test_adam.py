"""Adam by hand, and against torch."""

from __future__ import annotations

import pytest
import torch
from rule_checks import largest_difference, trained

from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.techniques import Adam, AdamW, adam_


def test_two_steps_by_hand_have_the_decay_inside_the_moments() -> None:
    w, m, v = (torch.tensor([x], dtype=torch.float64) for x in (1.0, 0.0, 0.0))
    seen = []
    for count, gradient in enumerate((0.4, -0.59), start=1):
        adam_(
            [w],
            [torch.tensor([gradient], dtype=torch.float64)],
            [m],
            [v],
            [torch.tensor(float(count))],
            lr=0.1,
            betas=(0.5, 0.75),
            eps=1e-12,
            weight_decay=0.1,
        )
        seen.append((float(w), float(m), float(v)))
    # g = 0.4 + 0.1 * 1 = 0.5; m = 0.25, v = 0.0625; corrected 0.5 and 0.25: w = 1 - 0.1 * 0.5 / 0.5.
    assert seen[0] == pytest.approx((0.9, 0.25, 0.0625), abs=1e-11)
    # g = -0.59 + 0.1 * 0.9 = -0.5; m = 0.125 - 0.25, v = 0.046875 + 0.0625; corrected -1/6 and 0.25: w = 0.9 + 0.1 / 3.
    assert seen[1] == pytest.approx((0.9 + 0.1 / 3, -0.125, 0.109375), abs=1e-11)


def test_eps_is_outside_the_root() -> None:
    w, m, v = (torch.tensor([x], dtype=torch.float64) for x in (1.0, 0.0, 0.0))
    adam_([w], [torch.tensor([4.0], dtype=torch.float64)], [m], [v], [torch.tensor(1.0)], lr=1.0, eps=4.0)
    assert float(w) == pytest.approx(1 - 4 / (4 + 4), abs=1e-12)  # inside it would be 4 / sqrt(16 + 4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_fifty_steps_are_torchs(dtype: torch.dtype, tolerance: float, weight_decay: float) -> None:
    settings = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": weight_decay}
    ours = trained(lambda p: Adam(p, **settings), dtype)  # type: ignore[arg-type]
    theirs = trained(lambda p: torch.optim.Adam(p, fused=False, foreach=False, **settings), dtype)  # type: ignore[arg-type]
    assert largest_difference(ours, theirs) <= tolerance


def test_the_decay_is_l2_and_not_that_of_adamw() -> None:
    decayed = trained(lambda p: Adam(p, lr=0.02, weight_decay=0.5), torch.float64)
    decoupled = trained(lambda p: AdamW(p, lr=0.02, weight_decay=0.5), torch.float64)
    assert largest_difference(decayed, decoupled) > 0.01
    assert lookup("adam").provides == ("momentum", "l2_decay", "adaptive")
    plain = trained(lambda p: Adam(p, lr=0.02, weight_decay=0.0), torch.float64)
    without = trained(lambda p: AdamW(p, lr=0.02, weight_decay=0.0), torch.float64)
    assert largest_difference(plain, without) == 0.0


def test_defaults_are_the_papers_and_without_decay() -> None:
    group = Adam([torch.nn.Parameter(torch.ones(1))]).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 1e-8, 0.0)


@pytest.mark.parametrize(
    "settings", [{"lr": -1e-9}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": 0.0}, {"weight_decay": -1e-9}]
)
def test_values_outside_their_range_are_refused_by_name(settings: dict[str, object]) -> None:
    name = next(iter(settings))
    with pytest.raises(JobError, match=rf"^adam\.{name} is ") as caught:
        Adam(**settings)  # type: ignore[arg-type]
    assert caught.value.fix.startswith("Try ")
    assert caught.value.expected.startswith("a number ")


def test_values_at_the_ends_of_their_range_are_taken() -> None:
    assert Adam(lr=0.0, betas=(0.0, 0.0), eps=1e-300, weight_decay=0.0).lr == 0.0
