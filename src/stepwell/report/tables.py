"""What a run folder says, as tables. Unfinished, crashed and running runs are read as far as they go."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.metric_chunk import Column, numbers_of
from stepwell.engine.records.metric_curve import Curve
from stepwell.engine.records.metric_log import MetricLog
from stepwell.engine.records.storage import read_bytes
from stepwell.recipe.run_paths import require_folder
from stepwell.report.text import duration, higher_is_better, main_metric, metric, number

__all__ = ["Best", "Columns", "RunTables", "comparison", "read_run", "summary"]

Values = NDArray[np.float64]
Columns = dict[str, Values]
_LAST_EVENTS = 500
# Bytes of a job, of a record and of all events: many times what a run writes.
_LARGEST = {".yaml": 1 << 20, ".json": 16 << 20, ".jsonl": 64 << 20}
_MOST_ROWS = 20_000  # of a table that is held row by row
_MOST_POINTS = 16_384  # of one that isn't: 20 for each that a picture has room for


class Stretches(Columns):
    """The table of a long log: an entry stands for a stretch of rows and holds its last finite value, or infinity.

    Args:
        curves: column name -> extremes, ends and counts of the same stretches.
    """

    def __init__(self, curves: dict[str, Curve]) -> None:
        self.curves = curves
        bad = {name: np.where(curve.num_nonfinite > 0, np.inf, np.nan) for name, curve in curves.items()}
        super().__init__({name: np.where(curve.num_finite > 0, curve.last, bad[name]) for name, curve in curves.items()})


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation of a run.

    Args:
        step: completed optimizer steps.
        metric: what was watched.
        value: its value there.
    """

    step: int
    metric: str
    value: float


@dataclass(frozen=True)
class RunTables:
    """A run folder in memory.

    Args:
        folder: where it is.
        train, validation, timing: column name -> values, one row per record, (rows,) float64; NaN where nothing was
            logged, infinite where the value was not a finite number. Empty where the file is missing. Of a long log
            train and timing are `Stretches`.
        events: the last ones, oldest first.
        event_counts: kind -> how many, over all of them.
        manifest, result: what the run wrote; empty where missing.
        job: the resolved job, as text.
        problems: what could not be read, one sentence each.
    """

    folder: Path
    train: Columns
    validation: Columns
    timing: Columns
    events: list[dict[str, Any]]
    event_counts: dict[str, int]
    manifest: dict[str, Any]
    result: dict[str, Any]
    job: str
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        return bool(self.result)

    @property
    def stop_reason(self) -> str:
        """Why it ended; for a run without a result, what its last event says about that."""
        if self.finished:
            return str(self.result.get("stop_reason") or "finished")
        kinds = [str(event.get("kind")) for event in self.events]
        last = next((kind for kind in reversed(kinds) if kind not in ("saved", "best", "failed", "doctor")), "")
        told = {"interrupted": "interrupted", "nonfinite": "stopped: loss not finite"}.get(last)
        return told or ("stopped by an error" if kinds[-1:] == ["failed"] else "unfinished")

    @property
    def headline(self) -> str | None:
        """The metric of the test part that a person asks for first."""
        told = self.result.get("headline")
        return told if isinstance(told, str) and told in self.test else main_metric(self.test)

    @property
    def steps(self) -> int:
        """Completed optimizer steps, as far as is known."""
        ends = [int(t["step"].max()) for t in (self.train, self.validation) if len(t.get("step", ()))]
        known = self.result.get("steps")
        return int(known) if isinstance(known, (int, float)) and math.isfinite(known) else max(ends, default=0)

    @property
    def epochs(self) -> float:
        ends = [float(t["epoch"][-1]) for t in (self.train, self.validation) if len(t.get("epoch", ()))]
        return max((end for end in ends if math.isfinite(end)), default=0.0)

    @property
    def seconds(self) -> float | None:
        """How long the run took: its own figure, else the last one logged."""
        told = self.result.get("seconds")
        if isinstance(told, (int, float)):
            return float(told)
        measured = self.timing.get("seconds")
        return float(measured[-1]) if measured is not None and len(measured) and math.isfinite(measured[-1]) else None

    @property
    def test(self) -> dict[str, float]:
        return _numbers(self.result.get("test"))

    @property
    def final(self) -> dict[str, float]:
        """Metrics of the delivered weights on the validation part; the last evaluation where a run didn't finish."""
        told = _numbers(self.result.get("metrics"))
        last = {name: logged(self.validation[name]) for name in self.metric_names}
        return told or {name: float(values[-1]) for name, values in last.items() if len(values)}

    @property
    def metric_names(self) -> list[str]:
        """What was measured on the validation part."""
        return [name for name in self.validation if name not in ("step", "epoch", "seconds")]

    @property
    def best(self) -> Best | None:
        """The best evaluation: the one on record, else the best row. A non-finite value never wins."""
        told = self.result.get("best")
        told = told if isinstance(told, dict) else {}
        name = told.get("metric") or told.get("name") or told.get("monitor") or main_metric(self.metric_names)
        if not isinstance(name, str):
            return None
        values = self.validation.get(name)
        if isinstance(told.get("step"), (int, float)) and isinstance(told.get("value"), (int, float)):
            return Best(int(told["step"]), name, float(told["value"]))
        if values is None or not np.isfinite(values).any():
            return None
        worst = -np.inf if higher_is_better(name) else np.inf
        clean = np.where(np.isfinite(values), values, worst)
        row = int(clean.argmax() if higher_is_better(name) else clean.argmin())
        return Best(int(self.validation["step"][row]), name, float(values[row]))


def read_run(folder: Path) -> RunTables:
    """Read a run folder.

    Args:
        folder: what `stepwell train` wrote.

    Raises:
        RunFolderError: there is no such folder, or it holds no run.
    """
    folder = Path(folder)
    require_folder(folder)
    if not any((folder / name).exists() for name in ("job.yaml", "manifest.json", "metrics")):
        raise RunFolderError(
            f"{folder} holds no run",
            expected="a folder that stepwell train has written, with job.yaml and metrics/",
            fix="Give the folder that was printed at the end of training, e.g. stepwell report runs/digits-1",
        )
    problems: list[str] = []
    events, counts = _read_events(folder / "events.jsonl", problems)
    return RunTables(
        folder=folder,
        train=_read_stretches(folder / "metrics" / "train", problems),
        validation=_read_columns(folder / "metrics" / "validation", problems),
        timing=_read_stretches(folder / "timing", problems),
        events=events,
        event_counts=counts,
        manifest=_read_json(folder / "manifest.json", problems),
        result=_read_json(folder / "result.json", problems),
        job=_read_text(folder / "job.yaml", problems),
        problems=problems,
    )


def summary(run: RunTables) -> list[tuple[str, str]]:
    """The few lines that say how a run went: label and value."""
    rows = [("run", run.name), ("ended", run.stop_reason), ("steps", number(run.steps))]
    if run.epochs:
        rows.append(("epochs", number(round(run.epochs, 2))))
    if run.seconds is not None:
        rows.append(("time", duration(run.seconds)))
    if run.best is not None:
        rows.append(
            (f"best validation {run.best.metric}", f"{metric(run.best.metric, run.best.value)} at step {run.best.step:,}")
        )
    rows += [(f"test {name}", metric(name, value)) for name, value in run.test.items()]
    return rows


def comparison(runs: list[RunTables]) -> list[list[str]]:
    """One row per run, headed: name, how it ended, steps, time, best validation metric, test metrics."""
    names = list(dict.fromkeys(name for run in runs for name in run.test))
    rows = [["run", "ended", "steps", "time", "best validation", *(f"test {name}" for name in names)]]
    for run in runs:
        best = run.best
        rows.append(
            [
                run.name,
                run.stop_reason,
                number(run.steps),
                "" if run.seconds is None else duration(run.seconds),
                "" if best is None else f"{best.metric} {metric(best.metric, best.value)}",
                *(metric(name, run.test[name]) if name in run.test else "" for name in names),
            ]
        )
    return rows


def logged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of rows that have one: NaN stands for an empty cell."""
    return values[~np.isnan(values)]


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {str(k): float(v) for k, v in value.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _read_columns(path: Path, problems: list[str]) -> Columns:
    """All rows of a log."""
    log = MetricLog(path)
    with _noted(path, problems):
        columns = log.columns()
        if gap := log.gap():
            problems.append(gap)
        return _in_order({name: _drawable(column) for name, column in columns.items()})
    return {}


def _read_stretches(path: Path, problems: list[str]) -> Columns:
    """The same of a log that may have millions of rows: of a long one, stretches of rows."""
    log = MetricLog(path)
    with _noted(path, problems):
        if log.num_rows > _MOST_ROWS:
            if gap := log.gap():
                problems.append(gap)
            return Stretches(log.curves(most_points=_MOST_POINTS))
    return _read_columns(path, problems)


@contextmanager
def _noted(path: Path, problems: list[str]) -> Iterator[None]:
    """What can't be read is put on record once, and the rest of the run is shown."""
    try:
        yield
    except (RunFolderError, OSError) as error:
        why = error.what if isinstance(error, RunFolderError) else f"{path.name} could not be read: {error.strerror or error}"
        if why not in problems:
            problems.append(why)


def _drawable(column: Column) -> Values:
    """As `RunTables` says: NaN for nothing logged, infinite for what is not finite; text is nothing to draw."""
    values = numbers_of(column)
    if values is None:
        values = np.array([_number(cell) for cell in column.values.tolist()])
        return np.where(np.isnan(values) | np.isfinite(values), values, np.inf)
    return np.where(column.missing | np.isfinite(values), values, np.inf)


def _number(text: str) -> float:
    """A cell as a number, NaN where it is none."""
    try:
        return float(text) if math.isfinite(float(text)) else math.inf
    except ValueError:
        return math.nan


def _in_order(columns: Columns) -> Columns:
    """Rows by step, the last record of a step: a run that was resumed from before its crash wrote some steps twice."""
    steps = columns.get("step")
    if steps is None:
        return columns
    known = np.isfinite(steps)
    columns = {name: values[known] for name, values in columns.items()}
    steps = columns["step"]
    if len(steps) < 2 or bool((np.diff(steps) > 0).all()):
        return columns
    _, last_from_end = np.unique(steps[::-1], return_index=True)
    rows = len(steps) - 1 - last_from_end
    return {name: values[rows] for name, values in columns.items()}


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    text = _read_text(path, problems)
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} could not be read: {error}")
        return {}
    return value if isinstance(value, dict) else {}


def _read_text(path: Path, problems: list[str]) -> str:
    try:
        return read_bytes(path, most=_LARGEST[path.suffix]).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except RunFolderError as error:  # a link, a pipe, or more than a run writes
        problems.append(f"{path.name} was not read: {error.what}")
        return ""
    except OSError as error:
        problems.append(f"{path.name} could not be read: {error.strerror or error}")
        return ""


def _read_events(path: Path, problems: list[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    last: deque[dict[str, Any]] = deque(maxlen=_LAST_EVENTS)
    counts: Counter[str] = Counter()
    for line in _read_text(path, problems).splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the line that a crash cut short
        if isinstance(event, dict):
            repeated = event.get("repeated", 1)
            counts[str(event.get("kind", "?"))] += repeated if isinstance(repeated, int) else 1
            last.append(event)
    return list(last), dict(counts)
