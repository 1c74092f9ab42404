"""Text from elsewhere as cells of a table that people open in a spreadsheet, where it must stay text."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["inert_cell"]

# What a spreadsheet takes for the beginning of a formula, full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed; terminals obey some of them


def inert_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula and no terminal for a command; numbers stay numbers.

    Args:
        value: of any type; only text changes: control characters go, and "'" comes before what begins a formula.

    >>> [inert_cell(value) for value in ("=1+1", "-5", "-five", "@x", 3.0, "a\\x1b[2Jb")]
    ["'=1+1", '-5', "'-five", "'@x", 3.0, 'a\ufffd[2Jb']
    """
    if not isinstance(value, str):
        return value
    text = _CONTROL.sub("\ufffd", value)
    begins = text.lstrip(" ").startswith(_FORMULA)
    return f"'{text}" if begins and not _NUMBER.fullmatch(text) else text
