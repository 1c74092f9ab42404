"""How names and numbers are written for people: on a terminal, in a picture, on a page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["aligned", "amount", "duration", "flatten", "higher_is_better", "main_metric", "metric", "number", "plain"]

# Worse when larger. Everything else a task measures (accuracy, auc, f1, r2, ...) is better when larger.
_LOWER = ("loss", "error", "perplexity", "mae", "mse", "rmse", "nll", "brier", "ece", "logloss", "deviance", "bits")
_PERCENT = ("accuracy",)
_FIRST = ("auc", "auroc", "roc_auc", "perplexity", "accuracy", "r2", "f1", "rmse", "mae")
# Cc control (ANSI escapes), Cf format (text direction), Cs lone surrogates, Zl and Zp line breaks
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: object, *, keep: str = "") -> str:
    r"""Text without control characters: a name that comes from data can't move the cursor or turn the text around.

    Args:
        text: anything; `str` of it is taken.
        keep: control characters to leave in, such as a line break.

    >>> plain("a\x1b[31mb\nc")
    'a�[31mb�c'
    """
    value = str(text)
    if value.isascii() and value.isprintable():
        return value
    return "".join("\ufffd" if unicodedata.category(c) in _UNSAFE and c not in keep else c for c in value)


def number(value: object) -> str:
    """A number in at most four significant digits, whole ones in full.

    >>> number(5400), number(0.000312), number(2.30259), number(float("nan")), number(12345.6)
    ('5,400', '0.000312', '2.303', 'nan', '12,346')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return plain(value)
    if not math.isfinite(value):
        return str(float(value))
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def metric(name: str, value: object) -> str:
    """A metric's value as people say it: accuracies in percent.

    >>> metric("accuracy", 0.9778), metric("loss", 0.07134)
    ('97.78 %', '0.07134')
    """
    if isinstance(value, float) and math.isfinite(value) and name.lower().endswith(_PERCENT):
        return f"{100 * value:.2f} %"
    return number(value)


def higher_is_better(name: str) -> bool:
    """Whether more of a metric is better, from its name.

    >>> higher_is_better("accuracy"), higher_is_better("validation_loss"), higher_is_better("r2")
    (True, False, True)
    """
    return not name.lower().endswith(_LOWER)


def main_metric(names: Iterable[str]) -> str | None:
    """The metric a person asks for first: the task's own if there is one, else the loss.

    >>> main_metric(["loss", "f1", "accuracy"]), main_metric(["loss"]), main_metric([])
    ('accuracy', 'loss', None)
    """
    known = list(names)
    for name in (*_FIRST, *(n for n in known if n != "loss")):
        if name in known:
            return name
    return known[0] if known else None


def duration(seconds: float) -> str:
    """A length of time.

    >>> duration(0.42), duration(12.3), duration(200), duration(7500)
    ('0.4 s', '12 s', '3 min 20 s', '2 h 05 min')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def amount(count: int, noun: str) -> str:
    """A count with its noun.

    >>> amount(1, "step"), amount(5400, "step")
    ('1 step', '5,400 steps')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def aligned(rows: Sequence[Sequence[str]], *, header: Sequence[str] | None = None, width: int | None = None) -> str:
    """Rows as columns of plain text; the last column is cut with "…" where a line would be wider than `width`.

    >>> print(aligned([["loss", "0.1"], ["accuracy", "97 %"]], header=["metric", "value"]))
    metric    value
    loss      0.1
    accuracy  97 %
    """
    table = [[plain(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    if not table:
        return ""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths)).rstrip() for row in table]
    if width is not None:
        lines = [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
    return "\n".join(lines)


def flatten(value: Mapping[str, object], *, prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with dotted names.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= flatten(item, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
