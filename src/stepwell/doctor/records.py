"""What a run folder shows: the curve patterns, what wasn't finite, gradients, units, memory, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.doctor.curves import Verdict, verdict
from stepwell.doctor.findings import Finding, Number, Remedy
from stepwell.doctor.layer_rules import layer_findings
from stepwell.doctor.run_rules import (
    course_of_rows,
    curve_finding,
    gradient_findings,
    moved_share,
    skipped_findings,
)
from stepwell.doctor.troubleshooting import Mapped, remedies
from stepwell.engine.records.event_log import Logged, read_events
from stepwell.engine.records.metric_log import MetricLog
from stepwell.engine.records.run_folder import read_layers
from stepwell.engine.records.storage import read_json
from stepwell.recipe.files import read_mapping
from stepwell.recipe.run_paths import require_folder

__all__ = ["Records", "examine_run", "read_records"]

MOST_ROWS = 20_000  # of a log; of longer ones the last value of equally long stretches
MOST_LAYER_ROWS = 50_000
SHORT = ("micro_batches", "evaluation_batches", "estimation_batches")
STILL_FALLING = 0.1  # of all that validation fell, in its last fifth


@dataclass(frozen=True)
class Records:
    """What a run wrote about itself, as far as it goes.

    Args:
        job: the job as it was resolved; empty where it can't be read.
        train, validation, layers: rows.
        events: oldest first.
        result: how it ended; empty where it hasn't.
    """

    job: Mapped
    train: Sequence[Mapped]
    validation: Sequence[Mapped]
    layers: Sequence[Mapped]
    events: Sequence[Logged]
    result: Mapped


def examine_run(path: Path) -> list[Finding]:
    """What is wrong with a run, finished or running, by its records alone: nothing is loaded, computed again or changed.

    Args:
        path: a run folder.

    Returns:
        Findings, the gravest and surest first; empty where the records show nothing.

    Raises:
        RunFolderError: there is no run in the folder, or its metrics are damaged.
    """
    return examined_records(read_records(Path(path)))


def read_records(folder: Path) -> Records:
    """What there is of a run.

    Raises:
        RunFolderError: there is no run in the folder, or its metrics are damaged.
    """
    require_folder(folder)
    if not (folder / "job.yaml").exists() and not (folder / "metrics").exists():
        raise RunFolderError(
            f"{folder} holds no run",
            expected="a folder that stepwell train has written, with job.yaml and metrics/",
            fix="Give the folder that was printed at the end of training",
        )
    job: Mapped = {}
    with suppress(StepwellError):  # metrics tell enough where the job was damaged
        job = read_mapping(folder / "job.yaml")
    result: Any = {}
    with suppress(OSError, ValueError, RunFolderError):
        result = read_json(folder / "result.json")
    layers = MetricLog(folder / "metrics" / "layers").num_rows
    return Records(
        job=job,
        train=_rows(folder / "metrics" / "train"),
        validation=_rows(folder / "metrics" / "validation"),
        layers=read_layers(folder, start=max(layers - MOST_LAYER_ROWS, 0)),
        events=read_events(folder / "events.jsonl"),
        result=result if isinstance(result, Mapping) else {},
    )


def _rows(path: Path) -> list[Mapped]:
    log = MetricLog(path)
    if log.num_rows <= MOST_ROWS:
        return [dict(row) for row in log.rows()]
    curves = log.curves(most_points=MOST_ROWS)
    length = max(len(curve.last) for curve in curves.values())
    kept = {name: curve.last for name, curve in curves.items() if len(curve.last) == length}
    return [{name: float(values[row]) for name, values in kept.items()} for row in range(length)]


def examined_records(records: Records) -> list[Finding]:
    """The findings of a run's records, the gravest and surest first, each id once."""
    found = [*_memory(records), *_curves(records), *skipped_findings(records.train, records.job)]
    found += [*gradient_findings(records.train, records.job), *layer_findings(records.layers)]
    if all(item.severity == "note" for item in found):
        found += _unfinished(records)
    ranks = {"blocker": 0, "harm": 1, "note": 2}
    kept: dict[str, Finding] = {}
    for item in sorted(found, key=lambda item: (ranks[item.severity], -item.confidence)):
        kept.setdefault(item.id, item)
    return list(kept.values())


def curves_of(records: Records) -> Verdict:
    """The pattern of a run's curves."""
    skills, constant = _known(records)
    bad = [float(event.step) for event in records.events if event.kind == "nonfinite" and event.detail.get("policy") == "stop"]
    last = [float(row["step"]) for row in records.train[-1:]]
    ended = [step for step in bad if not last or step >= last[0]]  # those before were gone on from
    course = course_of_rows(records.train, records.validation, records.job, skills=skills, constant=constant, bad_steps=ended)
    return verdict(course)


def _curves(records: Records) -> Iterator[Finding]:
    found = curve_finding(curves_of(records), records.job, moved=moved_share(records.train))
    if found is not None:
        yield found


def _known(records: Records) -> tuple[list[float] | None, float | None]:
    """The skill of each evaluation and the loss of a constant answer, where metrics or counted classes tell."""
    matrix = records.result.get("confusion_matrix")
    shares = np.asarray(matrix, dtype=float).sum(1) if isinstance(matrix, list) and matrix else np.zeros(0)
    shares = shares[shares > 0] / max(shares.sum(), 1.0)
    objective = (records.job.get("recipe") or {}).get("objective")
    name = objective.get("name") if isinstance(objective, Mapping) else objective
    plain = name in (None, "cross_entropy", "bce")
    constant = float(-(shares * np.log(shares)).sum()) if len(shares) > 1 and plain else None
    ways: dict[str, Callable[[float], float]] = {"r2": lambda value: value, "auc": lambda value: 2.0 * value - 1.0}
    if len(shares) > 1:
        ways["accuracy"] = lambda value: (value - shares.max()) / (1.0 - shares.max())
    for metric, skill in ways.items():
        if any(metric in row for row in records.validation):
            return [skill(float(row.get(metric, math.nan))) for row in records.validation], constant
    return None, constant


def _memory(records: Records) -> Iterator[Finding]:
    """Memory that ran out: what the run did about it, and the five remedies in their order."""
    kinds = [event for event in records.events if event.kind in SHORT]
    failed = [event for event in records.events if event.kind == "failed" and event.detail.get("error") == "OutOfMemory"]
    if not kinds and not failed:
        return
    first, *then = remedies("memory", records.job)
    told: dict[str, Number] = {"times": len(kinds) + len(failed), "first_step": (kinds + failed)[0].step}
    told["then"] = [item.text for item in then]
    if failed:
        told["said"] = str(failed[-1].detail.get("reason", ""))
        yield Finding(
            "out_of_memory", 0.97, "the run ended because memory ran out", "a step needs more than there is", told, first
        )
        return
    told |= {f"{event.kind}_now": event.detail.get("now") for event in kinds}
    size = told.get("micro_batches_now")
    mend = (
        Remedy(f"Set micro_batch_size {size}, so that no step is taken twice", job={"recipe.micro_batch_size": size})
        if size
        else first
    )
    symptom = "memory ran out; the run went on with smaller parts of the same batch"
    yield Finding("out_of_memory", 0.97, symptom, "a step needs more than there is", told, mend, severity="note")


def _unfinished(records: Records) -> Iterator[Finding]:
    """Trainings that ended while they still got better, or that never got better than at the first evaluation."""
    values = [float(row["loss"]) for row in records.validation if math.isfinite(float(row.get("loss", math.nan)))]
    best = (records.result.get("best") or {}).get("step")
    if len(values) < 5 or not records.result:
        return
    steps, fifth = [int(row["step"]) for row in records.validation], max(len(values) // 5, 1)
    fell, late = values[0] - min(values), values[-1 - fifth] - values[-1]
    told: dict[str, Number] = {"val_first": values[0], "val_end": values[-1], "best_step": best}
    told["stop_reason"] = str(records.result.get("stop_reason", ""))
    if best == steps[-1] and fell > 0 and late > STILL_FALLING * fell and late > 0.02 * abs(values[-1]):
        budget = str(records.job.get("budget", ""))
        number, _, unit = budget.partition(" ")
        change = {"budget": f"{float(number) * 2:g} {unit}"} if number.replace(".", "", 1).isdigit() and unit else {}
        symptom, cause = "validation was still improving at the end", "the budget ended before the learning did"
        mend = Remedy("Train for twice as long", job=change)
        yield Finding("too_few_epochs", 0.5, symptom, cause, told, mend, severity="note")
    elif best == steps[0] and records.job.get("init_from") is None:
        symptom = "no evaluation was better than the first one"
        mend = Remedy(
            "Lower the learning rate, or evaluate more often to see what happens before",
            job=remedies("diverging", records.job)[0].job,
        )
        yield Finding("no_improvement", 0.5, symptom, "learning ended before the first evaluation", told, mend, severity="note")
