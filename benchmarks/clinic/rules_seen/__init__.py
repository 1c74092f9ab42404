"""The half of the clinic on which the doctor's rules may be tuned."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.rules_seen import (
    batches,
    cuts,
    fitting,
    healthy_habits,
    healthy_networks,
    healthy_sequences,
    healthy_tables,
    inputs,
    labels,
    losses,
    mixing,
    outputs,
    rates,
    reach,
    signals,
    splits,
    starts,
    steps,
    units,
)

_SICK = (rates, steps, losses, outputs, labels, units, inputs, splits, batches, mixing, starts, signals, reach, cuts, fitting)
_HEALTHY = (healthy_tables, healthy_habits, healthy_networks, healthy_sequences)

CASES: tuple[Case, ...] = tuple(case for theme in (*_SICK, *_HEALTHY) for case in theme.CASES)

PROOFS: dict[str, Callable[[int], Setup]] = {
    name: build for theme in _SICK for name, build in getattr(theme, "PROOFS", {}).items()
}
"""Of cases that only the author of the model or of the data can mend: the patient without its fault."""
