"""Errors: three parts, a place, an exit code."""

from __future__ import annotations

import pytest

from stepwell.core.check import require, require_between
from stepwell.core.errors import DataError, Interrupted, JobError, RunFolderError, StepwellError, TrainingStopped, nearest


def test_an_error_says_what_happened_what_was_expected_and_what_to_do() -> None:
    error = JobError("mixup.alpha is 0", expected="a number above 0", fix="Leave it out.", where="job.yaml:12")
    assert str(error) == "job.yaml:12: mixup.alpha is 0; expected a number above 0. Leave it out."


def test_a_place_is_filled_in_once_and_not_replaced() -> None:
    error = JobError("a", expected="b", fix="c").at("job.yaml:1")
    assert error.at("other.yaml:2").where == "job.yaml:1"


@pytest.mark.parametrize(("kind", "code"), [(JobError, 2), (DataError, 2), (RunFolderError, 2), (TrainingStopped, 3)])
def test_every_kind_has_its_exit_code_and_is_a_value_error(kind: type[StepwellError], code: int) -> None:
    error = kind("a", expected="b", fix="c")
    assert error.exit_code == code
    assert isinstance(error, ValueError)


def test_an_interrupted_run_exits_with_128_and_the_signal() -> None:
    assert Interrupted("a", expected="b", fix="c", signal_number=15).exit_code == 143


def test_the_nearest_name_is_offered_and_nothing_when_none_is_near() -> None:
    assert nearest("learning", ["lr", "momentum"]).startswith("Known: lr, momentum")
    assert nearest("momentun", ["lr", "momentum"]) == "Did you mean 'momentum'? Known: lr, momentum"
    assert nearest("x", []) == "Known: none"


def test_require_names_the_setting_and_its_value() -> None:
    require(True, "a.b", 0, "anything", "nothing")
    with pytest.raises(JobError, match=r"^a\.b is 0; expected 1\. Do it\.$"):
        require(False, "a.b", 0, "1", "Do it")


@pytest.mark.parametrize(
    ("value", "ends", "good"),
    [
        (0, "[]", True),
        (1, "[]", True),
        (0, "(]", False),
        (1, "[)", False),
        (-0.1, "[]", False),
        (1.1, "[]", False),
        (float("nan"), "[]", False),
    ],
)
def test_the_ends_of_an_interval_belong_to_it_as_written(value: float, ends: str, good: bool) -> None:
    if good:
        require_between("a.b", value, 0, 1, "Mend it", ends=ends)
    else:
        with pytest.raises(JobError, match=rf"a number in \{ends[0]}0, 1\{ends[1]}"):
            require_between("a.b", value, 0, 1, "Mend it", ends=ends)
