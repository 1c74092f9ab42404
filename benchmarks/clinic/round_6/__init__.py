"""The sixth round: a second exam by people who had not read the doctor's rules; scored once before any rule was mended by it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_6 import (
    fit_habits,
    fit_pictures,
    fit_sequences,
    fit_tables,
    ill_answers,
    ill_fit,
    ill_layers,
    ill_rows,
    ill_steps,
    ill_wiring,
)

_SICK = (ill_steps, ill_layers, ill_answers, ill_rows, ill_fit, ill_wiring)
_HEALTHY = (fit_tables, fit_pictures, fit_sequences, fit_habits)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
