"""A table that grows row by row: its last rows as CSV, whole stretches before them sealed as compressed columns.

Rows go to `train.csv`, one line each. When it holds CHUNK rows they move to `train/000000000-000008192.npz`, and
the rows after them go to `train/000008192.csv`: every file's name says with which row it starts. What a kill between two
calls leaves behind counts once: rows that are sealed are read from there, whatever else still holds them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from stepwell.core.errors import RunFolderError
from stepwell.engine.records import storage
from stepwell.engine.records.metric_chunk import (
    Cell,
    Chunk,
    Column,
    cells_of,
    column_of,
    column_of_values,
    line_of,
    packed,
    parse_lines,
)
from stepwell.engine.records.metric_curve import Curve
from stepwell.engine.records.metric_files import Snapshot, chunk_path, layout_of, tail_path

logger = logging.getLogger("stepwell.metrics")
CHUNK = 8192  # rows of a sealed chunk
_PATIENCE = 200  # readings begun anew because the writer moved rows meanwhile
_Read = TypeVar("_Read")


class MetricLog:
    """A log of rows, to write or to read. Readers never see half a row, nor one twice, while another process writes.

    Values are floats, whole numbers and short text, and come back exactly. A row needn't have all columns, and may
    bring new ones.

    Args:
        path: without a suffix, such as runs/first/metrics/train.

    >>> import tempfile
    >>> log = MetricLog(Path(tempfile.mkdtemp()) / "train")
    >>> log.append({"step": 1, "loss": 0.5})
    >>> log.append({"step": 2, "loss": float("inf"), "name": "relu"})
    >>> log.rows()
    [{'step': 1, 'loss': 0.5}, {'step': 2, 'loss': inf, 'name': 'relu'}]
    >>> log.close()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: list[str] | None = None  # of the tail, or of the next one; None: not open for writing
        self._known: frozenset[str] = frozenset()
        self._start = self._count = 0  # the tail's first row, and how many rows it holds
        self._appender: storage.Appender | None = None  # None: the tail's file isn't there yet
        self._values: list[list[Any]] | None = None  # of all the tail's rows, where this object wrote them all
        self._guard = threading.Lock()  # the file isn't closed while another thread flushes it
        self._fresh = self._created = False  # since the last flush: a row was appended; the file was created

    @property
    def num_rows(self) -> int:
        return self._reading(lambda seen: seen.num_rows)

    def names(self) -> list[str]:
        """Of all columns, in the order in which they first appeared."""
        return self._reading(lambda seen: seen.names())

    def rows(self, start: int = 0, stop: int | None = None) -> list[dict[str, Cell]]:
        """Rows by number, each without the columns that it has no value for.

        Args:
            start: number of the first one, >= 0.
            stop: number of the one after the last, or None for all.

        Raises:
            RunFolderError: a sealed chunk is damaged.
        """
        return self._reading(lambda seen: seen.rows(start, stop))

    def columns(self, names: Sequence[str] | None = None) -> dict[str, Column]:
        """Whole columns, (num_rows,) each; a name that was never logged is missing everywhere.

        Raises:
            RunFolderError: a sealed chunk is damaged.
        """
        return self._reading(lambda seen: seen.columns(seen.names() if names is None else names))

    def curves(self, names: Sequence[str] | None = None, *, most_points: int) -> dict[str, Curve]:
        """Columns of numbers as curves; of a log with more rows than points, the sealed rows aren't read for it.

        Args:
            names: of columns; None for all. Text has no curve.
            most_points: >= 1. A log of at most so many rows has a point for each row.

        Raises:
            RunFolderError: a sealed chunk is damaged.
        """
        return self._reading(lambda seen: seen.curves(seen.names() if names is None else names, most_points))

    def curve(self, name: str, most_points: int) -> Curve:
        """One column's curve; without points where it has no numbers. See `curves`."""
        return self.curves([name], most_points=most_points).get(name, Curve.empty())

    def gap(self) -> str:
        """What keeps some rows from being read, in words; "" where nothing does."""
        layout = layout_of(self.path)
        if not layout.out_of_reach:
            return ""
        return f"{self.path.name}: a file is missing before {layout.out_of_reach[0].name}; the rows from there on are left out"

    def append(self, row: Mapping[str, Cell | None], *, columns: Sequence[str] = ()) -> None:
        """Write a row: one line, in one call.

        Args:
            row: column -> value; None is no value.
            columns: names and order of a new log's columns, where a first row needn't have them all.

        Raises:
            OSError, RunFolderError: it could not be written; the rows before it are whole.
        """
        names = self._names
        if names is None:
            names = self._open()
        if not row.keys() <= self._known:
            names = self._widen([*columns, *row])
        values = [*map(row.get, names)]
        line = line_of(values)
        if self._appender is None:
            self._begin_tail(line_of(names) + line)
            self._values = [values]
        else:
            self._appender.append(line.encode())
            self._fresh = True
            if self._values is not None:
                self._values.append(values)
        self._count += 1
        if self._count >= CHUNK:
            self._seal()

    def sync(self) -> None:
        """Flush what was appended to the disk; may be called from another thread than `append`."""
        with self._guard:
            if self._appender is None:  # what is sealed or was replaced was flushed then
                return
            if self._fresh:
                self._flush(self._appender)
            if self._created:
                self._created = False
                storage.flush_folder(self.path.parent)

    def rewind(self, num_rows: int) -> None:
        """Drop all rows but the first `num_rows`. A kill in between leaves more rows, never fewer.

        Raises:
            OSError, RunFolderError: it could not be done.
        """
        self._open()
        layout = layout_of(self.path)
        if num_rows < layout.num_sealed:
            self.close()
            if layout.tail is not None:
                storage.remove(layout.tail[0])
            for chunk in reversed(layout.chunks):
                if num_rows < chunk.stop:
                    self._drop(chunk, num_rows - chunk.start)
            storage.flush_folder(self.path)
        else:
            self._cut_tail(num_rows - layout.num_sealed)
            if self._start + self._count < num_rows:
                held = self._start + self._count
                logger.warning("%s holds %d rows where a checkpoint counts on %d", self.path, held, num_rows)
        self.close()

    def close(self) -> None:
        """Let go of the file; a later `append` opens it again."""
        self._names = self._values = None
        self._change_file(None)

    def _change_file(self, appender: storage.Appender | None) -> None:
        with self._guard:
            before, self._appender = self._appender, appender
            try:
                if before is not None and self._fresh:
                    self._flush(before)
            finally:
                self._fresh = appender is not None
                if before is not None:
                    before.close()

    def _flush(self, appender: storage.Appender) -> None:
        self._fresh = False  # before the flush: a row that comes during it is flushed again next time
        try:
            appender.sync()
        except OSError:
            self._fresh = True
            raise

    def _reading(self, use: Callable[[Snapshot], _Read]) -> _Read:
        for _ in range(_PATIENCE):
            try:
                return use(Snapshot(layout_of(self.path)))
            except FileNotFoundError:  # the writer has just sealed or rewound: the rows are in another file now
                continue
        raise RunFolderError(
            f"{self.path} can't be read: its files come and go", expected="one run that writes there", fix="Try again later"
        )

    def _open(self) -> list[str]:
        """Find the end, and finish what a kill left half done; the names of the columns so far."""
        self.close()
        storage.make_folder(self.path.parent)
        storage.sweep(self.path)
        layout = layout_of(self.path)
        for path in layout.out_of_reach:
            logger.warning("%s comes after a gap in the rows and is set aside", path)
            storage.rename(path, path.with_name(path.name + ".out-of-reach"))
        for path in layout.left_over:
            storage.remove(path)
        names = layout.chunks[-1].names() if layout.chunks else []
        start = layout.num_sealed
        cells: list[list[str]] = []
        if layout.tail is not None:
            path = _without_torn_end(layout.tail[0])
            found, cells = parse_lines(storage.read_bytes(path))
            names, cells = found or names, cells[start - layout.tail[1] :]
            if layout.tail[1] < start or not cells:
                self._replace_tail(path, found, cells, start)
        self._names, self._known, self._start, self._count = names, frozenset(names), start, len(cells)
        if cells:
            self._change_file(storage.Appender(tail_path(self.path, start)))
        if len(cells) >= CHUNK:
            self._seal()
        return self._names if self._names is not None else self._open()

    def _begin_tail(self, lines: str) -> None:
        """Create the file of the rows from here on, with its names and its first row in one call."""
        appender = storage.Appender(tail_path(self.path, self._start))
        try:
            appender.append(lines.encode())
        except BaseException:
            appender.close()
            raise
        self._created = True
        self._change_file(appender)

    def _widen(self, names: Iterable[str]) -> list[str]:
        """Give the tail the columns that it lacks; all names."""
        assert self._names is not None
        known = list(dict.fromkeys([*self._names, *names]))
        if self._appender is not None:
            path, spare = self._appender.path, [""] * (len(known) - len(self._names))
            _, cells = parse_lines(storage.read_bytes(path))
            storage.write_bytes(path, "".join([line_of(known), *(line_of([*row, *spare]) for row in cells)]).encode())
            self._change_file(storage.Appender(path))
            self._values = None
        self._names, self._known = known, frozenset(known)
        return known

    def _seal(self) -> None:
        """Move the tail's first CHUNK rows into a chunk; they leave the tail when the chunk is on the disk."""
        start, path, names = self._start, tail_path(self.path, self._start), self._names or []
        parts = zip(names, zip(*(self._values or [])))
        columns = {name: column for name, part in parts if (column := column_of_values(part)) is not None}
        rest: list[list[str]] = []
        self.close()
        if len(columns) < max(len(names), 1):
            names, cells = parse_lines(storage.read_bytes(path))
            columns = {name: column_of(part) for name, part in zip(names, zip(*cells[:CHUNK]))}
            rest = cells[CHUNK:]
        storage.make_folder(self.path)
        storage.write_bytes(chunk_path(self.path, start, start + CHUNK), packed(columns))
        self._replace_tail(path, names, rest, start + CHUNK)
        if not rest:
            self._names, self._start, self._count = names, start + CHUNK, 0

    def _replace_tail(self, old: Path, names: list[str], cells: list[list[str]], start: int) -> None:
        """Put a tail that starts with row `start` in the place of one that starts earlier; none where there are no rows."""
        if cells:
            storage.write_bytes(tail_path(self.path, start), "".join([line_of(names), *map(line_of, cells)]).encode())
        storage.remove(old)

    def _drop(self, chunk: Chunk, num_rows: int) -> None:
        """Take away a chunk, but for its first `num_rows` rows, which become the tail."""
        if num_rows > 0:
            columns = chunk.columns()
            rows = zip(*(cells_of(column[:num_rows]) for column in columns.values()))
            storage.write_bytes(tail_path(self.path, chunk.start), "".join([line_of(columns), *map(line_of, rows)]).encode())
        storage.remove(chunk.path)

    def _cut_tail(self, num_rows: int) -> None:
        if self._appender is None or num_rows >= self._count:
            return
        path = self._appender.path
        self.close()
        if num_rows == 0:
            storage.remove(path)
            return
        lines = storage.read_bytes(path).split(b"\n")
        ends = list(accumulate(len(line) + 1 for line in lines))
        head = lines[0] + b"\n"
        whole = [ends[at] for at, line in enumerate(lines[1:-1], 1) if parse_lines(head + line + b"\n")[1]]
        storage.cut(path, whole[num_rows - 1])


def _without_torn_end(path: Path) -> Path:
    """The file, after what a kill left of an unfinished line is gone."""
    content = storage.read_bytes(path)
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        storage.cut(path, whole)
    return path
