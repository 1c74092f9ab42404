"""The held-out half of the clinic: written by someone who writes no rules, and frozen before rules are tuned."""

from collections.abc import Callable

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.held_out import (
    batches,
    cells,
    fit,
    flow,
    healthy_signals,
    healthy_tables,
    holding,
    losses,
    outputs,
    ranges,
    rates,
    scales,
    splits,
    starts,
    wiring,
)

CASES: tuple[Case, ...] = (
    *rates.CASES,
    *losses.CASES,
    *scales.CASES,
    *outputs.CASES,
    *ranges.CASES,
    *cells.CASES,
    *splits.CASES,
    *batches.CASES,
    *starts.CASES,
    *flow.CASES,
    *holding.CASES,
    *wiring.CASES,
    *fit.CASES,
    *healthy_tables.CASES,
    *healthy_signals.CASES,
)

# How the setup looks once its author has mended it, where nobody else can.
PROOFS: dict[str, Callable[[int], Setup]] = {
    **cells.PROOFS,
    **splits.PROOFS,
    **batches.PROOFS,
    **flow.PROOFS,
    **holding.PROOFS,
    **wiring.PROOFS,
    **fit.PROOFS,
}
