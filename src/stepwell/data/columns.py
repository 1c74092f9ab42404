"""Columns of a table as model inputs: numbers standardised, gaps filled and flagged, categories coded.

Everything is fitted on the training part and stored with the model.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Tree
from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.tables import Table
from stepwell.data.targets import is_missing, is_number, label_of

__all__ = ["CategoryColumn", "ColumnEncoder", "NumericColumn"]

logger = logging.getLogger("stepwell.data")

# A text column whose values hardly repeat is a name or a number of something, and nothing can be learned from it.
_MANY_CATEGORIES = 0.5


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: becomes (value - mean) / scale; a gap becomes `fill` first.

    Args:
        name: the column.
        mean, scale: of the training part, gaps filled.
        fill: the training part's median.
        flagged: whether a second input says where gaps were: 1.0 there, else 0.0.
    """

    name: str
    mean: float
    scale: float
    fill: float
    flagged: bool = False

    @staticmethod
    def fit(name: str, values: Any) -> NumericColumn:
        """From the training part's values, float64 with NaN for gaps.

        >>> import numpy as np
        >>> column = NumericColumn.fit("age", np.array([1.0, 3.0, np.nan]))
        >>> column.fill, column.mean, column.flagged
        (2.0, 2.0, True)
        """
        import numpy as np

        missing = np.isnan(values)
        fill = float(np.median(values[~missing]))
        full = np.where(missing, fill, values)
        if float(full.min()) == float(full.max()):
            # Not the mean: rounding would leave a spread of 1e-17 for a constant.
            return NumericColumn(name, float(full[0]), 1.0, fill, bool(missing.any()))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = float(full.mean()), float(full.std())
        if not math.isfinite(scale) or not math.isfinite(mean):
            raise DataError(
                f"column {name!r} has values too large to standardise",
                expected="numbers below 1e150",
                fix=f"Rescale the column, or leave it out: drop: [{name}]",
            )
        return NumericColumn(name, mean, scale, fill, bool(missing.any()))


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories: `values[k]` becomes code k + 1; a gap or an unseen value becomes code 0.

    Args:
        name: the column.
        values: in sorted order.
    """

    name: str
    values: tuple[str, ...]

    @staticmethod
    def fit(name: str, values: Any) -> CategoryColumn:
        """From the training part's values."""
        known = {label_of(value) for value in set(values[~is_missing(values)].tolist())}
        if len(known) > _MANY_CATEGORIES * len(values) and len(values) > 20:
            logger.warning(
                "column %r has %d categories in %d rows; to leave it out: drop: [%s]", name, len(known), len(values), name
            )
        return CategoryColumn(name, tuple(sorted(known)))

    def codes(self, values: Any) -> Tensor:
        """Codes of some values, (N,) int64."""
        known = {value: code + 1 for code, value in enumerate(self.values)}
        labels = [None if gap else label_of(value) for gap, value in zip(is_missing(values).tolist(), values.tolist())]
        unseen = {label for label in labels if label is not None and label not in known}
        if unseen:
            logger.warning("column %r has values that training didn't have, e.g. %r: coded as unknown", self.name, min(unseen))
        return torch.tensor([0 if label is None else known.get(label, 0) for label in labels], dtype=torch.int64)


@dataclass(frozen=True)
class ColumnEncoder:
    """How the columns of a table become inputs.

    Args:
        numeric: columns of numbers, in order; the flags of gaps follow all of them.
        categories: columns of categories, in order.
        shape: of one sample's numbers where they are no plain vector, e.g. (1, 8, 8) for an image.

    Shapes: numeric columns only: (N, D) float32, or (N, *shape). Otherwise {"numeric": (N, D) float32, "categories":
    (N, C) int64}, D may be 0.
    """

    numeric: tuple[NumericColumn, ...]
    categories: tuple[CategoryColumn, ...] = ()
    shape: tuple[int, ...] | None = None

    kind = "columns"

    @staticmethod
    def fit(table: Table, *, features: list[str], categorical: list[str] | None) -> ColumnEncoder:
        """Look at the training part.

        Args:
            table: its rows.
            features: which columns to use.
            categorical: which of them are categories; those that hold text or truth values where None.

        Raises:
            DataError: infinite values, dates, a column without values.
        """
        numeric, categories = [], []
        for name in features:
            values = table.column(name, "column")
            if is_missing(values).all():
                raise DataError(
                    f"column {name!r} has no values in the training part",
                    expected="some values",
                    fix=f"Leave it out: drop: [{name}]",
                    where=table.path.name if table.path else None,
                )
            if name in (categorical or ()) or (categorical is None and values.dtype.kind in "bO"):
                categories.append(CategoryColumn.fit(name, values))
            else:
                try:
                    numeric.append(NumericColumn.fit(name, numbers_of(values, name, table)))
                except DataError as error:
                    raise error.at(table.path.name) if table.path else error from None
        return ColumnEncoder(tuple(numeric), tuple(categories))

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [column.name for column in self.numeric] + [column.name for column in self.categories]

    def signature(self, num_outputs: int) -> Signature:
        """What the model is built for."""
        width = len(self.numeric) + sum(column.flagged for column in self.numeric)
        if self.categories:
            cardinalities = tuple(len(column.values) + 1 for column in self.categories)
            return Signature("table", (width,), num_outputs, cardinalities)
        if self.shape is not None:
            return Signature("image", self.shape, num_outputs)
        return Signature("vector", (width,), num_outputs)

    def encode(self, table: Table) -> Tree:
        """Inputs of a table's rows. Other columns and their order don't matter.

        Raises:
            DataError: a column is missing, or holds what it can't hold.
        """
        table.require(self.names, "column")
        numbers = self._numbers(table)
        if not self.categories:
            return numbers
        return {"numeric": numbers, "categories": self._codes(table)}

    def encode_matrix(self, values: Any) -> Tensor:
        """Inputs of a float matrix (N, D) without gaps, its columns those of `numeric`."""
        import numpy as np

        mean = np.array([column.mean for column in self.numeric])
        scale = np.array([column.scale for column in self.numeric])
        matrix = torch.from_numpy(((values - mean) / scale).astype("float32"))
        return matrix if self.shape is None else matrix.view(-1, *self.shape)

    def _numbers(self, table: Table) -> Tensor:
        import numpy as np

        matrix = np.empty((len(table.frame), len(self.numeric)))
        flags = []
        for place, column in enumerate(self.numeric):
            values = numbers_of(table.column(column.name, "column"), column.name, table)
            missing = np.isnan(values)
            if missing.any() and not column.flagged:
                logger.warning(
                    "column %r has %d gaps here and had none in training: filled with the median %g",
                    column.name,
                    int(missing.sum()),
                    column.fill,
                )
            matrix[:, place] = np.where(missing, column.fill, values)
            if column.flagged:
                flags.append(missing.astype("float32"))
        numbers = self.encode_matrix(matrix)
        return torch.cat([numbers, torch.from_numpy(np.stack(flags, axis=1))], dim=1) if flags else numbers

    def _codes(self, table: Table) -> Tensor:
        return torch.stack([column.codes(table.column(column.name, "column")) for column in self.categories], dim=1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "numeric": [asdict(column) for column in self.numeric],
            "categories": [{"name": column.name, "values": list(column.values)} for column in self.categories],
            "shape": None if self.shape is None else list(self.shape),
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> ColumnEncoder:
        return ColumnEncoder(
            tuple(NumericColumn(**column) for column in value["numeric"]),
            tuple(CategoryColumn(column["name"], tuple(column["values"])) for column in value["categories"]),
            None if value["shape"] is None else tuple(value["shape"]),
        )


def numbers_of(values: Any, name: str, table: Table) -> Any:
    """A column's values as float64, NaN for gaps.

    Raises:
        DataError: dates, text, or infinite values.
    """
    import numpy as np

    missing = is_missing(values)
    if values.dtype.kind == "M":
        raise DataError(
            f"column {name!r} holds dates",
            expected="numbers or categories",
            fix=f"Leave it out (drop: [{name}]), or name it in split.column",
            where=table.where(0),
        )
    if values.dtype.kind in "OUS":
        text = [k for k, gap in enumerate(missing) if not gap and not isinstance(values[k], (bool, int, float))]
        # One word among numbers makes text of a whole column: the word is what is wrong, not the first number.
        row = next((k for k in text if not is_number(values[k])), text[0] if text else None)
        if row is not None:
            raise DataError(
                f"column {name!r} holds {values[row]!r}",
                expected="a number",
                fix=f"Correct the value, or name the column as a category: categorical: [{name}]",
                where=table.where(row),
            )
        values = np.where(missing, np.nan, values)
    numbers = values.astype("float64")
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.nonzero(infinite)[0][0])
        raise DataError(
            f"column {name!r} is {numbers[row]:g}" + ("" if table.path else f" in row {row}"),
            expected="finite numbers, or an empty field where the value is unknown",
            fix="Correct or remove that row",
            where=table.where(row),
        )
    return numbers
