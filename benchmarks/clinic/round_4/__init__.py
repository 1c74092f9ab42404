"""The fourth round: a whole exam by people who had read its rules of play but not the doctor's; scored once before any rule was
mended by it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_4 import (
    exam_data,
    exam_fit,
    exam_labels,
    exam_losses,
    exam_nets,
    exam_outputs,
    exam_rates,
    exam_splits,
    exam_wiring,
    sound_first,
    sound_second,
)

_SICK = (exam_rates, exam_losses, exam_outputs, exam_data, exam_labels, exam_splits, exam_nets, exam_fit, exam_wiring)
_HEALTHY = (sound_first, sound_second)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
