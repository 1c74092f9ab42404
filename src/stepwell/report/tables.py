"""What a run folder says, as tables. Unfinished, crashed and running runs are read as far as they go."""

from __future__ import annotations

import io
import json
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwell.core.errors import RunFolderError
from stepwell.report.text import duration, higher_is_better, main_metric, metric, number

__all__ = ["Best", "Columns", "RunTables", "comparison", "read_run", "summary"]

Columns = dict[str, NDArray[np.float64]]
_LAST_EVENTS = 500


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
            logged, infinite where the value was not a finite number. Empty where the file is missing.
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
        last = str(self.events[-1].get("kind")) if self.events else ""
        return {"interrupted": "interrupted", "nonfinite": "stopped: loss not finite"}.get(last, "unfinished")

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
    if not folder.is_dir() or not any((folder / name).exists() for name in ("job.yaml", "manifest.json", "metrics")):
        raise RunFolderError(
            f"{folder} holds no run" if folder.is_dir() else f"there is no folder {folder}",
            expected="a folder that stepwell train has written, with job.yaml and metrics/",
            fix="Give the folder that was printed at the end of training, e.g. stepwell report runs/digits-1",
        )
    problems: list[str] = []
    events, counts = _read_events(folder / "events.jsonl", problems)
    return RunTables(
        folder=folder,
        train=_read_columns(folder / "metrics" / "train.csv", problems),
        validation=_read_columns(folder / "metrics" / "validation.csv", problems),
        timing=_read_columns(_first(folder / "timing.csv", folder / "metrics" / "timing.csv"), problems),
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


def _first(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[0])


def _read_columns(path: Path, problems: list[str]) -> Columns:
    """A CSV file of numbers. A line cut short by a crash is left out."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{path.name} could not be read: {error.strerror or error}")
        return {}
    whole = raw[: raw.rfind(b"\n") + 1]
    if not whole.strip():
        return {}
    import pandas  # 0.3 s, so only where there is a table

    header, body = whole.split(b"\n", 1)
    for spelling in (b"nan", b"NaN"):  # or pandas takes them for the empty cells of what was not logged
        body = body.replace(spelling, b"inf")
    try:
        frame = pandas.read_csv(
            io.BytesIO(header + b"\n" + body), on_bad_lines="skip", encoding_errors="replace", low_memory=False, index_col=False
        )
    except (pandas.errors.ParserError, ValueError) as error:
        problems.append(f"{path.name} could not be read: {error}")
        return {}
    columns = {str(name): np.asarray(pandas.to_numeric(frame[name], errors="coerce"), dtype=np.float64) for name in frame.columns}
    return _in_order(columns)


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
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
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
            counts[str(event.get("kind", "?"))] += 1
            last.append(event)
    return list(last), dict(counts)
