"""Rows that a run had logged before it was resumed: counted at once, read when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.metric_log import CHUNK, MetricLog
from stepwell.engine.records.run_folder import read_layers, read_metrics


@dataclass
class LaterRows:
    """The first rows of a log in a run folder, and those that came after them in this process.

    Args:
        folder: of the run.
        name: of the log: train, validation or layers.
        num_stored: rows that aren't read yet, from the log's start on.
        added: rows after them.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> log = MetricLog(folder / "metrics" / "train")
    >>> for step in (1, 2, 3): log.append({"step": step})
    >>> rows = LaterRows.of(folder, "train", most=2)
    >>> rows.append({"step": 3.0})
    >>> len(rows), next(reversed(rows)), rows.read()
    (3, {'step': 3.0}, [{'step': 1.0}, {'step': 2.0}, {'step': 3.0}])
    """

    folder: Path
    name: str
    num_stored: int
    added: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(folder: Path, name: str, *, most: int) -> LaterRows:
        """The rows that a log has, at most so many: a power cut can have taken some that a checkpoint counts on."""
        return LaterRows(folder, name, min(MetricLog(folder / "metrics" / name).num_rows, most))

    def __len__(self) -> int:
        return self.num_stored + len(self.added)

    def __bool__(self) -> bool:
        return True  # without rows it still takes those to come

    def append(self, row: dict[str, Any]) -> None:
        self.added.append(row)

    def __reversed__(self) -> Iterator[dict[str, Any]]:
        """From the end on, a stretch of the stored ones at a time."""
        yield from reversed(self.added)
        stop = self.num_stored
        while stop:
            start = (stop - 1) // CHUNK * CHUNK  # one sealed file each
            yield from reversed(self._stored(start, stop))
            stop = start

    def read(self) -> list[dict[str, Any]]:
        """All of them.

        Raises:
            RunFolderError: the folder no longer has the stored ones.
        """
        return self._stored(0, self.num_stored) + self.added

    def _stored(self, start: int, stop: int) -> list[dict[str, Any]]:
        if start >= stop:
            return []
        layers = self.name == "layers"
        rows = read_layers(self.folder, start, stop) if layers else read_metrics(self.folder, self.name, start, stop)
        if len(rows) < stop - start:
            raise RunFolderError(
                f"{self.folder / 'metrics' / self.name} no longer has the rows {start:,} to {stop:,}",
                expected="the run folder where it was when the run went on",
                fix="Look at the history before the folder is moved or removed",
            )
        return rows
