"""The confusion matrix of a result, as a table whose shading says where the mistakes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwell.report.html import Html, join, tag
from stepwell.report.text import number

__all__ = ["confusion"]

_MOST_CLASSES = 25


def confusion(result: Mapping[str, Any]) -> Html | None:
    """Rows are the true classes, columns the predicted ones; None where the result holds no square matrix of counts.

    Args:
        result: what a run wrote; "confusion_matrix" and "classes" are looked for in it and in its "test" part.
    """
    test = result.get("test")
    for place in (result, test if isinstance(test, dict) else {}):
        counts = _square(place.get("confusion_matrix", place.get("confusion")))
        if counts is not None:
            return _table(counts, _names(place.get("classes", result.get("classes")), len(counts)))
    return None


def _square(value: Any) -> NDArray[np.float64] | None:
    try:
        counts = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    good = counts.ndim == 2 and counts.shape[0] == counts.shape[1] >= 2
    return counts if good and bool(np.isfinite(counts).all()) and bool((counts >= 0).all()) else None


def _names(value: Any, size: int) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) and len(value) == size else [str(i) for i in range(size)]


def _table(counts: NDArray[np.float64], names: list[str]) -> Html:
    note = ""
    if len(counts) > _MOST_CLASSES:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        kept = np.sort(np.argsort(-wrong, kind="stable")[:_MOST_CLASSES])
        note = f" Of {len(counts)} classes, the {_MOST_CLASSES} with most mistakes."
        counts, names = counts[np.ix_(kept, kept)], [names[row] for row in kept]
    hits = counts.diagonal().max() or 1.0
    misses = (counts - np.diag(counts.diagonal())).max() or 1.0
    rows = []
    for row, name in enumerate(names):
        cells = [_cell(counts[row, column], row == column, hits, misses) for column in range(len(names))]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    head = tag("tr", tag("th", "true \\ predicted"), *(tag("th", name, scope="col") for name in names))
    caption = "Blue: right. Orange: taken for another class, the stronger the more often." + note
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="matrix")
    return join(tag("div", table, class_="card"), tag("p", caption, class_="note"))


def _cell(count: float, hit: bool, hits: float, misses: float) -> Html:
    if count == 0 and not hit:
        return tag("td", "·", class_="none")
    share = count / (hits if hit else misses)
    return tag("td", number(float(count)), class_="hit" if hit else "miss", style=f"--share: {share:.3f}")
