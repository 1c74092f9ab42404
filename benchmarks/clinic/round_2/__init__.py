"""The second round: written by people who had not read the rules; scored once before any rule was mended by it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_2 import ends, feeds, fits, habits, layers, well, well_signals

_SICK = (habits, ends, feeds, layers, fits)
_HEALTHY = (well, well_signals)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
