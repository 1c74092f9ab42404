"""Columns of logged rows, sealed: compressed, exact, with the extremes of every 64 rows beside them.

A sealed chunk is an ordinary .npz file, which `numpy.load(path, allow_pickle=False)` opens. Of a column "loss" it holds
"values/loss" (float64, int64 or text, one entry per row), "missing/loss" where some rows have no value, and
"levels/loss", (6, blocks) float64, from which a curve is drawn without reading the rows: see `LEVELS`. "contents" is a
checksum of the list of these.
"""

from __future__ import annotations

import csv
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stepwell.core.errors import RunFolderError
from stepwell.engine.records import storage

BLOCK = 64  # rows that share one entry of the levels
LEVELS = ("low", "high", "first", "last", "num_finite", "num_nonfinite")  # the first four over the finite values, else NaN
CONTENTS = "contents"
MOST_MEMBER = 1 << 28  # bytes of one array: no chunk of ours has more
_EARLIER = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as earlier versions spelled them
# what the readers of archives and arrays raise about files that are neither
DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, SyntaxError, RuntimeError, struct.error, OverflowError)
_NEEDS_QUOTES = frozenset(',"\r\n')

Cell = float | int | str
Levels = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column of logged rows.

    Args:
        values: (rows,) float64, int64 or text. Exactly what was logged.
        missing: (rows,) bool; True where a row has no value. There `values` holds NaN, 0 or "".
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_]

    def __getitem__(self, rows: slice) -> Column:
        return Column(self.values[rows], self.missing[rows])


def spelled(value: Any) -> str:
    """A value as it stands in a CSV cell; a float reads back to the same bits, None is an empty cell.

    >>> [spelled(value) for value in (0.1, float("-inf"), 3, "a,b", None)]
    ['0.1', '-Infinity', '3', '"a,b"', '']
    """
    if isinstance(value, float):
        if math.isfinite(value):
            return float.__repr__(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None:
        return ""
    text = str(value)
    if _NEEDS_QUOTES.isdisjoint(text):
        return text
    text = text.replace("\r", " ").replace("\n", " ").replace('"', '""')  # a row is one line, whatever is in it
    return f'"{text}"'


def line_of(cells: Iterable[Any]) -> str:
    """A CSV line, with its line feed."""
    return (",".join([spelled(cell) for cell in cells]) or '""') + "\n"  # an empty line would be no row


def split_line(line: str) -> list[str]:
    """The cells of a CSV line."""
    return next(csv.reader([line]), []) if '"' in line else line.split(",")


def parse_lines(content: bytes) -> tuple[list[str], list[list[str]]]:
    """Names and rows of a CSV file. A last line without an end is what a crash left; a line of another length is no row.

    >>> parse_lines(b"step,loss\\n1,0.5\\n2,0.")
    (['step', 'loss'], [['1', '0.5']])
    """
    whole = content[: content.rfind(b"\n") + 1].decode("utf-8", errors="replace")
    lines = whole.replace("\r\n", "\n").split("\n")
    names = split_line(lines[0]) if lines[0] else []
    rows = [split_line(line) for line in lines[1:] if line]
    return names, [row for row in rows if len(row) == len(names)]


def column_of(cells: Sequence[str]) -> Column:
    """The narrowest column from which the same cells can be spelled again: whole numbers, floats, or text."""
    missing = np.fromiter((cell == "" for cell in cells), dtype=bool, count=len(cells))
    present = [cell for cell in cells if cell]
    read = _whole(present) or _floats(present)
    if read is None:
        return Column(np.array(cells, dtype=np.str_), missing)
    kind, numbers = read
    values = np.full(len(cells), math.nan if kind is float else 0, dtype=np.float64 if kind is float else np.int64)
    values[~missing] = numbers
    return Column(values, missing)


def column_of_values(values: Sequence[Any]) -> Column | None:
    """The same column from the values themselves, where all are floats, or all whole numbers; None where they aren't."""
    kinds = set(map(type, values))
    if kinds == {float} or (kinds == {int} and max(values) < 2**63 and min(values) >= -(2**63)):
        return Column(np.array(values, dtype=np.float64 if kinds == {float} else np.int64), np.zeros(len(values), dtype=bool))
    return None


def _whole(cells: list[str]) -> tuple[type, list[Any]] | None:
    try:
        numbers = [int(cell) for cell in cells]
    except ValueError:
        return None
    small = bool(numbers) and max(numbers) < 2**63 and min(numbers) >= -(2**63)
    return (int, numbers) if small and list(map(str, numbers)) == cells else None


def _floats(cells: list[str]) -> tuple[type, list[Any]] | None:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    if list(map(repr, numbers)) != cells and [spelled(value) for value in numbers] != [_EARLIER.get(c, c) for c in cells]:
        return None  # such as "007", or whole numbers among floats: the text is kept
    return float, numbers


def cells_of(column: Column) -> list[Cell | None]:
    """The values as Python has them, None where there is none."""
    values: list[Cell | None] = column.values.tolist()
    return [None if gone else value for value, gone in zip(values, column.missing.tolist())] if column.missing.any() else values


def joined(parts: Sequence[tuple[Column | None, int]]) -> Column:
    """One column of several stretches; None stands for a stretch of so many rows without this column."""
    kinds = {part.values.dtype.kind for part, _ in parts if part is not None and not part.missing.all()}
    kind: Any = np.str_ if "U" in kinds else np.int64 if kinds == {"i"} else np.float64
    empty: Cell = "" if "U" in kinds else 0 if kinds == {"i"} else math.nan
    values = []
    for part, rows in parts:
        if part is None or part.missing.all():
            values.append(np.full(rows, empty, dtype=kind))
        elif kind is np.str_ and part.values.dtype.kind != "U":
            values.append(np.array([spelled(cell) for cell in cells_of(part)], dtype=np.str_))
        else:
            values.append(part.values.astype(np.str_ if kind is np.str_ else kind))
    missing = [np.ones(rows, dtype=bool) if part is None else part.missing for part, rows in parts]
    if not values:
        return Column(np.empty(0), np.empty(0, dtype=bool))
    return Column(np.concatenate(values), np.concatenate(missing))


def numbers_of(column: Column) -> NDArray[np.float64] | None:
    """The values as float64, NaN where there is none; None for text that is no number."""
    if column.values.dtype.kind != "U":
        return np.where(column.missing, math.nan, column.values.astype(np.float64))
    try:
        return np.array([float(cell) if cell else math.nan for cell in column.values.tolist()])
    except ValueError:
        return None


def levels_of(column: Column, block: int = BLOCK) -> Levels | None:
    """For each `block` rows their extremes, ends and counts, (6, blocks); None for text.

    >>> levels_of(column_of(["3.0", "1.0", "NaN", "", "2.0"]), 4).tolist()
    [[1.0, 2.0], [3.0, 2.0], [3.0, 2.0], [1.0, 2.0], [2.0, 1.0], [1.0, 0.0]]
    """
    values = numbers_of(column)
    if values is None:
        return None
    blocks = -(-len(values) // block)
    spare = blocks * block - len(values)
    grid = np.pad(values, (0, spare), constant_values=math.nan).reshape(blocks, block)
    there = np.pad(~column.missing, (0, spare)).reshape(blocks, block)
    good = np.isfinite(grid)
    some, every = good.any(axis=1), np.arange(blocks)
    ends = grid[every, good.argmax(axis=1)], grid[every, block - 1 - good[:, ::-1].argmax(axis=1)]
    extremes = np.where(good, grid, math.inf).min(axis=1), np.where(good, grid, -math.inf).max(axis=1)
    told = [np.where(some, part, math.nan) for part in (*extremes, *ends)]
    return np.stack([*told, good.sum(axis=1), (there & ~good).sum(axis=1)]).astype(np.float64)


def packed(columns: dict[str, Column]) -> bytes:
    """The bytes of a sealed chunk; equal columns have equal bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    levels: dict[str, NDArray[Any]] = {}
    for name, column in columns.items():
        arrays[f"values/{name}"] = column.values
        if column.missing.any():
            arrays[f"missing/{name}"] = column.missing
        found = levels_of(column)
        if found is not None:
            levels[f"levels/{name}"] = found
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in (arrays | levels).items():  # the levels lie together, beside the list of contents
            _add(archive, name, array)
        _add(archive, CONTENTS, np.frombuffer(_digest(archive), dtype=np.uint8))
    return file.getvalue()


def _add(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    about = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    about.compress_type, about.create_system, about.external_attr = zipfile.ZIP_DEFLATED, 3, 0o600 << 16
    archive.writestr(about, member.getvalue())


def _digest(archive: zipfile.ZipFile) -> bytes:
    """SHA-256 of the list of contents with their checksums: without it a flipped bit in a name would lose a column."""
    told = [f"{item.filename} {item.CRC} {item.file_size}\n" for item in archive.infolist() if item.filename != f"{CONTENTS}.npy"]
    return bytes.fromhex(storage.sha256("".join(told).encode(errors="replace")))


class Chunk:
    """A sealed chunk on the disk.

    Args:
        path: the file.
        start: number of its first row; stop: of the row after its last.
    """

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self.path, self.start, self.stop = path, start, stop

    def columns(self, names: Sequence[str] | None = None) -> dict[str, Column]:
        """Its columns, or those of these names that it has.

        Raises:
            FileNotFoundError: it is gone.
            RunFolderError: it is damaged.
        """
        rows = self.stop - self.start
        values = self._read("values", names)
        missing = self._read("missing", names)
        none = np.zeros(rows, dtype=bool)
        if any(array.shape != (rows,) for array in (*values.values(), *missing.values())):
            raise self._damaged(f"its columns don't have {rows} rows")
        return {name: Column(array, missing.get(name, none).astype(bool)) for name, array in values.items()}

    def levels(self, names: Sequence[str]) -> dict[str, Levels]:
        """The levels of those of these columns that have some, (6, blocks) each. The rows aren't read."""
        found = self._read("levels", names)
        shape = (len(LEVELS), -(-(self.stop - self.start) // BLOCK))
        if any(array.shape != shape or array.dtype != np.float64 for array in found.values()):
            raise self._damaged("its levels don't fit its rows")
        return found

    def names(self) -> list[str]:
        """Its columns' names, in order."""
        with self._opened() as archive:
            return [_name(item.filename) for item in archive.infolist() if item.filename.startswith("values/")]

    def check(self, archive: zipfile.ZipFile) -> None:
        """That the archive lists what was written into it; each part has a checksum that is checked when it is read."""
        listed = [item for item in archive.infolist() if item.filename == f"{CONTENTS}.npy"]
        if not listed or self._member(archive, listed[0]).tobytes() != _digest(archive):
            raise ValueError("its list of contents isn't what was written")

    def _read(self, kind: Literal["values", "missing", "levels"], names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
        found = {}
        with self._opened() as archive:
            for item in archive.infolist():
                if item.filename.startswith(f"{kind}/") and (names is None or _name(item.filename) in names):
                    found[_name(item.filename)] = self._member(archive, item)
        return found

    def _member(self, archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> NDArray[Any]:
        if item.file_size > MOST_MEMBER:
            raise ValueError(f"{item.filename} has {item.file_size} bytes")
        content = archive.read(item)
        file = io.BytesIO(content)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{item.filename} is of another format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject or dtype.kind not in "fiubU" or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"{item.filename} is no plain array")
        return np.frombuffer(content, dtype=dtype, offset=file.tell()).reshape(shape)

    def _opened(self) -> _Archive:
        return _Archive(self)

    def _damaged(self, why: object) -> RunFolderError:
        return RunFolderError(
            f"{self.path} can't be read: {why}",
            expected="logged rows as the run sealed them",
            fix="Put the file back from a copy; weights and checkpoints don't depend on it",
        )


class _Archive:
    """A chunk's archive, open; what is wrong inside is told as damage."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk

    def __enter__(self) -> zipfile.ZipFile:
        self._file = storage.opened(self._chunk.path)
        try:
            archive = zipfile.ZipFile(self._file)
            self._chunk.check(archive)
            return archive
        except DAMAGE as error:
            self._file.close()
            raise self._chunk._damaged(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if isinstance(error, DAMAGE):
            raise self._chunk._damaged(error) from error


def _name(filename: str) -> str:
    return filename.split("/", 1)[1].removesuffix(".npy")
