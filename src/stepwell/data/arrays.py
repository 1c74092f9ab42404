"""Arrays as inputs: standardised by column, channel or feature, with the training part's statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.core.signature import InputKind, Signature
from stepwell.data.checks import require_finite
from stepwell.data.examples import Examples, TensorExamples
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import LoadedData, fingerprint_of
from stepwell.data.split import SplitSpec, split_indices
from stepwell.data.targets import Target, TargetEncoder

__all__ = [
    "ArrayExamples",
    "ArrayReader",
    "fit_reader",
    "flat_target",
    "guess_layout",
    "loaded_arrays",
    "loaded_pair",
    "require_same_length",
    "shaped_as",
    "weights_in",
]

ArrayKind = Literal["vector", "image", "series"]
ArrayForm = Literal["npz", "npy", "idx"]

# What one pass over rows holds at a time.
PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class ArrayReader:
    """How arrays become inputs: (value - mean) / scale, by column, by channel or by feature.

    Args:
        form: "npz", "npy" or "idx".
        layout: vector (D,), image (channels, height, width) or series (steps, D).
        shape: of one sample.
        mean, scale: one per column, channel or feature; of the training part.
        inputs, targets, weights: keys in an .npz file, names of .npy files; no weights where empty.
        divide: what raw values are divided by first (255 for bytes).
    """

    form: ArrayForm
    layout: ArrayKind
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    inputs: str = ""
    targets: str = ""
    divide: float = 1.0
    weights: str = ""

    kind = "array"

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Examples of an .npz file, of a folder of .npy files, or of an idx folder or images file."""
        # Imported here: these modules import this one.
        from stepwell.data.idx import idx_pair
        from stepwell.data.npy import MappedRows, npy_pair, npy_weights
        from stepwell.data.npz import array_in, open_npz

        path, weights = Path(data), None
        if self.form == "idx":
            images, labels = idx_pair(path)
        elif self.form == "npy":
            images, labels = npy_pair(path, self.inputs, self.targets, with_targets=with_targets)
            if self.weights and (path / self.weights).exists():
                weights = weights_in(npy_weights(path, self.weights), images, self.weights, where=path.name)
        else:
            arrays = open_npz(path)
            images = array_in(arrays, self.inputs, path)
            labels = array_in(arrays, self.targets, path) if self.targets in arrays or with_targets == "required" else None
            if self.weights and self.weights in arrays:
                weights = weights_in(array_in(arrays, self.weights, path), images, self.weights, where=path.name)
        if with_targets == "ignored":
            labels = None
        if labels is None and with_targets == "required":
            raise DataError(f"{path.name} has no targets", expected="labels beside the images", fix="Add the labels file")
        shaped = MappedRows(images, self.layout) if self.form == "npy" else shaped_as(images, self.layout)
        if tuple(shaped.shape[1:]) != self.shape:
            raise DataError(
                f"samples of {path.name} have shape {tuple(shaped.shape[1:])}",
                expected=f"{self.shape}, as in training",
                fix="Bring the new data into the training data's shape",
                where=path.name,
            )
        targets = None if labels is None else target.encode(flat_target(labels), part=path.name)
        if self.form == "npy":
            require_finite_rows(shaped, self.inputs, where=path.name)
        return self.examples(shaped, targets, weights, where=path.name)

    def examples(self, shaped: Any, targets: Tensor | None, weights: Tensor | None = None, *, where: str) -> Examples:
        """Arrays (N, *shape) as examples: those in memory are encoded now, those on disk when a batch reads them."""
        import numpy as np

        if isinstance(shaped, np.ndarray):
            return TensorExamples(self.encode(shaped, where=where), targets, weights)
        return ArrayExamples(shaped, targets, weights, reader=self, where=where)

    def encode(self, shaped: Any, *, where: str) -> Tensor:
        """An array (N, *shape) as inputs, float32."""
        inputs = torch.from_numpy(shaped.astype("float32"))
        require_finite(inputs, self.inputs or "inputs", where=where)
        return self.standardise_(inputs)

    def standardise_(self, inputs: Tensor) -> Tensor:
        """Raw values (N, *shape), float32, as inputs, in place."""
        # One multiply and one add in place: the array may be as large as memory allows.
        factor, shift = self._affine
        return inputs.mul_(factor).sub_(shift)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        view = _along(self.layout)
        mean, scale = (torch.tensor(numbers, dtype=torch.float64).view(view) for numbers in (self.mean, self.scale))
        return (1 / (scale * self.divide)).float(), (mean / scale).float()

    def signature(self, num_outputs: int) -> Signature:
        layout: InputKind = self.layout
        return Signature(layout, self.shape, num_outputs)

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> ArrayReader:
        fields: dict[str, Any] = {key: tuple(part) if isinstance(part, list) else part for key, part in value.items()}
        return ArrayReader(**fields)


class ArrayExamples:
    """Examples of an array on disk: a batch reads its rows, and makes inputs of them.

    Args:
        shaped: (N, *shape), indexed by an array and read by `numpy.asarray`.
        targets, weights: one per example, in memory, or None.
        reader: how rows become inputs.
        where: the file they are in.

    Raises:
        DataError: different numbers of inputs and targets.
    """

    work_per_sample = False

    def __init__(
        self, shaped: Any, targets: Tensor | None, weights: Tensor | None = None, *, reader: ArrayReader, where: str
    ) -> None:
        if targets is not None:
            require_same_length(shaped, targets, (reader.inputs, reader.targets), where=where)
        self.shaped, self.targets, self.weights, self.reader = shaped, targets, weights, reader

    def __len__(self) -> int:
        return len(self.shaped)

    def batch(self, index: Tensor) -> Batch:
        import numpy as np

        index = index.cpu()
        rows = np.ascontiguousarray(self.shaped[index.numpy()], dtype="float32")
        inputs = self.reader.standardise_(torch.from_numpy(rows))
        targets, weights = (None if part is None else part.index_select(0, index) for part in (self.targets, self.weights))
        return Batch(inputs, targets, weights)


def fit_reader(shaped: Any, *, form: ArrayForm, layout: ArrayKind, standardise: bool, **keys: str) -> ArrayReader:
    """Statistics of the training part, (N, *shape)."""
    divide = 255.0 if shaped.dtype.kind == "u" and shaped.dtype.itemsize == 1 else 1.0
    along = {"vector": (0,), "image": (0, 2, 3), "series": (0, 1)}[layout]
    width = shaped.shape[{"vector": 1, "image": 1, "series": 2}[layout]]
    mean, scale = [0.0] * width, [1.0] * width
    if standardise:
        mean, scale = _moments(shaped, along)
        mean = [number / divide for number in mean]
        scale = [number / divide if number > 1e-12 and math.isfinite(number) else 1.0 for number in scale]
    return ArrayReader(form, layout, tuple(shaped.shape[1:]), tuple(mean), tuple(scale), divide=divide, **keys)


def _moments(shaped: Any, along: tuple[int, ...]) -> tuple[list[float], list[float]]:
    # In two passes and some rows at a time: a float64 copy of all images would be eight times their size.
    import numpy as np

    count = math.prod(shaped.shape[axis] for axis in along)
    rows = max(min(PIECE_BYTES // (8 * math.prod(shaped.shape[1:])), 1024), 1)
    pieces = [slice(start, start + rows) for start in range(0, len(shaped), rows)]
    mean = sum(np.asarray(shaped[piece]).sum(axis=along, dtype="float64") for piece in pieces) / count
    centre = np.expand_dims(mean, [axis - 1 for axis in along if axis > 0])
    square = sum(((np.asarray(shaped[piece]) - centre) ** 2).sum(axis=along) for piece in pieces) / count
    return np.asarray(mean).tolist(), np.sqrt(square).tolist()


def require_finite_rows(shaped: Any, what: str, *, where: str) -> None:
    """`require_finite` of an array (N, ...) as float32, some rows at a time: it may be larger than memory."""
    import numpy as np

    if shaped.dtype.kind != "f":
        return
    rows = max(PIECE_BYTES // (4 * math.prod(shaped.shape[1:])), 1)
    for start in range(0, len(shaped), rows):
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused as that
            piece = torch.from_numpy(np.asarray(shaped[start : start + rows]).astype("float32"))
        require_finite(piece, what, where=where, first_row=start)


def require_same_length(values: Any, targets: Any, names: tuple[str, str], *, where: str) -> None:
    if len(values) != len(targets):
        raise DataError(
            f"{names[0]!r} has {len(values)} examples and {names[1]!r} has {len(targets)}",
            expected="the same number",
            fix="Check how the file was made",
            where=where,
        )


def weights_in(values: Any, inputs: Any, name: str, *, where: str) -> Tensor:
    """An array of sample weights, (N,) float32.

    Raises:
        DataError: another length, text, or numbers that are negative or not finite.
    """
    import numpy as np

    if values.ndim != 1 or values.dtype.kind not in "biuf" or len(values) != len(inputs):
        raise DataError(
            f"the weights {name!r} are {values.dtype} of shape {tuple(values.shape)} for {len(inputs)} examples",
            expected="one number per example",
            fix="Check how the file was made",
            where=where,
        )
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        raise DataError(
            f"weight {name!r} is {values[bad][0]:g} in row {int(np.nonzero(bad)[0][0])}",
            expected="a finite number of 0 or more in every row",
            fix="Correct that row (rows are counted from 0)",
            where=where,
        )
    return torch.from_numpy(values.astype("float32"))


def flat_target(array: Any) -> Any:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def guess_layout(values: Any) -> ArrayKind:
    if values.ndim == 2:
        return "vector"
    if values.ndim == 4 or (values.ndim == 3 and values.dtype.kind == "u"):
        return "image"
    if values.ndim == 3:
        return "series"
    raise wrong_shape(values)


def wrong_shape(values: Any) -> DataError:
    return DataError(
        f"the inputs have shape {tuple(values.shape)}",
        expected="(N, D), (N, T, D), (N, H, W), (N, C, H, W) or (N, H, W, C)",
        fix="Reshape them, or set data.layout",
    )


def shaped_as(values: Any, layout: ArrayKind) -> Any:
    """An array as (N, *shape): images get their channels first, vectors are flattened."""
    if layout == "vector":
        return values.reshape(len(values), math.prod(values.shape[1:]))
    if layout == "image" and values.ndim == 3:
        return values[:, None]
    if layout == "image" and values.ndim == 4:
        last = values.shape[-1] in (1, 3, 4) and values.shape[1] not in (1, 3, 4)
        return values.transpose(0, 3, 1, 2) if last else values
    if layout == "series" and values.ndim in (2, 3):
        return values[:, :, None] if values.ndim == 2 else values
    raise wrong_shape(values)


def _along(layout: ArrayKind) -> tuple[int, ...]:
    return {"vector": (1, -1), "image": (1, -1, 1, 1), "series": (1, 1, -1)}[layout]


def loaded_arrays(
    name: str,
    examples: Callable[[Any, str], Examples | None],
    parts: tuple[Any, Any, Any],
    preparation: Preparation,
    fingerprint: str,
) -> LoadedData:
    train = examples(parts[0], "the training part")
    assert train is not None
    return LoadedData(
        name=name,
        train=train,
        validation=examples(parts[1], "the validation part"),
        test=examples(parts[2], "the test part"),
        signature=preparation.signature(),
        preparation=preparation,
        fingerprint=fingerprint,
    )


class PairSettings(Protocol):
    """The settings of a source that holds inputs and targets as two arrays."""

    source_name: ClassVar[str]

    @property
    def inputs(self) -> str: ...
    @property
    def targets(self) -> str: ...
    @property
    def weights(self) -> str | None: ...
    @property
    def scale(self) -> str: ...


def loaded_pair(
    settings: PairSettings,
    shaped: Any,
    targets: Any,
    weights: Tensor | None = None,
    *,
    form: ArrayForm,
    layout: ArrayKind,
    split: SplitSpec,
    task: str,
    seed: int,
    files: list[Path],
) -> LoadedData:
    """Inputs (N, *shape), in memory or on disk, and targets (N,) or (N, K): split, prepared by the training part."""
    where = files[0].name
    labels = targets if targets.ndim == 1 else [" ".join(map(str, row)) for row in targets.tolist()]
    parts = split_indices(len(shaped), split, targets=labels, seed=seed)
    train = parts.train.numpy()
    require_finite_rows(shaped, settings.inputs, where=where)
    reader = fit_reader(
        shaped[train],
        form=form,
        layout=layout,
        standardise=settings.scale == "standard",
        inputs=settings.inputs,
        targets=settings.targets,
        weights=settings.weights or "",
    )
    name = settings.targets.removesuffix(".npy")
    names = (name,) if targets.ndim == 1 else tuple(f"{name}[{k}]" for k in range(targets.shape[1]))
    target = TargetEncoder.fit(targets[train], task=task, names=names)
    preparation = Preparation(source=form, reader=reader, target=target)

    def examples(index: Tensor, part: str) -> Examples | None:
        if not len(index):
            return None
        rows = index.numpy()
        share = None if weights is None else weights[index]
        return reader.examples(shaped[rows], target.encode(targets[rows], part=part), share, where=where)

    return loaded_arrays(form, examples, (parts.train, parts.validation, parts.test), preparation, fingerprint_of(files))
