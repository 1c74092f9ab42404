"""The first round: written by people who had not read the rules; scored once before any rule was mended by it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1 import (
    capacity,
    losses,
    networks,
    outputs,
    pictures,
    rates,
    sequences,
    sound_habits,
    sound_tables,
    sound_text,
    sound_vision,
    splits,
    tables,
    targets,
)

_SICK = (rates, losses, outputs, targets, tables, splits, networks, sequences, pictures, capacity)
_HEALTHY = (sound_tables, sound_vision, sound_text, sound_habits)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
