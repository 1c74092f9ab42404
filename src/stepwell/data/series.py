"""The data source "series": windows of a time series in a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.columns import CategoryColumn, NumericColumn, numbers_of
from stepwell.data.examples import Examples, WindowExamples
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import Parts, SplitSpec, split_indices
from stepwell.data.table_source import as_table
from stepwell.data.tables import Table
from stepwell.data.targets import Target, TargetEncoder, is_missing

__all__ = ["Series", "SeriesReader"]


@dataclass(frozen=True)
class SeriesReader:
    """How rows of a time series become windows: numbers standardised, categories one-hot, known columns shifted.

    Args:
        numeric, categories: columns whose past is seen.
        known: columns that are known ahead of time (a calendar): at each step of a window stands the value `horizon`
            rows later, so the last step holds the one of the target's own row.
        length: T, rows per window.
        horizon: rows from a window's last row to its target.
        time: column that orders the rows, or None for the file's order.
        separator: of CSV files.
    """

    numeric: tuple[NumericColumn, ...]
    categories: tuple[CategoryColumn, ...]
    known: tuple[NumericColumn | CategoryColumn, ...]
    length: int
    horizon: int
    time: str | None = None
    separator: str = ","

    kind = "series"

    def encode(self, table: Table) -> Tensor:
        """A table's rows, (R, D) float32.

        Raises:
            DataError: missing columns, gaps, or values that aren't finite.
        """
        seen: tuple[NumericColumn | CategoryColumn, ...] = (*self.numeric, *self.categories)
        past = [_features(column, table) for column in seen]
        for column in self.known:
            ahead = _features(column, table)
            # The last rows have no value ahead; no window with a target ends there.
            past.append(torch.cat([ahead[self.horizon :], ahead[-1:].expand(min(self.horizon, len(ahead)), -1)]))
        return torch.cat(past, dim=1)

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Every full window of a file or frame; without targets, those that look past the end too."""
        table = ordered(as_table(data, self.separator), self.time)
        name = target.names[0]
        if with_targets == "required":
            table.require([name], "target column")
        series = self.encode(table)
        if name in table.frame.columns:
            targets = target.encode(table.column(name, "target column"), where=table.where, part="this file")
            return WindowExamples(series, targets, length=self.length, horizon=self.horizon)
        ahead = 0 if self.known else self.horizon
        rows = torch.arange(self.length + self.horizon - 1, len(series) + ahead)
        return WindowExamples(series, None, length=self.length, horizon=self.horizon, rows=rows)

    def signature(self, num_outputs: int) -> Signature:
        width = sum(_width(column) for column in (*self.numeric, *self.categories, *self.known))
        return Signature("series", (self.length, width), num_outputs)

    def to_dict(self) -> dict[str, Any]:
        columns = {name: [_column_dict(column) for column in getattr(self, name)] for name in ("numeric", "categories", "known")}
        return columns | {name: getattr(self, name) for name in ("length", "horizon", "time", "separator")}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> SeriesReader:
        columns = {name: tuple(_column(column) for column in value[name]) for name in ("numeric", "categories", "known")}
        return SeriesReader(**(value | columns))


@source("series")
class Series(DataSource):
    """A time series in a CSV or Parquet file: each target is predicted from the `length` rows that end `horizon` before it.

    The parts are cut by time: statistics come from the training part, whose windows see nothing later. Windows of
    later parts may reach back into earlier rows, as they would in use.

    Args:
        path: the file, relative to the job file.
        target: the column to predict.
        features: columns whose past is seen (the target may be among them); all but the time, split and known columns
            where None.
        length: T, rows per window, >= 1.
        horizon: rows ahead, >= 1.
        known: columns known ahead of time, e.g. the day of the week: the value of the target's row is seen.
        categorical: which columns are categories; those that hold text or truth values where None. They become one-hot.
        time: column that orders the rows; the file's order where None.
        separator: between the columns of a CSV file.
    """

    path: str
    target: str
    features: list[str] | None = None
    length: int = 5
    horizon: int = 1
    known: list[str] | None = None
    categorical: list[str] | None = None
    time: str | None = None
    separator: str = ","

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("series", task, "regression", "binary", "classification")
        split = split.filled(validation=0.2, test=0.2, by="time")
        refuse_split("series", split, "time", "column")
        for name, value in (("length", self.length), ("horizon", self.horizon)):
            if value < 1:
                raise DataError(f"data.{name} is {value}", expected="a whole number above 0", fix=f"Write for example {name}: 5")
        path = existing(self.path, base=base)
        table = ordered(as_table(path, self.separator), self.time)
        table.require([self.target], "target column")
        first = self.length + self.horizon - 1
        if len(table.frame) <= first + 1:
            raise DataError(
                f"the series has {len(table.frame)} rows, too few for windows of {self.length}",
                expected=f"more than {first + 1} rows",
                fix="Use a longer series or a smaller length",
                where=path.name,
            )
        parts = self._parts(table, split, first, seed)
        # What the training windows see, and no row after it.
        seen = Table(table.frame.iloc[: int(parts.train.max()) + 1], path, self.separator)
        reader = self._fit(seen, split)
        values = table.column(self.target, "target column")
        chosen = parts.train.numpy()
        target = TargetEncoder.fit(
            values[chosen], task=task, names=(self.target,), where=lambda row: table.where(int(chosen[row]))
        )
        rest = torch.cat([torch.arange(first), parts.train, parts.validation, parts.test])
        targets = torch.zeros(len(values), dtype=torch.int64 if task == "classification" else torch.float32)
        kept = rest[first:].numpy()
        targets[rest[first:]] = target.encode(values[kept], where=lambda row: table.where(int(kept[row])), part="a later part")
        series = reader.encode(table)

        def examples(rows: Tensor) -> Examples | None:
            return WindowExamples(series, targets, length=self.length, horizon=self.horizon, rows=rows) if len(rows) else None

        train = examples(parts.train)
        assert train is not None
        preparation = Preparation(source="series", reader=reader, target=target)
        return LoadedData(
            name="series",
            train=train,
            validation=examples(parts.validation),
            test=examples(parts.test),
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint_of([path]),
        )

    def _parts(self, table: Table, split: SplitSpec, first: int, seed: int) -> Parts:
        # Rows before the first full window have no part; they are only looked back at.
        if split.by == "time":
            cut = split_indices(len(table.frame) - first, split, seed=seed)
            return Parts(cut.train + first, cut.validation + first, cut.test + first)
        flags = table.column(split.column or "", "split column")[first:]
        cut = split_indices(len(flags), SplitSpec(validation=0.0, by="column", column=split.column), groups=flags, seed=seed)
        train, validation = cut.train + first, cut.validation + first
        if split.validation and not len(validation):
            size = max(round(len(train) * split.validation), 1)
            train, validation = train[:-size], train[-size:]
        later = torch.cat([validation, cut.test + first])
        if len(train) and len(later) and int(later.min()) <= int(train.max()):
            raise DataError(
                f"split column {split.column!r} mixes training rows with later parts",
                expected="training rows before validation rows before test rows",
                fix="Split by time, or correct the column",
            )
        return Parts(train, validation, cut.test + first)

    def _fit(self, seen: Table, split: SplitSpec) -> SeriesReader:
        known = self.known or []
        aside = {self.time, split.column, *known}
        features = self.features if self.features is not None else [str(c) for c in seen.frame.columns if c not in aside]
        columns = [_fit_column(name, seen, self.categorical) for name in features]
        return SeriesReader(
            tuple(column for column in columns if isinstance(column, NumericColumn)),
            tuple(column for column in columns if isinstance(column, CategoryColumn)),
            tuple(_fit_column(name, seen, self.categorical) for name in known),
            self.length,
            self.horizon,
            self.time,
            self.separator,
        )


def ordered(table: Table, time: str | None) -> Table:
    """Rows in the order of their time.

    Raises:
        DataError: gaps in the time column, or a time that stands twice.
    """
    if time is None:
        return table
    times = table.column(time, "time column")
    missing = is_missing(times)
    if missing.any():
        raise DataError(
            f"time {time!r} is missing",
            expected="a time in every row",
            fix="Remove that row",
            where=table.where(int(missing.argmax())),
        )
    order = times.argsort(kind="stable")
    same = (times[order][1:] == times[order][:-1]).nonzero()[0]
    if len(same):
        raise DataError(
            f"time {time!r} is {times[order][same[0]]} twice",
            expected="one row per time",
            fix="Keep one series per file, or aggregate the rows of one time",
            where=table.where(int(order[same[0] + 1])),
        )
    if (order[1:] > order[:-1]).all():
        return table
    return Table(table.frame.iloc[order].reset_index(drop=True))


def _fit_column(name: str, seen: Table, categorical: list[str] | None) -> NumericColumn | CategoryColumn:
    values = seen.column(name, "column")
    _refuse_gaps(values, name, seen)
    if name in (categorical or ()) or (categorical is None and values.dtype.kind in "bO"):
        return CategoryColumn.fit(name, values)
    return NumericColumn.fit(name, numbers_of(values, name, seen))


def _features(column: NumericColumn | CategoryColumn, table: Table) -> Tensor:
    values = table.column(column.name, "column")
    _refuse_gaps(values, column.name, table)
    if isinstance(column, CategoryColumn):
        # One-hot over the known values; an unseen one is all zeros.
        return torch.nn.functional.one_hot(column.codes(values), len(column.values) + 1)[:, 1:].float()
    numbers = numbers_of(values, column.name, table)
    return torch.from_numpy(((numbers - column.mean) / column.scale).astype("float32"))[:, None]


def _refuse_gaps(values: Any, name: str, table: Table) -> None:
    missing = is_missing(values)
    if missing.any():
        raise DataError(
            f"column {name!r} has a gap",
            expected="a value in every row of a series",
            fix="Fill it (with the last known value, never a later one) or leave the column out",
            where=table.where(int(missing.argmax())),
        )


def _width(column: NumericColumn | CategoryColumn) -> int:
    return len(column.values) if isinstance(column, CategoryColumn) else 1


def _column_dict(column: NumericColumn | CategoryColumn) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(column).items()}


def _column(value: dict[str, Any]) -> NumericColumn | CategoryColumn:
    return CategoryColumn(value["name"], tuple(value["values"])) if "values" in value else NumericColumn(**value)
