"""The data source "table": CSV and Parquet files with numbers, categories and gaps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError, nearest
from stepwell.core.signature import Signature
from stepwell.data.columns import ColumnEncoder, numbers_of
from stepwell.data.examples import Examples, TensorExamples
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_task, source
from stepwell.data.split import Parts, SplitSpec, split_indices
from stepwell.data.tables import Table, read_table
from stepwell.data.target_kinds import ManyTargets
from stepwell.data.targets import Target, TargetEncoder, is_missing

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["TableReader", "TableSource"]


@dataclass(frozen=True)
class TableReader:
    """How new tables are read.

    Args:
        columns: the fitted columns.
        separator: of CSV files.
        weights: the weights' column, or None.
    """

    columns: ColumnEncoder
    separator: str = ","
    weights: str | None = None

    kind = "table"

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Examples of a CSV or Parquet file, or of a frame."""
        table = as_table(data, self.separator)
        names = list(target.names)
        there = with_targets != "ignored" and all(name in table.frame.columns for name in names)
        if with_targets == "required":
            table.require(names, "target column")
        values = target_values(table, names, target.task) if there else None
        targets = target.encode(values, where=table.where, part="this file") if there else None
        weights = weights_of(table, self.weights) if self.weights in table.frame.columns and self.weights else None
        return TensorExamples(self.columns.encode(table), targets, weights)

    def signature(self, num_outputs: int) -> Signature:
        return self.columns.signature(num_outputs)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"columns": self.columns.to_dict()}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> TableReader:
        return TableReader(**(value | {"columns": ColumnEncoder.from_dict(value["columns"])}))


@source("table")
class TableSource(DataSource):
    """A CSV or Parquet file: numbers standardised, gaps filled by the median and flagged, categories coded.

    Statistics come from the training part only and are stored with the model. Category code 0 is an unseen or missing
    value.

    Args:
        path: the file, relative to the job file; .csv, .csv.gz, .parquet.
        target: the column to predict; a list of columns for task multilabel (labels), regression (several numbers) and
            multi_task (each with a task of its own).
        features: the columns to learn from; all others than target, weights and split column where None.
        drop: columns to leave out.
        categorical: which features are categories; those that hold text or truth values where None.
        weights: column of sample weights, >= 0; they weigh in evaluations too.
        positive: the class that task binary calls positive; the last in sorted order where None.
        tasks: for task multi_task: {column: binary, classification or regression}; told by a column's values where it
            is left out (two values: binary; other numbers: regression; else classification).
        separator: between the columns of a CSV file.
    """

    path: str
    target: str | list[str]
    features: list[str] | None = None
    drop: list[str] | None = None
    categorical: list[str] | None = None
    weights: str | None = None
    positive: str | None = None
    tasks: dict[str, str] | None = None
    separator: str = ","

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("table", task, "classification", "binary", "multilabel", "regression", "multi_task")
        split = split.filled(validation=0.2, test=0.2, by="random")
        paths = [existing(self.path, base=base)]
        tables = [read_table(paths[0], separator=self.separator)]
        for extra in (split.validation_path, split.test_path):
            if extra is not None:
                paths.append(existing(extra, base=base))
                tables.append(read_table(paths[-1], separator=self.separator))
        names = [self.target] if isinstance(self.target, str) else list(self.target)
        for table in tables:
            table.require(names, "target column")
        parts = file_parts(tables, split, seed) if split.by == "file" else self._parts(tables[0], names, split, seed)
        train = parts["train"]
        target = self._target(train, names, task)
        columns = ColumnEncoder.fit(train, features=self._features(train, names, split), categorical=self.categorical)
        preparation = Preparation(source="table", reader=TableReader(columns, self.separator, self.weights), target=target)
        examples = {name: self._examples(part, columns, target, f"the {name} part") for name, part in parts.items()}
        return LoadedData(
            name="table",
            train=examples["train"],
            validation=examples.get("validation"),
            test=examples.get("test"),
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint_of(paths),
        )

    def _target(self, train: Table, names: list[str], task: str) -> Target:
        values = target_values(train, names, task)
        if task == "multi_task":
            _check_tasks(self.tasks or {}, names)
            return ManyTargets.fit(values, tasks=self.tasks, where=train.where, positive=self.positive)
        if self.tasks is not None:
            raise DataError(
                f"data.tasks is set for task {task}", expected="no tasks, or task: multi_task", fix="Leave data.tasks out"
            )
        if len(names) > 1 and task not in ("multilabel", "regression"):
            raise DataError(
                f"data.target has {len(names)} columns for task {task}",
                expected="one column",
                fix="Use task: multi_task for several targets, or task: multilabel for several labels",
            )
        return TargetEncoder.fit(values, task=task, names=tuple(names), where=train.where, positive=self.positive)

    def _features(self, table: Table, names: list[str], split: SplitSpec) -> list[str]:
        for setting in (self.features, self.drop, self.categorical):
            table.require(setting or [], "column")
        table.require([self.weights] if self.weights else [], "weights column")
        given = self.features if self.features is not None else [str(name) for name in table.frame.columns]
        inside = [name for name in names if self.features is not None and name in self.features]
        if inside:
            raise DataError(
                f"target {inside[0]!r} is among the features",
                expected="features without the target",
                fix="Take it out of features",
            )
        aside = {*names, *(self.drop or []), self.weights, split.column if self.features is None else None}
        features = [name for name in given if name not in aside]
        if not features:
            raise DataError(
                "the table has no columns to learn from",
                expected="at least one feature",
                fix="Check features and drop",
                where=table.path.name if table.path else None,
            )
        return features

    def _parts(self, table: Table, names: list[str], split: SplitSpec, seed: int) -> dict[str, Table]:
        column = None if split.column is None else table.column(split.column, "split column")
        if column is not None and is_missing(column).any():
            row = int(is_missing(column).argmax())
            raise DataError(
                f"split column {split.column!r} is missing",
                expected="a value in every row",
                fix="Fill or remove that row",
                where=table.where(row),
            )
        targets = None
        if split.by == "stratified":
            targets = target_values(table, names, "regression")
            targets = targets if targets.ndim == 1 else [" ".join(map(str, row)) for row in targets.tolist()]
        try:
            cut = split_indices(len(table.frame), split, targets=targets, groups=column, times=column, seed=seed)
        except DataError as error:
            raise error.at(table.path.name) if table.path else error from None
        return {name: part for name, part in _cut(table, cut).items() if part is not None}

    def _examples(self, table: Table, columns: ColumnEncoder, target: Target, part: str) -> Examples:
        targets = target.encode(target_values(table, list(target.names), target.task), where=table.where, part=part)
        return TensorExamples(columns.encode(table), targets, weights_of(table, self.weights) if self.weights else None)


@dataclass(frozen=True)
class _Rows(Table):
    # Some rows of a file: messages still name the file's lines.
    whole: Table | None = None
    rows: Tensor | None = None

    def where(self, row: int) -> str | None:
        assert self.whole is not None
        assert self.rows is not None
        return self.whole.where(int(self.rows[row]))


def as_table(data: Any, separator: str) -> Table:
    """A path or a frame (pandas or polars) as a table."""
    if isinstance(data, (str, Path)):
        return read_table(Path(data), separator=separator)
    frame = data.to_pandas() if hasattr(data, "to_pandas") else data
    if not hasattr(frame, "columns"):
        raise DataError(
            f"data is a {type(data).__name__}", expected="a path or a frame with named columns", fix="Make a frame of it"
        )
    if len(frame) == 0:
        raise DataError("the frame has no rows", expected="at least one row", fix="Check how it was made")
    frame = frame.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    return Table(frame)


def _check_tasks(tasks: dict[str, str], names: list[str]) -> None:
    known = ("binary", "classification", "regression")
    if len(names) < 2:
        raise DataError(
            f"data.target is {names[0]!r} for task multi_task", expected="a list of two columns or more", fix="Name them all"
        )
    for name, task in tasks.items():
        if name not in names:
            raise DataError(f"data.tasks names {name!r}", expected="a column of data.target", fix=nearest(name, names))
        if task not in known:
            raise DataError(f"data.tasks says {name}: {task}", expected=" or ".join(known), fix=nearest(task, known))


def target_values(table: Table, names: list[str], task: str) -> Any:
    """The target column's values, (N,); of several columns (N, K), or {name: (N,)} for several tasks."""
    import numpy as np

    columns = [table.column(name, "target column") for name in names]
    if task == "multi_task":
        return dict(zip(names, columns, strict=True))
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def weights_of(table: Table, name: str) -> Tensor:
    """A column of sample weights, (N,) float32.

    Raises:
        DataError: gaps, negative or infinite values.
    """
    import numpy as np

    values = numbers_of(table.column(name, "weights column"), name, table)
    bad = ~(values >= 0)
    if bad.any():
        row = int(np.nonzero(bad)[0][0])
        raise DataError(
            f"weight {name!r} is {values[row]:g}",
            expected="a number of 0 or more in every row",
            fix="Correct that row",
            where=table.where(row),
        )
    return torch.from_numpy(values.astype("float32"))


def _cut(table: Table, parts: Parts) -> dict[str, Table | None]:
    def rows(index: Tensor) -> Table | None:
        if not len(index):
            return None
        frame = table.frame.iloc[index.numpy()].reset_index(drop=True)
        return _Rows(frame, table.path, table.separator, table, index)

    return {"train": rows(parts.train), "validation": rows(parts.validation), "test": rows(parts.test)}


def file_parts(tables: list[Table], split: SplitSpec, seed: int) -> dict[str, Table]:
    """Parts from files of their own; a share without a file of its own is taken from the training file.

    Raises:
        DataError: a file named twice, or, unless `split.overlap` allows it, a row that stands in two of them.
    """
    names = ["train", *(name for name in ("validation", "test") if getattr(split, f"{name}_path"))]
    parts = dict(zip(names, tables, strict=True))
    for first in range(len(tables)):
        for second in range(first + 1, len(tables)):
            _refuse_overlap(tables[first], tables[second], split)
    inner = _cut(tables[0], split_indices(len(tables[0].frame), split.within_train(), seed=seed))
    return {name: part for name, part in inner.items() if part is not None} | {
        name: part for name, part in parts.items() if name != "train"
    }


def _refuse_overlap(one: Table, other: Table, split: SplitSpec) -> None:
    if one.path and other.path and one.path.samefile(other.path):
        raise DataError(
            f"{one.path.name} is named for two parts of the split",
            expected="a file of its own for each part",
            fix="Name another file",
        )
    if split.overlap == "allow" or set(one.frame.columns) != set(other.frame.columns):
        return
    names = list(one.frame.columns)
    mine, theirs = _row_keys(one.frame, names), _row_keys(other.frame, names)
    shared = sorted(theirs.keys() & mine.keys(), key=lambda key: theirs[key])
    if shared:
        place = one.where(mine[shared[0]]) or f"row {mine[shared[0]]} of another part"
        raise DataError(
            f"this row stands at {place} too, and {len(shared) - 1} more are in both files",
            expected="parts that share no row",
            fix="Remove them from one file, or set split.overlap: allow if equal rows are different examples",
            where=other.where(theirs[shared[0]]),
        )


def _row_keys(frame: DataFrame, names: list[str]) -> dict[int, int]:
    # Hash of each row -> the first row that has it. 1 and 1.0 are one number, whatever the other rows made of a column.
    import pandas as pd

    alike = pd.DataFrame({name: frame[name].astype("float64" if frame[name].dtype.kind in "iuf" else str) for name in names})
    keys = pd.util.hash_pandas_object(alike, index=False).to_numpy().tolist()
    return dict(zip(reversed(keys), reversed(range(len(keys)))))
