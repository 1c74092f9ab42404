"""Plain YAML 1.2 scalars: what `3e-3`, `no`, `0o17` and `.inf` mean, and how a value is written so that it comes back.

YAML 1.1 readers take `3e-3` for text, `no` for false and `010` for 8. This is the core schema of YAML 1.2.2, §10.3.2.
"""

from __future__ import annotations

import math
import re
from typing import Any

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {"": None, "~": None} | dict.fromkeys(("null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)

# Beyond this, a number is a mistake (and Python refuses to read whole numbers of more than 4300 digits).
MAX_DIGITS = 400


def resolve(text: str) -> Any:
    """What a plain (unquoted) scalar stands for.

    >>> [resolve(text) for text in ("3e-3", "no", "0o17", "010", "~", "1_000", "5%")]
    [0.003, 'no', 15, 10, None, '1_000', '5%']

    Raises:
        ValueError: a number of more than 400 digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_DIGITS and any(form.fullmatch(text) for form in (_FLOAT, _HEX, _OCTAL)):
        raise ValueError(f"a number of {len(text)} digits")
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITY.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text


# Text that can stand without quotes: it begins with a letter, and holds nothing that YAML gives a meaning to.
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./%+ -]*[A-Za-z0-9_./%]|[A-Za-z_]|[0-9]+(\.[0-9]+)?(%| [A-Za-z]+)")


def write(value: bool | int | float | str | None) -> str:
    """A scalar as YAML that `resolve` (or the quotes) turns back into the same value.

    >>> [write(value) for value in (0.003, 1e-05, "3e-3", "no", "null", "5%", "a: b", None, True)]
    ['0.003', '1e-05', '"3e-3"', 'no', '"null"', '5%', '"a: b"', 'null', 'true']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(float(value))
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if _PLAIN.fullmatch(value) and isinstance(resolve(value), str) and value not in ("---", "..."):
        return value
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    # The printable characters that a YAML stream may hold; the byte order mark is none of them.
    if character.isprintable() and code != 0xFEFF and (code < 0x7F or 0xA0 <= code < 0xD800 or code >= 0xE000):
        return character
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}.get(character)
    if short:
        return short
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
