"""Plain scalars by the core schema of YAML 1.2.2, §10.3.2. Expected values are read off the specification."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.recipe.values.scalars import resolve, write
from stepwell.recipe.values.yaml_reader import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-3", 0.003),
        ("1e5", 100000.0),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+12", 12),
        ("-0", 0),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("FALSE", False),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_a_plain_scalar_means_what_the_core_schema_says(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "Y", "1_000", "1:30", "1e", "e5", "0b11", "0o8", "0x", "-0o7", "tRue", "nULL", "1.2.3", "5%", "."],
)
def test_what_only_yaml_1_1_takes_for_a_number_or_a_truth_value_is_text(text: str) -> None:
    assert resolve(text) == text


def test_nan_is_a_number_that_differs_from_itself() -> None:
    assert math.isnan(resolve(".NaN"))


def test_a_number_of_thousands_of_digits_is_refused_and_not_computed() -> None:
    with pytest.raises(ValueError, match="5000 digits"):
        resolve("9" * 5000)


def read(text: str) -> object:
    return parse(text, lambda line: f"line {line}")


@given(st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False)))
def test_a_written_value_comes_back_equal_and_of_its_type(value: object) -> None:
    back = read(f"- {write(value)}")
    assert back == [value]
    assert type(back[0]) is type(value)


@given(st.text(max_size=40).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_written_text_comes_back_as_the_same_text_in_block_and_flow(text: str) -> None:
    assert read(f"key: {write(text)}") == {"key": text}
    assert read(f"[{write(text)}, 1]") == [text, 1]


@pytest.mark.parametrize(
    "text", ["1", "1e3", "null", "true", "~", ".inf", "", " x", "a: b", "a #b", "- a", "*a", "!b", "&c", "0o17", "x,y"]
)
def test_text_that_would_be_read_as_something_else_is_quoted(text: str) -> None:
    assert write(text).startswith('"')
