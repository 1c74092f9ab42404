"""The fifth round: written by people who had not read the rules; scored once before any rule was mended by it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_5 import goods, hands, quiet, scales, steady, wires

_SICK = (goods, scales, hands, wires)
_HEALTHY = (quiet, steady)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
