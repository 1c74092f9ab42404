"""Data sources that are always there: scikit-learn's embedded sets. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from stepwell.data.columns import ColumnEncoder, NumericColumn
from stepwell.data.examples import TensorExamples
from stepwell.data.preparation import Preparation
from stepwell.data.registry import DataSource, LoadedData, fingerprint_of, parts_of, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec, split_indices
from stepwell.data.table_source import TableReader
from stepwell.data.targets import TargetEncoder

__all__ = ["BreastCancer", "Diabetes", "Digits", "Iris", "Wine"]


class _Embedded(DataSource):
    # Which function of sklearn.datasets loads it, and the tasks its targets can be used for.
    loader = ""
    tasks: tuple[str, ...] = ("classification",)

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        import sklearn.datasets

        name = self.source_name
        refuse_task(name, task, *self.tasks)
        split = split.filled(validation=0.2, test=0.2, by="random" if task == "regression" else "stratified")
        refuse_split(name, split, "random", "stratified")
        read = getattr(sklearn.datasets, self.loader)()
        values, targets = read.data, _targets(read, task)
        parts = split_indices(len(values), split, targets=targets, seed=seed)
        columns = self.columns(values[parts.train.numpy()], [str(column) for column in read.feature_names])
        target = TargetEncoder.fit(targets[parts.train.numpy()], task=task, names=("target",))
        preparation = Preparation(source=name, reader=TableReader(columns), target=target)
        examples = parts_of(TensorExamples(columns.encode_matrix(values), target.encode(targets)), parts)
        train = examples["train"]
        assert train is not None
        return LoadedData(
            name=name,
            train=train,
            validation=examples["validation"],
            test=examples["test"],
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint_of([values.tobytes(), str(targets.tolist()).encode()]),
        )

    def columns(self, train: Any, names: list[str]) -> ColumnEncoder:
        """How the columns are scaled: each by its own statistics on the training part."""
        return ColumnEncoder(tuple(NumericColumn.fit(name, train[:, place]) for place, name in enumerate(names)))


@source("digits")
class Digits(_Embedded):
    """1,797 handwritten digits of 8 x 8 pixels, 10 classes (UCI, in scikit-learn).

    Pixels are standardised by one mean and one spread over the training part: by columns, the pixels at the border
    that are almost never inked would be blown up.

    Args:
        layout: "vector" gives (64,), "image" gives (1, 8, 8).

    >>> loaded = Digits().load(base=Path("."), split=SplitSpec(), task="classification", seed=0)
    >>> loaded.num_rows, loaded.signature.shape, loaded.signature.num_outputs
    ({'train': 1079, 'validation': 359, 'test': 359}, (64,), 10)
    """

    layout: Literal["vector", "image"] = "vector"

    loader = "load_digits"

    def columns(self, train: Any, names: list[str]) -> ColumnEncoder:
        mean, scale = float(train.mean()), float(train.std())
        numeric = tuple(NumericColumn(name, mean, scale, 0.0) for name in names)
        return ColumnEncoder(numeric, shape=(1, 8, 8) if self.layout == "image" else None)


@source("breast_cancer")
class BreastCancer(_Embedded):
    """569 tumours, 30 measurements, benign or malignant (UCI Wisconsin, in scikit-learn)."""

    loader = "load_breast_cancer"
    tasks = ("binary", "classification")


@source("diabetes")
class Diabetes(_Embedded):
    """442 patients, 10 measurements, progression after a year (Efron et al. 2004, in scikit-learn)."""

    loader = "load_diabetes"
    tasks = ("regression",)


@source("wine")
class Wine(_Embedded):
    """178 wines, 13 measurements, 3 cultivars (UCI, in scikit-learn)."""

    loader = "load_wine"


@source("iris")
class Iris(_Embedded):
    """150 flowers, 4 measurements, 3 species (Fisher 1936, in scikit-learn)."""

    loader = "load_iris"


def _targets(read: Any, task: str) -> Any:
    import numpy as np

    if task == "regression":
        return read.target
    return np.array([str(name) for name in read.target_names])[read.target]
