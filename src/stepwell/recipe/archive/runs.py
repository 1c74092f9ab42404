"""Runs in a folder: what each of them is, how it stands, and how it did. Nothing is changed by looking."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.engine.records.checkpoint import checkpoints, step_of
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.folder_lock import holder_of
from stepwell.engine.records.storage import read_json
from stepwell.engine.records.strict_json import number
from stepwell.recipe.files import read_mapping

__all__ = ["PARTS", "RunEntry", "State", "entry_of", "in_use", "run_folders", "runs", "size_on_disk"]

State = Literal["running", "finished", "interrupted", "failed", "never started", "damaged"]
PARTS = ("checkpoints", "metrics", "model")  # of a run folder; no runs lie in them
# Two of these in one folder: any one alone may be something else, such as a job beside its data.
_SIGNS = ("job.yaml", "manifest.json", "result.json", "events.jsonl", "lock", "checkpoints", "metrics")
_FAILURES = ("nonfinite", "save_failed", "failed")


@dataclass(frozen=True)
class Measured:
    """Metrics of a run's delivered weights.

    Args:
        part: of the data, "test", else "validation".
        metrics: name -> value.
        headline: the one that is shown first.
    """

    part: str
    metrics: Mapping[str, float]
    headline: str | None


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """One run of a list.

    Args:
        folder: where it is.
        name: the folder, from the one that was searched.
        state: running (a process holds it), finished (it has a result), interrupted (by a signal, or killed), failed,
            never started, or damaged.
        steps: completed optimizer steps, as far as is on record.
        started: date and time with its zone, ISO 8601; None where that is not on record.
        num_bytes: on disk.
        problem: what is damaged; None of whole ones.
        measured: None without a result.
        job: as a mapping; empty where it can't be read.
    """

    folder: Path
    name: str
    state: State
    steps: int = 0
    started: str | None = None
    num_bytes: int = 0
    problem: str | None = None
    measured: Measured | None = None
    job: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str | None:
        """As the job names it; None where it came from Python."""
        return _named(self.job.get("model"))

    @property
    def task(self) -> str | None:
        return _named(self.job.get("task"))

    @property
    def metrics(self) -> Mapping[str, float]:
        return {} if self.measured is None else self.measured.metrics

    @property
    def metric(self) -> str | None:
        """The headline metric's name."""
        return None if self.measured is None else self.measured.headline

    @property
    def value(self) -> float | None:
        """The headline metric's value."""
        return self.metrics.get(self.metric) if self.metric is not None else None

    @property
    def part(self) -> str | None:
        """The part of the data that the metrics are of."""
        return None if self.measured is None else self.measured.part


def runs(dir: str | Path = "runs", *, where: str | Iterable[str] = (), sort: str = "started") -> list[RunEntry]:
    """Every run below a folder.

    Args:
        dir: searched with all folders in it; links are not followed.
        where: conditions, all of which must hold: a path of the job or a column, one of = != < <= > >= ~ (contains), a value:
            "recipe.optimizer.name=adamw", "recipe.techniques~mixup", "state=finished", "steps>100", "accuracy>0.9".
        sort: "started" (newest first), "metric" (best first), "size" (largest first), "steps", another column, a metric's
            name, or a path of the job.

    Returns:
        One entry per run; damaged ones too, with what is wrong with them.

    Raises:
        RunFolderError: there is no such folder.
        JobError: a condition or an order that isn't one.

    >>> import tempfile
    >>> runs(tempfile.mkdtemp())
    []
    """
    from stepwell.recipe.archive.filters import conditions, ordered

    root = Path(dir).expanduser()
    if not root.is_dir():
        raise RunFolderError(
            f"there is no folder {root}", expected="a folder with runs", fix="Give the folder that holds them, e.g. runs"
        )
    found = [entry_of(folder, root) for folder in run_folders(root)]
    asked = conditions([where] if isinstance(where, str) else where, found)
    return ordered([entry for entry in found if all(condition.holds(entry) for condition in asked)], sort)


def run_folders(root: Path) -> Iterator[Path]:
    """Folders that hold a run, or what is left of one: the given one and those below it, in order of their names."""
    for folder, below, files in os.walk(root):
        if sum(name in files or name in below for name in _SIGNS) >= 2:
            yield Path(folder)
            below[:] = [name for name in below if name not in PARTS]
        below[:] = sorted(name for name in below if not name.startswith("."))


def entry_of(folder: Path, root: Path) -> RunEntry:
    """What can be said of one run folder, whatever state it is in."""
    problems: list[str] = []
    job = _job(folder, problems)
    manifest = _record(folder / "manifest.json", problems)
    result = _record(folder / "result.json", problems)
    events = _events(folder, problems)
    steps = max([step for _, step in events] + [step_of(place) for place in checkpoints(folder / "checkpoints")], default=0)
    told = result.get("steps")
    measured = _measured(result, problems)
    started = manifest.get("started")
    return RunEntry(
        folder=folder,
        name=str(folder.relative_to(root)) if folder != root else folder.resolve().name,
        state=_state(folder, [kind for kind, _ in events], result, problems),
        steps=told if isinstance(told, int) else steps,
        started=started if isinstance(started, str) else None,
        num_bytes=size_on_disk(folder),
        problem="; ".join(problems) or None,
        measured=measured,
        job=job,
    )


def in_use(folder: Path) -> bool:
    """Whether a process works in a run folder now."""
    try:
        return holder_of(folder / "lock") is not None
    except (OSError, StepwellError):  # no lock that anyone could hold
        return False


def size_on_disk(place: Path) -> int:
    """Bytes of a file, or of all files below a folder; links count as themselves, what vanishes meanwhile not at all."""
    try:
        if place.is_symlink() or not place.is_dir():
            return place.lstat().st_size
        return sum(size_on_disk(item) for item in list(place.iterdir()))
    except OSError:
        return 0


def _job(folder: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        return read_mapping(folder / "job.yaml")
    except StepwellError as error:
        problems.append(error.what if "job.yaml" in error.what else f"job.yaml: {error.what}")
        return {}


def _record(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        read = read_json(path)
    except FileNotFoundError:
        return {}
    except StepwellError as error:
        problems.append(error.what)
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} can't be read: {error}")
        return {}
    if not isinstance(read, dict):
        problems.append(f"{path.name} holds no mapping")
        return {}
    return read


def _events(folder: Path, problems: list[str]) -> list[tuple[str, int]]:
    try:
        return [(event.kind, event.step) for event in read_events(folder / "events.jsonl")]
    except StepwellError as error:
        problems.append(error.what)
    except (OSError, ValueError) as error:
        problems.append(f"events.jsonl can't be read: {error}")
    return []


def _state(folder: Path, kinds: list[str], result: Mapping[str, Any], problems: list[str]) -> State:
    if in_use(folder):
        return "running"
    if problems:
        return "damaged"
    if result:
        return "finished"
    if kinds and kinds[-1] in _FAILURES:
        return "failed"
    trained = any(kind not in ("started", "environment_changed") for kind in kinds)
    if trained or checkpoints(folder / "checkpoints") or any((folder / "metrics").glob("*")):
        return "interrupted"
    return "never started"


def _named(value: Any) -> str | None:
    """A part of a job by name, whether it is written out or not."""
    name = value.get("name") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) else None


def _measured(result: Mapping[str, Any], problems: list[str]) -> Measured | None:
    for part, key in (("test", "test"), ("validation", "metrics")):
        if result.get(key):
            try:
                metrics = {str(name): number(value) for name, value in dict(result[key]).items() if value is not None}
            except (TypeError, ValueError, KeyError) as error:
                problems.append(f"result.json holds no metrics ({error})")
                return None
            told = result.get("headline")
            known = isinstance(told, str) and told in metrics
            return Measured(part, metrics, told if known else next(iter(metrics), None))
    return None
