"""Durations: every unit, and everything that must not pass for one."""

from __future__ import annotations

import pytest

from stepwell.core.duration import Duration
from stepwell.core.errors import JobError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5%", 5.0, "%"),
        ("5 percent", 5.0, "%"),
        ("2.5%", 2.5, "%"),
        ("3 epochs", 3.0, "epochs"),
        ("1 epoch", 1.0, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("500 steps", 500.0, "steps"),
        ("500steps", 500.0, "steps"),
        ("  7  steps ", 7.0, "steps"),
        ("1_000 steps", 1000.0, "steps"),
        ("10k steps", 10_000.0, "steps"),
        ("2M tokens", 2e6, "tokens"),
        ("1.5B tokens", 1.5e9, "tokens"),
        ("1e6 samples", 1e6, "samples"),
        ("90 s", 90.0, "seconds"),
        ("10 minutes", 600.0, "seconds"),
        ("2 h", 7200.0, "seconds"),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, amount: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(amount, unit)


@pytest.mark.parametrize(
    "text", ["5", "", "epochs", "-3 epochs", "3 weeks", "3 m steps", "5 %%", ".5 epochs", "nan steps", 5, 5.0, None, ["5%"]]
)
def test_what_has_no_known_unit_is_refused_with_its_name(text: object) -> None:
    with pytest.raises(JobError, match=r"warmup is .*expected a number with its unit"):
        Duration.parse(text, name="warmup")  # type: ignore[arg-type]


def test_a_bare_number_is_answered_with_the_same_number_of_steps() -> None:
    with pytest.raises(JobError, match='Write for example warmup: "500 steps"'):
        Duration.parse(500, name="warmup")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["5%", "3 epochs", "0.25 epochs", "500 steps", "2000000 tokens", "90 seconds"])
def test_written_out_and_read_again_it_is_the_same(text: str) -> None:
    duration = Duration.parse(text)
    assert str(duration) == text
    assert Duration.parse(str(duration)) == duration


def test_a_duration_passes_through_unchanged() -> None:
    duration = Duration(3.0, "epochs")
    assert Duration.parse(duration) is duration
