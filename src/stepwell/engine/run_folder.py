"""The run folder: what a run leaves behind, and the lock that keeps two runs from sharing one."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from stepwell.core.errors import RunFolderError
from stepwell.core.reports import Event
from stepwell.engine.storage import explained, finite_only, write_bytes, write_json


class RunFolder:
    """One run's files. Metrics hold no wall-clock figures, so equal runs have equal bytes; times are in timing.csv.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, tuple[TextIO, list[str]]] = {}
        self._lock: TextIO | None = None

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def create(self, job_text: str) -> None:
        """Start a new run here.

        Raises:
            RunFolderError: the folder holds anything already, is in use, or can't be written.
        """
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            present = [item.name for item in self.path.iterdir() if item.name != "lock"]
        if "job.yaml" in present:
            same = (self.path / "job.yaml").read_text(encoding="utf-8") == job_text
            self._refuse_if_held()
            raise RunFolderError(
                f"{self.path} already holds {'this' if same else 'another'} job's run",
                expected="a new or empty folder",
                fix=f"Continue it with `stepwell resume {self.path}`, or choose another --out",
            )
        if present:
            raise RunFolderError(
                f"{self.path} is not empty ({', '.join(sorted(present)[:3])})",
                expected="a new or empty folder",
                fix="Choose another --out",
            )
        self.lock()
        try:
            with explained(self.path):
                (self.path / "metrics").mkdir(exist_ok=True)
                write_bytes(self.path / "job.yaml", job_text.encode())
        except BaseException:  # nothing may be left that blocks the next try
            with suppress(OSError):
                (self.path / "metrics").rmdir()
                (self.path / "lock").unlink()
            self.close()
            raise

    def lock(self) -> None:
        """Claim the folder until the process ends or `close`.

        Raises:
            RunFolderError: another process holds it, or it can't be written.
        """
        with explained(self.path):
            handle = open(self.path / "lock", "a+", encoding="utf-8")  # noqa: SIM115
        self._hold(handle)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        self._lock = handle

    def _refuse_if_held(self) -> None:
        """Say so if another process works here; the lock's file stays as it is."""
        if (self.path / "lock").exists():
            with open(self.path / "lock", encoding="utf-8") as handle:
                self._hold(handle)

    def _hold(self, handle: TextIO) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            handle.close()
            raise RunFolderError(
                f"{self.path} is in use by process {holder}",
                expected="a folder that no other run writes to",
                fix="Wait for that run to end, or choose another --out",
            ) from error

    def append(self, name: str, row: dict[str, Any], *, columns: Sequence[str] = ()) -> None:
        """Append a row to a CSV file such as "metrics/train"; a new column starts the file anew with it.

        Args:
            columns: of a new file, where a first row needn't have them all.
        """
        path = self.path / f"{name}.csv"
        with explained(path):
            file, columns = self._open(path, list(columns or row))
            if any(key not in columns for key in row):
                file, columns = self._widen(path, [*columns, *(key for key in row if key not in columns)])
            file.write(",".join(_cell(row.get(column)) for column in columns) + "\n")
            file.flush()

    def event(self, event: Event) -> None:
        """Append to events.jsonl."""
        path = self.path / "events.jsonl"
        with explained(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite_only({"kind": event.kind, "step": event.step, **event.detail})) + "\n")

    def rewind(self, rows: dict[str, int]) -> None:
        """Drop what was written after the checkpoint that training continues from.

        Args:
            rows: CSV name such as "metrics/train" -> how many rows stay.
        """
        self.close_files()
        for name, count in {**rows, "timing": rows.get("metrics/train", 0)}.items():
            path = self.path / f"{name}.csv"
            if path.exists():
                kept = read_rows(path)[:count]
                lines = [",".join(kept[0])] if kept else []
                lines += [",".join(value or "" for value in row.values()) for row in kept]
                write_bytes(path, ("\n".join(lines) + "\n").encode() if lines else b"")

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file such as result.json."""
        write_json(self.path / name, value)

    def close_files(self) -> None:
        for file, _ in self._files.values():
            with suppress(OSError):  # every row was flushed, and said so if it couldn't be
                file.close()
        self._files.clear()

    def close(self) -> None:
        """Let go of the folder."""
        self.close_files()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self, path: Path, columns: list[str]) -> tuple[TextIO, list[str]]:
        known = self._files.get(str(path))
        if known is None:
            if path.exists() and path.stat().st_size:
                with open(path, encoding="utf-8", newline="") as old:
                    columns = next(csv.reader(old))
                file = open(path, "a", encoding="utf-8")  # noqa: SIM115
            else:
                path.parent.mkdir(exist_ok=True)
                file = open(path, "w", encoding="utf-8")  # noqa: SIM115
                file.write(",".join(columns) + "\n")
            known = self._files[str(path)] = (file, columns)
        return known

    def _widen(self, path: Path, columns: list[str]) -> tuple[TextIO, list[str]]:
        self._files.pop(str(path))[0].close()
        rows = read_rows(path)
        lines = [",".join(columns)] + [",".join(row.get(column) or "" for column in columns) for row in rows]
        write_bytes(path, ("\n".join(lines) + "\n").encode())
        return self._open(path, columns)


def _cell(value: Any) -> str:
    # repr of a float is the shortest text that reads back to the same bits; nan and inf stay visible as such.
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file; a last line that was cut off by a crash is left out."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(whole.splitlines()) if None not in row.values()]


def read_metrics(folder: Path, name: str) -> list[dict[str, float]]:
    """Rows of `metrics/NAME.csv` as numbers, empty where there is no such file."""
    path = folder / "metrics" / f"{name}.csv"
    if not path.exists():
        return []
    return [{key: float(value) for key, value in row.items() if value != ""} for row in read_rows(path)]


def read_layers(folder: Path) -> list[dict[str, Any]]:
    """Rows of `metrics/layers.csv`: each layer's name, and numbers; empty where there is no such file."""
    path = folder / "metrics" / "layers.csv"
    if not path.exists():
        return []
    rows = read_rows(path)
    return [
        {"step": int(row["step"]), "name": row["name"]}
        | {key: float(value) for key, value in row.items() if value != "" and key not in ("step", "name")}
        for row in rows
    ]
