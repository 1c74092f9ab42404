"""Tables read from CSV and Parquet files, strictly: what can't be a table is refused with its line."""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.core.errors import DataError, nearest
from stepwell.data.limits import MOST_COLUMNS, refuse_growth, require_modest_gzip

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Table", "read_table"]


@dataclass(frozen=True)
class Table:
    """A frame that knows which file it came from.

    Args:
        frame: the rows, numbered from 0.
        path: the file, or None for a frame made in Python.
        separator: of a CSV file.
    """

    frame: DataFrame
    path: Path | None = None
    separator: str = ","

    def where(self, row: int) -> str | None:
        """Where a row stands: "credit.csv:301" (a line) or "credit.parquet, row 300"."""
        if self.path is None:
            return None
        if self.path.suffix.lower() in _PARQUET:
            return f"{self.path.name}, row {row}"
        return f"{self.path.name}:{_line_of(self.path, self.separator, row)}"

    def column(self, name: str, what: str) -> Any:
        """A column's values as a numpy array.

        Raises:
            DataError: there is no such column.
        """
        self.require([name], what)
        return values_of(self.frame[name])

    def require(self, names: list[str], what: str) -> None:
        """Refuse a table without these columns, naming the nearest one."""
        for name in names:
            if name not in self.frame.columns:
                raise DataError(
                    f"{what} {name!r} is missing",
                    expected="a column of that name",
                    fix=nearest(name, [str(column) for column in self.frame.columns]),
                    where=self.path.name if self.path else None,
                )


_PARQUET = (".parquet", ".pq")


def read_table(path: Path, *, separator: str = ",") -> Table:
    """Read a CSV or Parquet file.

    Args:
        path: a file ending in .parquet or .pq, or text with a header line (also .gz).
        separator: between the columns of a CSV file.

    Raises:
        DataError: an empty file, a header only, ragged rows, two columns of one name, or bytes that are no such file.
    """
    if len(separator) != 1:
        raise DataError(f"the separator is {separator!r}", expected="one character", fix='Write for example separator: ";"')
    if path.is_dir():
        raise DataError(f"{path.name} is a folder", expected="a CSV or Parquet file", fix="Name a file in it")
    if path.stat().st_size == 0:
        raise DataError(
            f"{path.name} is empty", expected="a header line and rows", fix="Check how the file was made", where=path.name
        )
    frame = _read_parquet(path) if path.suffix.lower() in _PARQUET else _read_csv(path, separator)
    frame.columns = [str(name).strip() for name in frame.columns]
    double = sorted(name for name, count in Counter(frame.columns).items() if count > 1)
    if double:
        raise DataError(
            f"two columns are called {double[0]!r}", expected="one name per column", fix="Rename one", where=f"{path.name}:1"
        )
    if len(frame) == 0:
        raise _without_rows(path)
    return Table(frame, path, separator)


def _without_rows(path: Path) -> DataError:
    return DataError(
        f"{path.name} has a header but no rows",
        expected="at least one row",
        fix="Check how the file was made",
        where=path.name,
    )


def values_of(column: Any) -> Any:
    """A pandas column as a numpy array: numbers, truth values, times, or objects where there is text."""
    import numpy as np

    kind = getattr(column.dtype, "kind", "O")
    if kind == "M":
        return (column.dt.tz_localize(None) if getattr(column.dtype, "tz", None) else column).to_numpy()
    if kind in "iuf":
        # Nullable whole numbers with gaps become floats with NaN, as numpy has no other way to say it.
        return column.to_numpy(dtype="float64", na_value=np.nan) if column.isna().any() else column.to_numpy(dtype=_plain(column))
    if kind == "b" and not column.isna().any():
        return column.to_numpy(dtype="bool")
    return column.astype(object).to_numpy()


def _plain(column: Any) -> str:
    return str(getattr(column.dtype, "numpy_dtype", column.dtype))


def _read_parquet(path: Path) -> DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        facts = pyarrow.parquet.read_metadata(path)
        schema = facts.schema.to_arrow_schema()
        # A run of equal values costs nothing in the file: numbers of rows are believed, and take eight bytes each.
        refuse_growth(path, facts.num_rows * facts.num_columns * 8, fix="Write it again as CSV")
        _refuse_width(path, facts.num_columns)
        nested = [name for name, kind in zip(schema.names, schema.types) if pyarrow.types.is_nested(kind)]
        if nested:
            raise DataError(
                f"column {nested[0]!r} of {path.name} holds lists or records",
                expected="one number or text per row",
                fix="Make a column of each of its parts, or leave it out of the file",
                where=path.name,
            )
        # One thread: the order in which a pool finishes must never matter, and reading is not what takes time.
        frame: DataFrame = pyarrow.parquet.read_table(path, use_threads=False).to_pandas(date_as_object=False)
        return frame
    except (DataError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        raise DataError(
            f"{path.name} can't be read as Parquet ({_first_line(error)})",
            expected="a Parquet file",
            fix="Write it again, or name a CSV file",
            where=path.name,
        ) from error


def _read_csv(path: Path, separator: str) -> DataFrame:
    # Arrow's reader refuses ragged rows; pandas' own fills short ones with missing values, silently.
    import pyarrow
    import pyarrow.csv

    parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    if path.suffix == ".gz":
        require_modest_gzip(path)
    _refuse_width(path, _most_columns(path, separator))
    try:
        table = pyarrow.csv.read_csv(
            path, read_options=pyarrow.csv.ReadOptions(use_threads=False), parse_options=parse, convert_options=convert
        )
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        _explain(path, separator, error)
        raise DataError(
            f"{path.name} can't be read as CSV ({_first_line(error)})",
            expected="text with a header line and one row per line",
            fix="Check the file, and the separator setting",
            where=path.name,
        ) from error
    try:
        names = table.column_names
    except UnicodeDecodeError:
        raise _not_text(path, "the header") from None
    for name, kind in zip(names, table.schema.types):
        if pyarrow.types.is_binary(kind):
            raise _not_text(path, f"column {name!r}")
    _suggest_separator(path, separator, names)
    frame: DataFrame = table.to_pandas(date_as_object=False)
    return frame


def _explain(path: Path, separator: str, error: Exception) -> None:
    """Find the first ragged line; silent when there is none."""
    try:
        with _opened(path) as file:
            rows = csv.reader(file, delimiter=separator)
            header = next((row for row in rows if row), None)
            if header is None:
                what = f"{path.name} holds nothing but empty lines"
                raise DataError(what, expected="a header line and rows", fix="Check how the file was made", where=path.name)
            width, num_rows = len(header), 0
            for row in rows:
                num_rows += bool(row)
                if row and len(row) != width:
                    raise DataError(
                        f"this row has {len(row)} fields, the header has {width}",
                        expected="the same number of fields in every row",
                        fix="Correct the row; put quotes around text that holds the separator",
                        where=f"{path.name}:{rows.line_num}",
                    ) from error
            if not num_rows:
                raise _without_rows(path) from error
    except (UnicodeDecodeError, csv.Error) as wrong:
        raise _not_text(path, "the file") from wrong
    except (OSError, EOFError, zlib.error):  # no whole gzip file: the reader has said so
        return


def _most_columns(path: Path, separator: str) -> int:
    """How many columns the header has at most; a separator inside quotes counts too."""
    import gzip

    count = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while (piece := file.read(1 << 16)) and count <= MOST_COLUMNS:
                start = len(piece) - len(piece.lstrip(b"\r\n")) if not count else 0  # empty lines before the header
                line, end, _ = piece[start:].partition(b"\n")
                count += line.count(separator.encode())
                if end:
                    break
    except (OSError, EOFError, zlib.error):
        return 0
    return count + 1


def _refuse_width(path: Path, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{path.name} has more than {MOST_COLUMNS:,} columns",
            expected=f"at most {MOST_COLUMNS:,}",
            fix="Save the numbers as an array, and use source: npz or npy",
            where=path.name,
        )


def _suggest_separator(path: Path, separator: str, names: list[str]) -> None:
    others = [other for other in (";", "\t", "|", ",") if other != separator and len(names) == 1 and other in names[0]]
    if others:
        raise DataError(
            f"{path.name} has one column, {names[0][:60]!r}",
            expected=f"columns separated by {separator!r}",
            fix=f"Add separator: {others[0]!r} to data",
            where=f"{path.name}:1",
        )


def _line_of(path: Path, separator: str, row: int) -> int:
    # Quoted fields may hold line ends, so lines are counted by reading; only done for messages.
    try:
        with _opened(path) as file:
            rows = csv.reader(file, delimiter=separator)
            seen = -1  # the header is row -1
            before = 0
            for fields in rows:
                if fields and seen == row:
                    return before + 1
                seen += 1 if fields else 0
                before = rows.line_num
    except (OSError, UnicodeDecodeError, csv.Error):
        pass
    return row + 2


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        import gzip

        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _not_text(path: Path, what: str) -> DataError:
    return DataError(
        f"{what} of {path.name} is not UTF-8 text" if what != "the file" else f"{path.name} is not UTF-8 text",
        expected="a CSV file in UTF-8",
        fix="Save it as UTF-8, or name a .parquet file",
        where=path.name,
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
