"""The seventh round: click prediction, credit, markets, pictures and texts, by people who had not read the rules; scored once
before any rule was mended by it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_7 import well_work, work_clicks, work_credit, work_markets, work_pictures, work_words

_SICK = (work_clicks, work_credit, work_markets, work_pictures, work_words)
_HEALTHY = (well_work,)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
