"""Targets by task: classes to numbers, numbers to a standard scale, and outputs back to what was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from stepwell.core.batch import Tree
from stepwell.core.errors import DataError, JobError, nearest

__all__ = ["TASKS", "Target", "TargetEncoder", "label_of"]

_OF_COLUMNS = ("classification", "binary", "multilabel", "regression", "language_modeling")
TASKS = (*_OF_COLUMNS, "segmentation", "pairs", "triplets", "multi_task")
Where = Callable[[int], str | None]


def label_of(value: Any) -> str:
    """How a class or a category is written: whole numbers without a point, so that 3 and 3.0 are one.

    >>> label_of(3.0), label_of(True), label_of("a")
    ('3', 'True', 'a')
    """
    value = getattr(value, "item", lambda: value)()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def is_missing(values: Any) -> Any:
    """Which values of an array are missing, (N,) bool."""
    import numpy as np

    if values.dtype.kind in "biuUSm":
        return np.zeros(len(values), dtype=bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([v is None or v != v or type(v).__name__ in ("NAType", "NaTType") for v in values], dtype=bool)


def is_number(value: Any) -> bool:
    """Whether a value, or the text that it is written in, is a number.

    >>> is_number(" 3e-3"), is_number("old")
    (True, False)
    """
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


class Target(Protocol):
    """What the targets of a task mean: `TargetEncoder` for columns, others in `stepwell.data.target_kinds`.

    A regression's `mean` and `scale` are numbers, or one per column; a multi-task target's scale is {name: scale}.
    """

    @property
    def task(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> list[str] | None: ...
    @property
    def mean(self) -> Any: ...
    @property
    def scale(self) -> Any: ...
    @property
    def num_outputs(self) -> int: ...
    @property
    def heads(self) -> tuple[tuple[str, int], ...]: ...
    def encode(self, values: Any, *, where: Where | None = None, part: str = "the data") -> Tree: ...
    def decode(self, outputs: Tree) -> dict[str, Any]: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class TargetEncoder:
    """What a target column means for a task, fitted on the training part.

    Args:
        task: one of `TASKS` whose targets are columns.
        names: the target's column, the label columns of multilabel, or the columns of a regression with several.
        classes: of classification (code 0, 1, ...), binary (the second is the positive one) and multilabel.
        mean, scale: of a regression target: what is trained on is (value - mean) / scale. One each per column where
            there are several.

    >>> import numpy as np
    >>> encoder = TargetEncoder.fit(np.array(["no", "yes", "no"]), task="binary", names=("paid",))
    >>> encoder.encode(np.array(["yes", "no"])).tolist(), encoder.classes
    ([1.0, 0.0], ['no', 'yes'])
    """

    task: str
    names: tuple[str, ...] = ("target",)
    classes: list[str] | None = None
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0

    @staticmethod
    def fit(
        values: Any, *, task: str, names: tuple[str, ...], where: Where | None = None, positive: str | None = None
    ) -> TargetEncoder:
        """Look at the training part's targets.

        Args:
            values: (N,) of text, whole numbers, truth values or floats; (N, K) for multilabel and several numbers.
            task: one of `TASKS`.
            names: of the columns.
            where: row -> place in a file, for messages.
            positive: binary's positive class; the last in sorted order where None.

        Raises:
            DataError: missing or non-finite values, one class or value only, or a kind of target that the task can't use.
            JobError: an unknown task.
        """
        if task not in _OF_COLUMNS:
            raise JobError(f"unknown task {task!r}", expected="the name of a task", fix=nearest(task, _OF_COLUMNS))
        where = where or (lambda row: None)
        name = ", ".join(names)
        _refuse_missing(values, name, where)
        if task == "multilabel":
            _check_labels(values, names, where)
            return TargetEncoder(task=task, names=names, classes=list(names))
        if task == "regression":
            return _fit_regression(values, names, where)
        classes = _classes(values)
        if len(classes) < 2:
            raise _constant(name, classes[0] if classes else "nothing", where(0))
        if task == "binary" and len(classes) != 2:
            raise DataError(
                f"target {name!r} has {len(classes)} different values ({_some(classes)})",
                expected="two values for task binary",
                fix="Use task: classification for several classes, or task: regression for numbers",
                where=_file(where),
            )
        if task == "classification":
            _refuse_continuous(values, classes, name, where)
        if positive is not None:
            if positive not in classes:
                raise DataError(
                    f"target {name!r} has no class {positive!r}", expected="one of its values", fix=nearest(positive, classes)
                )
            classes = [*(c for c in classes if c != positive), positive]
        return TargetEncoder(task=task, names=names, classes=classes)

    @property
    def num_outputs(self) -> int:
        """Width of the model's last layer."""
        if self.task in ("classification", "multilabel"):
            return len(self.classes or ())
        return len(self.scale) if isinstance(self.scale, tuple) else 1

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        """No heads: the model has one output."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, see `stepwell.data.target_kinds.target_from_dict`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def encode(self, values: Any, *, where: Where | None = None, part: str = "the data") -> Tensor:
        """Targets as tensors: classification (N,) int64; binary and regression (N,) float32; multilabel and regression
        of several columns (N, K) float32.

        Raises:
            DataError: missing or non-finite values, or a class that the training part doesn't have.
        """
        import numpy as np

        where = where or (lambda row: None)
        name = ", ".join(self.names)
        _refuse_missing(values, name, where)
        if self.task == "multilabel":
            _check_labels(values, self.names, where)
            return torch.from_numpy(np.asarray(values).astype("float32"))
        if self.task == "regression":
            numbers = _as_numbers(values, self.names, where)
            return torch.from_numpy(((numbers - np.array(self.mean)) / np.array(self.scale)).astype("float32"))
        assert self.classes is not None
        found, inverse = np.unique(_sortable(values), return_inverse=True)
        codes = {label: code for code, label in enumerate(self.classes)}
        unseen = [place for place, value in enumerate(found) if label_of(value) not in codes]
        if unseen:
            row = int(np.nonzero(inverse == unseen[0])[0][0])
            raise DataError(
                f"class {label_of(found[unseen[0]])!r} of target {name!r} is in {part} but not in the training part",
                expected=f"one of {_some(self.classes)}",
                fix="Use split.by: stratified, drop classes with too few examples, or merge them",
                where=where(row),
            )
        lookup = torch.tensor([codes[label_of(value)] for value in found], dtype=torch.int64)
        encoded = lookup[torch.from_numpy(inverse.astype("int64"))]
        return encoded.float() if self.task == "binary" else encoded

    def decode(self, outputs: Tensor) -> dict[str, Any]:
        """Columns of predictions: the class and each class's probability, or the value in its own units.

        Args:
            outputs: of the model: (N, K) scores, or (N,) or (N, 1) for binary and regression.

        >>> encoder = TargetEncoder(task="regression", mean=10.0, scale=2.0)
        >>> encoder.decode(torch.tensor([[0.5]]))["prediction"].tolist()
        [11.0]
        """
        outputs = outputs.detach().to("cpu", torch.float64)
        if self.task == "regression":
            return self._numbers(outputs)
        assert self.classes is not None
        if self.task == "multilabel":
            chances = outputs.sigmoid()
            columns = {f"prediction_{name}": (chances[:, k] >= 0.5).long().numpy() for k, name in enumerate(self.classes)}
            return columns | {f"probability_{name}": chances[:, k].numpy() for k, name in enumerate(self.classes)}
        if self.task == "binary":
            second = outputs.reshape(len(outputs)).sigmoid()
            chances = torch.stack([1 - second, second], dim=1)
            best = (second >= 0.5).long()
        else:
            chances = outputs.softmax(dim=1)
            best = chances.argmax(dim=1)
        prediction = [self.classes[code] for code in best.tolist()]
        return {"prediction": prediction} | {f"probability_{name}": chances[:, k].numpy() for k, name in enumerate(self.classes)}

    def _numbers(self, outputs: Tensor) -> dict[str, Any]:
        scale, mean = (torch.tensor(value, dtype=torch.float64) for value in (self.scale, self.mean))
        if not isinstance(self.scale, tuple):
            return {"prediction": (outputs.reshape(len(outputs)) * scale + mean).numpy()}
        values = (outputs * scale + mean).numpy()
        return {f"prediction_{name}": values[:, place] for place, name in enumerate(self.names)}


def _file(where: Where) -> str | None:
    place = where(0)
    return place.rsplit(":", 1)[0] if place else None


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _sortable(values: Any) -> Any:
    return values.astype(str) if values.dtype.kind == "O" else values


def _classes(values: Any) -> list[str]:
    import numpy as np

    distinct = {label_of(value) for value in np.unique(_sortable(values))}
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return sorted(distinct)


def _refuse_missing(values: Any, name: str, where: Where) -> None:
    import numpy as np

    flat = values if values.ndim == 1 else values.reshape(-1)
    bad = is_missing(flat)
    if flat.dtype.kind == "f":
        bad = bad | np.isinf(flat)
    if bad.any():
        row = int(np.nonzero(bad)[0][0]) // (1 if values.ndim == 1 else values.shape[1])
        place = where(row)
        raise DataError(
            f"target {name!r} is missing or not finite" + ("" if place else f" in row {row}"),
            expected="a value in every row",
            fix="Remove the rows without a target",
            where=place,
        )


def _constant(name: str, value: str, place: str | None) -> DataError:
    return DataError(
        f"target {name!r} is {value} in every training example",
        expected="at least two different values",
        fix="Check that the right column is the target, and that the training part isn't sorted by it",
        where=place.rsplit(":", 1)[0] if place else None,
    )


def _as_numbers(values: Any, names: tuple[str, ...], where: Where) -> Any:
    import numpy as np

    if values.dtype.kind in "iuf":
        return values.astype("float64")
    if values.ndim == 2:
        return np.stack([_as_numbers(values[:, place], (name,), where) for place, name in enumerate(names)], axis=1)
    if values.dtype.kind == "O" and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values.tolist()):
        return values.astype("float64")
    first = next((value for value in values.tolist() if not is_number(value)), values.tolist()[0])
    raise DataError(
        f"target {names[0]!r} holds {first!r}",
        expected="numbers for task regression",
        fix="Use task: binary or task: classification for classes, or correct the column",
        where=where([str(value) for value in values.tolist()].index(str(first))),
    )


def _fit_regression(values: Any, names: tuple[str, ...], where: Where) -> TargetEncoder:
    numbers = _as_numbers(values, names, where)
    if numbers.ndim == 1:
        mean, scale = _moments(numbers, names[0], where)
        return TargetEncoder(task="regression", names=names, mean=mean, scale=scale)
    pairs = [_moments(numbers[:, place], name, where) for place, name in enumerate(names)]
    means, scales = (tuple(pair[place] for pair in pairs) for place in (0, 1))
    return TargetEncoder(task="regression", names=names, mean=means, scale=scales)


def _moments(numbers: Any, name: str, where: Where) -> tuple[float, float]:
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(numbers.mean()), float(numbers.std())
    if not scale > 0 or float(numbers.min()) == float(numbers.max()):
        raise _constant(name, f"{mean:g}", where(0))
    if not math.isfinite(scale):
        raise DataError(
            f"target {name!r} has values too large to standardise",
            expected="numbers below 1e150",
            fix="Rescale the column",
            where=_file(where),
        )
    return mean, scale


def _refuse_continuous(values: Any, classes: list[str], name: str, where: Where) -> None:
    fractions = values.dtype.kind == "f" and bool((values != values.round()).any())
    many = len(classes) > max(20, len(values) // 2)
    if (fractions and len(classes) > 20) or many:
        raise DataError(
            f"target {name!r} has {len(classes)} different values in {len(values)} examples",
            expected="classes that repeat, for task classification",
            fix="Use task: regression for numbers" if values.dtype.kind in "iuf" else "Choose the column that holds the class",
            where=_file(where),
        )


def _check_labels(values: Any, names: tuple[str, ...], where: Where) -> None:
    import numpy as np

    shape = values.shape
    if values.ndim != 2 or shape[1] != len(names):
        raise DataError(
            f"the multilabel target has shape {tuple(shape)}",
            expected=f"one column of 0 and 1 per label, {len(names)} in all",
            fix="Name every label column in target",
        )
    good = np.isin(values, [0, 1]) if values.dtype.kind in "biuf" else np.zeros(shape, dtype=bool)
    if not good.all():
        row, column = (int(place) for place in np.argwhere(~good)[0])
        raise DataError(
            f"label {names[column]!r} is {values[row, column]!r}",
            expected="0 or 1 for task multilabel",
            fix="Code each label as 0 or 1",
            where=where(row),
        )
