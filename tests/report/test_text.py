"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from stepwell.report.text import aligned, amount, duration, flatten, higher_is_better, main_metric, metric, number, plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (1e-12, "1e-12"),
        (0.1 + 0.2, "0.3"),
        (123.456, "123.5"),
        (99999.9, "100,000"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (True, "True"),
        (None, "None"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
    ],
)
def test_a_number_has_four_digits_and_whole_ones_all(value: object, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (-1, "?"),
        (float("nan"), "?"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize("name", ["loss", "val_loss", "rmse", "MAE", "perplexity", "brier"])
def test_losses_and_errors_are_better_when_lower(name: str) -> None:
    assert not higher_is_better(name)


@pytest.mark.parametrize("name", ["accuracy", "auc", "r2", "f1", "token_accuracy"])
def test_scores_are_better_when_higher(name: str) -> None:
    assert higher_is_better(name)


def test_the_metric_asked_for_first_is_the_task_s_own() -> None:
    assert main_metric(["loss", "accuracy", "auc"]) == "auc"
    assert main_metric(["loss", "accuracy", "perplexity"]) == "perplexity"
    assert main_metric(["loss", "mae", "rmse", "r2"]) == "r2"
    assert main_metric(["loss", "my_score"]) == "my_score"


def test_only_accuracies_are_percentages() -> None:
    assert metric("token_accuracy", 0.5) == "50.00 %"
    assert metric("r2", 0.5) == "0.5"
    assert metric("accuracy", float("nan")) == "nan"


@pytest.mark.parametrize(
    "character", ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\u200b", "\u202e", "\u2028", "\ud800", "\n", "\r"]
)
def test_no_control_character_survives(character: str) -> None:
    assert plain(f"a{character}b") == "a\ufffdb"


def test_letters_of_every_script_survive() -> None:
    assert plain("é 中文 ελ 😀 \n", keep="\n") == "é 中文 ελ 😀 \n"


def test_columns_are_as_wide_as_their_widest_cell_and_lines_no_wider_than_asked() -> None:
    assert aligned([["a", "bb"], ["cccc", "d"]]).splitlines() == ["a     bb", "cccc  d"]
    assert aligned([["a", "long text"]], width=7) == "a  lon…"
    assert aligned([]) == ""


def test_one_is_singular() -> None:
    assert (amount(1, "step"), amount(0, "step"), amount(2000, "step")) == ("1 step", "0 steps", "2,000 steps")


def test_flattening_names_the_way_to_each_value() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
