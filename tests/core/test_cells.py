"""Cells that are text stay text; numbers stay as they are."""

from __future__ import annotations

import pytest

from stepwell.core.cells import inert_cell


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1-1", "@SUM(A1)", "\t=1", "\n=1", " =1+1", "  @x", "\uff1d1", "=cmd|' /C calc'!A0", "-", "--1"]
)
def test_what_begins_a_formula_gets_an_apostrophe(text: str) -> None:
    cell = inert_cell(text)
    assert cell.startswith("'")
    assert cell[1:] == text


@pytest.mark.parametrize(
    "value", ["-5", "+5", "-1e-3", "-.5", "5.", -5, -0.5, None, True, "a=b", "benign", "a-b", "", "e-3", "x\ty"]
)
def test_numbers_and_plain_text_stay_as_they_are(value: object) -> None:
    assert inert_cell(value) is value or inert_cell(value) == value


def test_control_characters_are_replaced_and_other_letters_kept() -> None:
    assert inert_cell("\x1b[31mred\x07\x9b") == "\ufffd[31mred\ufffd\ufffd"
    assert inert_cell("\r=1") == "\ufffd=1"
    assert inert_cell("नमस्\u200dते é 漢 😀") == "नमस्\u200dते é 漢 😀"
