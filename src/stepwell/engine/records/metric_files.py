"""Which files hold which rows of a log, and reading them as they are at one moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stepwell.engine.records import storage
from stepwell.engine.records.metric_chunk import (
    BLOCK,
    Cell,
    Chunk,
    Column,
    Levels,
    cells_of,
    column_of,
    joined,
    levels_of,
    parse_lines,
)
from stepwell.engine.records.metric_curve import Curve, merged, together

_NAME = re.compile(r"(\d{9,18})(?:-(\d{9,18})\.npz|\.csv)")
_LISTINGS = 200


def tail_path(path: Path, start: int) -> Path:
    """Where the rows from row `start` on are appended."""
    return path.with_name(path.name + ".csv") if start == 0 else path / f"{start:09d}.csv"


def chunk_path(path: Path, start: int, stop: int) -> Path:
    """Where the rows from `start` to before `stop` are sealed."""
    return path / f"{start:09d}-{stop:09d}.npz"


@dataclass(frozen=True)
class Layout:
    """Which files hold which rows.

    Args:
        chunks: sealed ones that follow each other without a gap, from row 0.
        tail: the file with the rows after them, and the row it starts with; None where there is none.
        left_over: tails whose rows are all sealed or in the later tail: what a kill between two calls left.
        out_of_reach: files after a gap.
    """

    chunks: list[Chunk]
    tail: tuple[Path, int] | None
    left_over: list[Path]
    out_of_reach: list[Path]

    @property
    def num_sealed(self) -> int:
        return self.chunks[-1].stop if self.chunks else 0


def layout_of(path: Path) -> Layout:
    """The files of a log, as two listings in a row show them: one alone could miss what was renamed while it went on."""
    seen = _listed(path)
    for _ in range(_LISTINGS):
        before, seen = seen, _listed(path)
        if before == seen:
            break
    tails, sealed = {start: tail_path(path, start) for start, stop in seen if stop is None}, {}
    for start, stop in sorted((start, stop) for start, stop in seen if stop is not None and stop > start):
        sealed[start] = Chunk(chunk_path(path, start, stop), start, stop)  # the longest of those with one start
    chunks, position = [], 0
    while position in sealed:
        chunks.append(sealed.pop(position))
        position = chunks[-1].stop
    near = sorted(start for start in tails if start <= position)
    beyond = [tails[start] for start in tails if start > position]
    beyond += [chunk.path for start, chunk in sealed.items() if start > position]
    tail = (tails[near[-1]], near[-1]) if near else None
    return Layout(chunks, tail, [tails[start] for start in near[:-1]], sorted(beyond))


def _listed(path: Path) -> list[tuple[int, int | None]]:
    """First row and, of sealed ones, the end."""
    try:
        names = [item.name for item in path.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    found = [_NAME.fullmatch(name) for name in sorted(names)]
    inside = [(int(part[1]), None if part[2] is None else int(part[2])) for part in found if part is not None]
    return [(0, None), *inside] if tail_path(path, 0).exists() or tail_path(path, 0).is_symlink() else inside


class Snapshot:
    """The rows of a log as they are at one moment.

    Args:
        layout: its files.

    Raises:
        FileNotFoundError: the writer moved rows since the files were listed.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tail_names: list[str] = []
        self.tail_cells: list[list[str]] = []
        if layout.tail is not None:
            path, start = layout.tail
            self.tail_names, cells = parse_lines(storage.read_bytes(path))
            self.tail_cells = cells[layout.num_sealed - start :]

    @property
    def num_rows(self) -> int:
        return self.layout.num_sealed + len(self.tail_cells)

    @cached_property
    def tail(self) -> dict[str, Column]:
        cells = zip(*self.tail_cells) if self.tail_cells else [()] * len(self.tail_names)
        return {name: column_of(column) for name, column in zip(self.tail_names, cells)}

    def names(self) -> list[str]:
        """Of all columns, in the order in which they first appeared."""
        return list(dict.fromkeys([name for chunk in self.layout.chunks for name in chunk.names()] + self.tail_names))

    def columns(self, names: Sequence[str]) -> dict[str, Column]:
        """Whole columns; what a stretch has not is missing there."""
        stretches = [(chunk.columns(names), chunk.stop - chunk.start) for chunk in self.layout.chunks]
        stretches.append((self.tail, len(self.tail_cells)))
        return {name: joined([(found.get(name), rows) for found, rows in stretches]) for name in names}

    def rows(self, start: int, stop: int | None) -> list[dict[str, Cell]]:
        """Rows by number, without what they have no value for."""
        rows: list[dict[str, Cell]] = []
        for chunk in self.layout.chunks:
            if chunk.stop > start and (stop is None or chunk.start < stop):
                rows += rows_of(chunk.columns(), start - chunk.start, None if stop is None else stop - chunk.start)
        sealed = self.layout.num_sealed
        if stop is None or stop > sealed:
            rows += rows_of(self.tail, start - sealed, None if stop is None else stop - sealed)
        return rows

    def curves(self, names: Sequence[str], most_points: int) -> dict[str, Curve]:
        """Columns of numbers as at most so many points; where that is fewer than rows, from the levels alone."""
        whole = self.num_rows <= most_points
        columns = self.columns(names) if whole else {}
        stretches: list[tuple[dict[str, Levels], int]] = []
        if whole:
            stretches.append((_levels(columns, 1), self.num_rows))
        else:
            stretches = [(chunk.levels(names), -(-(chunk.stop - chunk.start) // BLOCK)) for chunk in self.layout.chunks]
            stretches.append((_levels(self.tail, BLOCK), -(-len(self.tail_cells) // BLOCK)))
        found = {name: together([(levels.get(name), blocks) for levels, blocks in stretches]) for name in names}
        return {name: Curve.of(merged(levels, most_points)) for name, levels in found.items() if levels is not None}


def _levels(columns: dict[str, Column], block: int) -> dict[str, Levels]:
    found = {name: levels_of(column, block) for name, column in columns.items()}
    return {name: levels for name, levels in found.items() if levels is not None}


def rows_of(columns: dict[str, Column], start: int, stop: int | None) -> list[dict[str, Cell]]:
    """Columns as rows, from `start` (below 0: from 0) to before `stop`."""
    cut = slice(max(start, 0), stop)
    cells = [cells_of(column[cut]) for column in columns.values()]
    if not any(column.missing[cut].any() for column in columns.values()):
        return [dict(zip(columns, row)) for row in zip(*cells)]
    return [{name: cell for name, cell in zip(columns, row) if cell is not None} for row in zip(*cells)]
