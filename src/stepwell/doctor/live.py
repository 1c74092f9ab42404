"""The rules on records, live: they look at the rows that a training writes, now and then, and tell each finding once.

A look costs a millisecond or two, and comes at most every `LOOK_EVERY` steps and fifty times a run, so that it stays below 2 %
of the time of steps that take a fifth of a millisecond or more. When it comes follows from steps alone: equal runs tell equal
findings.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stepwell.core.errors import RunFolderError
from stepwell.doctor.curves import Pattern, verdict
from stepwell.doctor.findings import Finding
from stepwell.doctor.layer_rules import layer_findings
from stepwell.doctor.run_rules import course_of_rows, curve_finding, gradient_findings, moved_share, skipped_findings
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.run_folder import read_metrics

__all__ = ["LiveRules"]

logger = logging.getLogger("stepwell.doctor")
LOOK_EVERY = 500  # steps
MOST_LOOKS = 50
MOST_ROWS = 400  # of the training log that are held; then two become one
MOST_LAYER_ROWS = 2000
# The share of a run after which a pattern can be told: earlier, curves that will be fine look the same.
EARLIEST: Mapping[Pattern, float] = {
    "diverging": 0.0,
    "flat": 0.25,
    "oscillating": 0.4,
    "overfitting": 0.25,
    "underfitting": 0.75,
    "memorised": 1.0,
}


class LiveRules:
    """Judges a run while it goes on: give it to `train`, `resume` or `fit` as `watch`.

    What is seen at two looks in a row (at the last one, at once) is told once, as an event `doctor`. It reads rows and never
    ends or changes a training.

    Args:
        resumed: the folder of the run that goes on, whose earlier rows count too.

    >>> rules = LiveRules()
    >>> rules.start({"recipe": {}}, total_steps=1000)
    >>> told = [list(rules.see("train", {"step": step, "loss": 2.3, "lr": 1e-6})) for step in range(10, 1001, 10)]
    >>> [item["finding"] for row in told for item in row]
    ['lr_too_low']
    """

    def __init__(self, *, resumed: Path | None = None) -> None:
        self._rows: dict[str, list[Mapping[str, Any]]] = {"train": [], "validation": [], "layers": []}
        self._told: set[str] = set()
        self._before: set[str] = set()  # seen at the last look
        self._job: Mapping[str, Any] = {}
        self._total, self._next = 0, 0
        if resumed is not None:
            with suppress(OSError, RunFolderError, KeyError):  # a look at later rows alone is better than none
                self._rows |= {name: list(read_metrics(resumed, name)) for name in ("train", "validation")}
                events = read_events(resumed / "events.jsonl")
                self._told = {str(event.detail.get("finding")) for event in events if event.kind == "doctor"}
            self._thin()

    def start(self, job: Mapping[str, Any], total_steps: int) -> None:
        """A run begins or goes on.

        Args:
            job: as `Job.to_mapping` gives it.
            total_steps: planned, >= 0.
        """
        self._job, self._total, self._next = job, total_steps, 0

    def see(self, log: str, row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Take in a row that was just recorded; the details of what is to be told.

        Args:
            log: "train", "validation" or "layers".
        """
        rows, step = self._rows[log], row["step"]
        while rows and log != "layers" and rows[-1]["step"] >= step:  # written again after a resume
            rows.pop()
        rows.append(row)
        if log == "layers":
            del rows[:-MOST_LAYER_ROWS]
            return
        if not self._next:  # a resumed run first looks where it would have looked
            self._next = (int(step) // self._every + 1) * self._every
        last = step >= self._total
        if log == "train" and step < self._next and not last:
            return
        if log == "validation" and not last:
            return
        self._next = (int(step) // self._every + 1) * self._every
        self._thin()
        try:
            yield from self._look(float(step) / max(self._total, 1))
        except (ArithmeticError, ValueError, KeyError, TypeError, IndexError):  # odd records end no training
            logger.debug("the live rules can't read these records", exc_info=True)

    @property
    def _every(self) -> int:
        return max(LOOK_EVERY, self._total // MOST_LOOKS)

    def _look(self, done: float) -> Iterator[Mapping[str, Any]]:
        found = {item.id: item for item in self._findings(done) if item.severity != "note" and item.id not in self._told}
        for name, item in found.items():
            if name in self._before or done >= 1.0:
                self._told.add(name)
                yield {"finding": name, "symptom": item.symptom, "try": item.remedy.text, "confidence": item.confidence}
        self._before = set(found)

    def _findings(self, done: float) -> Iterator[Finding]:
        train, validation = self._rows["train"], self._rows["validation"]
        shown = verdict(course_of_rows(train, validation, self._job))
        if done >= EARLIEST.get(shown.pattern, 1.0):
            found = curve_finding(shown, self._job, moved=moved_share(train))
            if found is not None:
                yield found
        yield from skipped_findings(train, self._job)
        yield from gradient_findings(train, self._job)
        if self._rows["layers"]:
            yield from layer_findings(self._rows["layers"])

    def _thin(self) -> None:
        """Where there are too many rows, two become one: means of losses and norms, sums of skipped steps."""
        rows = self._rows["train"]
        while len(rows) > MOST_ROWS:
            odd = rows[len(rows) // 2 * 2 :]
            rows = [_merged(*pair) for pair in zip(rows[::2], rows[1::2], strict=False)] + odd
        self._rows["train"] = rows


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two rows as one. A loss that isn't finite stays seen only if both are: a single bad step is told by its own event."""
    merged = dict(second)
    for name in ("loss", "grad_norm"):
        pair = [float(row[name]) for row in (first, second) if math.isfinite(float(row.get(name, math.nan)))]
        merged[name] = sum(pair) / len(pair) if pair else math.nan
    merged["skipped"] = int(first.get("skipped") or 0) + int(second.get("skipped") or 0)
    return merged
