"""Arrays as inputs: standardised by column, channel or feature, with the training part's statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stepwell.core.errors import DataError
from stepwell.core.signature import InputKind, Signature
from stepwell.data.checks import require_finite
from stepwell.data.examples import Examples, TensorExamples
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import LoadedData
from stepwell.data.targets import TargetEncoder

__all__ = ["ArrayReader", "fit_reader", "flat_target", "guess_layout", "loaded_arrays", "shaped_as"]

ArrayKind = Literal["vector", "image", "series"]


@dataclass(frozen=True)
class ArrayReader:
    """How arrays become inputs: (value - mean) / scale, by column, by channel or by feature.

    Args:
        form: "npz" or "idx".
        layout: vector (D,), image (channels, height, width) or series (steps, D).
        shape: of one sample.
        mean, scale: one per column, channel or feature; of the training part.
        inputs, targets: keys in an .npz file.
        divide: what raw values are divided by first (255 for bytes).
    """

    form: Literal["npz", "idx"]
    layout: ArrayKind
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    inputs: str = ""
    targets: str = ""
    divide: float = 1.0

    kind = "array"

    def read(self, data: Any, *, target: TargetEncoder, with_targets: WithTargets) -> Examples:
        """Examples of an .npz file, or of an idx folder or images file."""
        # Imported here: both modules import this one.
        from stepwell.data.idx import idx_pair
        from stepwell.data.npz import array_in, open_npz

        path = Path(data)
        if self.form == "idx":
            images, labels = idx_pair(path)
        else:
            arrays = open_npz(path)
            images = array_in(arrays, self.inputs, path)
            labels = array_in(arrays, self.targets, path) if self.targets in arrays or with_targets == "required" else None
        if labels is None and with_targets == "required":
            raise DataError(f"{path.name} has no targets", expected="labels beside the images", fix="Add the labels file")
        shaped = shaped_as(images, self.layout)
        if tuple(shaped.shape[1:]) != self.shape:
            raise DataError(
                f"samples of {path.name} have shape {tuple(shaped.shape[1:])}",
                expected=f"{self.shape}, as in training",
                fix="Bring the new data into the training data's shape",
                where=path.name,
            )
        targets = None if labels is None else target.encode(flat_target(labels), part=path.name)
        return TensorExamples(self.encode(shaped, where=path.name), targets)

    def encode(self, shaped: Any, *, where: str) -> Tensor:
        """An array (N, *shape) as inputs, float32."""
        inputs = torch.from_numpy(shaped.astype("float32"))
        require_finite(inputs, self.inputs or "inputs", where=where)
        view = _along(self.layout)
        mean, scale = (torch.tensor(numbers, dtype=torch.float64).view(view) for numbers in (self.mean, self.scale))
        # One multiply and one add in place: the array may be as large as memory allows.
        factor = 1 / (scale * self.divide)
        return inputs.mul_(factor.float()).sub_((mean / scale).float())

    def signature(self, num_outputs: int) -> Signature:
        layout: InputKind = self.layout
        return Signature(layout, self.shape, num_outputs)

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> ArrayReader:
        fields: dict[str, Any] = {key: tuple(part) if isinstance(part, list) else part for key, part in value.items()}
        return ArrayReader(**fields)


def fit_reader(shaped: Any, *, form: Literal["npz", "idx"], layout: ArrayKind, standardise: bool, **keys: str) -> ArrayReader:
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
    pieces = range(0, len(shaped), 1024)
    mean = sum(shaped[start : start + 1024].sum(axis=along, dtype="float64") for start in pieces) / count
    centre = np.expand_dims(mean, [axis - 1 for axis in along if axis > 0])
    square = sum(((shaped[start : start + 1024] - centre) ** 2).sum(axis=along) for start in pieces) / count
    return np.asarray(mean).tolist(), np.sqrt(square).tolist()


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
        return values.reshape(len(values), -1)
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
