"""The run folder: what a run leaves behind, and the lock that keeps two runs from sharing one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stepwell.core.errors import RunFolderError
from stepwell.core.reports import Event
from stepwell.engine.records.event_log import EventLog
from stepwell.engine.records.folder_lock import FolderLock, holder_of, in_use, is_lock
from stepwell.engine.records.metric_chunk import Cell, spelled
from stepwell.engine.records.metric_log import MetricLog
from stepwell.engine.records.storage import explained, make_folder, read_bytes, remove, sha256, sweep, write_bytes, write_json


def _left_by_a_start(item: Path) -> bool:
    """What a start that was killed early leaves beside the job: its temporaries, and a folder for metrics without any."""
    if item.is_symlink():
        return False
    temporary = item.name.startswith((".job.yaml.tmp-", ".manifest.json.tmp-"))
    return temporary or (item.name == "metrics" and item.is_dir() and not any(item.iterdir()))


def _present(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir() if not (is_lock(item) or _left_by_a_start(item)))


def never_began(path: Path) -> bool:
    """Whether a folder holds no more of a run than its job: its start was killed before it wrote the manifest."""
    return _present(path) == ["job.yaml"]


class RunFolder:
    """One run's files. Metrics hold no wall-clock figures, so equal runs have equal bytes; times are in timing.csv.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics: dict[str, MetricLog] = {}
        self._lock: FolderLock | None = None
        self._log: EventLog | None = None

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def create(self, job_text: str) -> None:
        """Start a new run here.

        Raises:
            RunFolderError: the folder holds anything already, is in use, or can't be written.
        """
        with explained(self.path):
            make_folder(self.path)
        self._refuse_unless_empty(job_text)
        self.lock()
        try:
            self._refuse_unless_empty(job_text)  # a run may have come and gone since the first look
        except BaseException:
            self.close()
            raise
        try:
            with explained(self.path):
                sweep(self.path)
                make_folder(self.path / "metrics")
                write_bytes(self.path / "job.yaml", job_text.encode())
        except BaseException:  # nothing may be left that blocks the next try
            with suppress(OSError):
                remove(self.path / "metrics")
                remove(self.path / "lock")
            self.close()
            raise

    def lock(self) -> None:
        """Claim the folder until the process ends or `close`.

        Raises:
            RunFolderError: another process holds it, or it can't be written.
        """
        lock = FolderLock(self.path / "lock")
        with explained(self.path):
            _refuse_links(self.path)
            lock.take()
        self._lock = lock

    def _refuse_unless_empty(self, job_text: str) -> None:
        with explained(self.path):
            present = _present(self.path)
            same = "job.yaml" in present and read_bytes(self.path / "job.yaml") == job_text.encode()
        if present and self._lock is None:
            holder = holder_of(self.path / "lock")
            if holder is not None:
                raise in_use(self.path, holder)
        if same and present == ["job.yaml"]:
            return  # its start was killed before it wrote the manifest, and is made again
        if "job.yaml" in present:
            raise RunFolderError(
                f"{self.path} already holds {'this' if same else 'another'} job's run",
                expected="a new or empty folder",
                fix=f"Continue it with `stepwell resume {self.path}`, or choose another --out",
            )
        if present:
            raise RunFolderError(
                f"{self.path} is not empty ({', '.join(present[:3])})",
                expected="a new or empty folder",
                fix="Choose another --out",
            )

    def append(self, name: str, row: dict[str, Any], *, columns: Sequence[str] = ()) -> None:
        """Append a row to a log such as "metrics/train"; it may have columns that the log has not had so far.

        Args:
            columns: of a new log, where a first row needn't have them all.
        """
        log = self._metrics.get(name)
        if log is None:
            log = self._metrics[name] = MetricLog(self.path / name)
        try:
            log.append(row, columns=columns)
        except OSError:
            with explained(log.path):
                raise

    def event(self, event: Event) -> None:
        """Append to events.jsonl, whose first line hangs on the manifest."""
        if self._log is None:
            with explained(self.path / "manifest.json"):
                manifest = self.path / "manifest.json"
                root = sha256(read_bytes(manifest) if manifest.exists() else b"")
            self._log = EventLog(self.path / "events.jsonl", root)
        self._log.append(event.kind, event.step, event.detail)

    def rewind(self, rows: dict[str, int]) -> None:
        """Drop what was written after the checkpoint that training continues from.

        Args:
            rows: log such as "metrics/train" -> how many rows stay.
        """
        self.close_files()
        for name, count in {**rows, "timing": rows.get("metrics/train", 0)}.items():
            with explained(self.path / name):
                MetricLog(self.path / name).rewind(count)

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file such as result.json."""
        write_json(self.path / name, value)

    def sync(self) -> None:
        """Flush the metrics to the disk; called from the thread that writes checkpoints, which count on their rows."""
        for name, log in list(self._metrics.items()):
            if name != "timing":
                log.sync()

    def close_files(self) -> None:
        """Close what is open for rows; the next one opens it again."""
        for log in self._metrics.values():
            with suppress(OSError):  # every row was written at once, and said so if it couldn't be
                log.close()
        self._metrics.clear()

    def close(self) -> None:
        """Let go of the folder."""
        self.close_files()
        if self._log is not None:
            log, self._log = self._log, None
            with suppress(RunFolderError):  # of a full disk: what ended the run is what is told
                log.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def read_metrics(folder: Path, name: str, start: int = 0, stop: int | None = None) -> list[dict[str, float]]:
    """Rows of the log `metrics/NAME` as numbers, all or those from `start` to before `stop`; empty where there is no such log."""
    rows = MetricLog(folder / "metrics" / name).rows(start, stop)
    return [{key: float(value) for key, value in row.items()} for row in rows]


def read_layers(folder: Path, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """Rows of the log `metrics/layers`: each layer's name, and numbers; which, as `read_metrics`."""
    return [
        {"step": int(row["step"]), "name": _text(row.get("name", ""))}  # a bare layer has none
        | {key: float(value) for key, value in row.items() if key not in ("step", "name")}
        for row in MetricLog(folder / "metrics" / "layers").rows(start, stop)
    ]


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else spelled(cell)  # a layer of a Sequential is called "0"


def _refuse_links(folder: Path) -> None:
    """What is written into a run folder must not end up behind a link that somebody put there."""
    inside = [item for item in folder.iterdir() if item.is_symlink() or item.is_dir()]
    for item in [*inside, *(path for place in inside if not place.is_symlink() for path in place.iterdir())]:
        if item.is_symlink():
            raise RunFolderError(
                f"{item} is a link", expected="the run's own files and folders", fix="Put the folder itself there"
            )
