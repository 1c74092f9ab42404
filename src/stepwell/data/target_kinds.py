"""Targets that are more than a column: masks, several tasks at once, and pairs and triplets, which train embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Tree
from stepwell.core.errors import DataError
from stepwell.data.targets import Target, TargetEncoder, Where, is_missing, label_of

__all__ = ["EmbeddingTarget", "ManyTargets", "MaskTarget", "target_from_dict"]

# Above this many different values a mask is a photograph.
MOST_VALUES = 100


@dataclass(frozen=True, kw_only=True)
class MaskTarget:
    """A class for each pixel; two classes are one logit per pixel, of the larger value.

    Args:
        values: pixel values of the masks, ascending: the k-th is class k.

    >>> import numpy as np
    >>> target = MaskTarget.fit(np.array([0, 255]), where="masks")
    >>> target.encode(np.array([[[0, 255]]])).tolist(), target.num_outputs
    ([[[0, 1]]], 1)
    """

    values: tuple[int, ...]

    task = "segmentation"
    names = ("mask",)
    mean, scale, heads = 0.0, 1.0, ()

    @staticmethod
    def fit(values: Any, *, where: str) -> MaskTarget:
        """From the different pixel values of the training part's masks.

        Raises:
            DataError: one value only, or too many for classes.
        """
        if not 2 <= len(values) <= MOST_VALUES:
            raise DataError(
                f"the training masks hold {len(values)} different pixel value{'s' if len(values) > 1 else ''}",
                expected=f"one value per class, 2 to {MOST_VALUES} in all",
                fix="Save masks as class numbers in a format without loss, such as png",
                where=where,
            )
        return MaskTarget(values=tuple(int(value) for value in values))

    @property
    def classes(self) -> list[str]:
        return [str(value) for value in self.values]

    @property
    def num_outputs(self) -> int:
        return 1 if len(self.values) == 2 else len(self.values)

    def encode(self, values: Any, *, where: Where | None = None, part: str = "the data") -> Tensor:
        """Masks (..., H, W) of whole numbers as class numbers, int64.

        Raises:
            DataError: a value that the training part's masks don't have.
        """
        import numpy as np

        known = np.array(self.values)
        places = np.searchsorted(known, values).clip(max=len(known) - 1)
        wrong = known[places] != values
        if wrong.any():
            raise DataError(
                f"a mask of {part} holds {np.asarray(values)[wrong][0]}",
                expected=f"one of the training masks' values, {', '.join(self.classes)}",
                fix="Correct the mask, or let training see one with that class",
            )
        return torch.from_numpy(places.astype("int64"))

    def masks(self, outputs: Tensor) -> Any:
        """Model outputs as masks of pixel values, (N, H, W): uint8, or int32 where values exceed 255."""
        outputs = outputs.detach().cpu()
        if outputs.ndim == 4 and 1 in (outputs.shape[1], outputs.shape[-1]) and len(self.values) == 2:
            outputs = outputs.squeeze(1 if outputs.shape[1] == 1 else -1)
        if outputs.ndim == 3:
            codes = (outputs > 0).long()
        else:
            codes = outputs.argmax(1 if outputs.shape[1] == len(self.values) else -1)
        table = torch.tensor(self.values, dtype=torch.uint8 if max(self.values) < 256 and min(self.values) >= 0 else torch.int32)
        return table[codes].numpy()

    def arrays(self, outputs: Tree) -> dict[str, Any]:
        """What is written into an .npz file: "masks"."""
        return {"masks": self.masks(outputs)}

    def decode(self, outputs: Tree) -> dict[str, Any]:
        """Each class's share of an image's pixels, one row per image."""
        masks = self.masks(outputs)
        return {f"share_{value}": (masks == value).mean(axis=(1, 2)) for value in self.values}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "mask", "values": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class ManyTargets:
    """Several targets of one input, each with a task of its own: {name: targets}.

    Args:
        encoders: one for each, in order.
    """

    encoders: tuple[TargetEncoder, ...]

    task = "multi_task"
    mean = 0.0

    @staticmethod
    def fit(
        values: dict[str, Any], *, tasks: dict[str, str] | None, where: Where | None = None, positive: str | None = None
    ) -> ManyTargets:
        """Look at the training part's columns.

        Args:
            values: each target's column, (N,).
            tasks: each one's task: classification, binary or regression; told by the values where left out: text and
                truth values are classes, two different values binary, other numbers a regression.
            where: row -> place in a file, for messages.
            positive: of every binary target that has this class.
        """
        tasks = tasks or {}
        made = []
        for name, column in values.items():
            task = tasks.get(name) or _guessed(column)
            chosen = positive if task == "binary" and positive in {label_of(value) for value in column.tolist()} else None
            made.append(TargetEncoder.fit(column, task=task, names=(name,), where=where, positive=chosen))
        return ManyTargets(encoders=tuple(made))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(encoder.names[0] for encoder in self.encoders)

    @property
    def classes(self) -> None:
        return None

    @property
    def scale(self) -> dict[str, float]:
        return {encoder.names[0]: float(encoder.scale) for encoder in self.encoders if not isinstance(encoder.scale, tuple)}

    @property
    def tasks(self) -> dict[str, str]:
        """Each target's task."""
        return {encoder.names[0]: encoder.task for encoder in self.encoders}

    @property
    def num_outputs(self) -> int:
        return sum(encoder.num_outputs for encoder in self.encoders)

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        return tuple((encoder.names[0], encoder.num_outputs) for encoder in self.encoders)

    def encode(self, values: Any, *, where: Where | None = None, part: str = "the data") -> Tree:
        """{name: tensor} of {name: column}."""
        return {e.names[0]: e.encode(values[e.names[0]], where=where, part=part) for e in self.encoders}

    def decode(self, outputs: Tree) -> dict[str, Any]:
        """Each target's columns, with its name in front: "status.prediction"."""
        columns: dict[str, Any] = {}
        for encoder in self.encoders:
            name = encoder.names[0]
            columns |= {f"{name}.{column}": value for column, value in encoder.decode(outputs[name]).items()}
        return columns

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "many", "encoders": [encoder.to_dict() for encoder in self.encoders]}


@dataclass(frozen=True, kw_only=True)
class EmbeddingTarget:
    """Pairs (1 = of the same class, 0 = not) or triplets (no targets): a model learns where to put each element.

    Args:
        task: "pairs" or "triplets".
        width: of the embedding, in numbers.
    """

    task: str
    width: int = 16

    names = ("same",)
    classes = None
    mean, scale, heads = 0.0, 1.0, ()

    @property
    def num_outputs(self) -> int:
        return self.width

    def encode(self, values: Any, *, where: Where | None = None, part: str = "the data") -> Tensor:
        """Truth values or 0 and 1, (N,), as int64.

        Raises:
            DataError: anything else.
        """
        import numpy as np

        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in "biuf" or not np.isin(array, [0, 1]).all():
            raise DataError(
                f"the targets of the pairs in {part} are {array.dtype} of shape {array.shape}",
                expected="one number per pair: 1 for the same class, 0 for different ones",
                fix="Code them as 0 and 1",
            )
        return torch.from_numpy(array.astype("int64"))

    def decode(self, outputs: Tree) -> dict[str, Any]:
        """Embeddings of single elements as columns; of pairs their distance, of triplets both distances."""
        if isinstance(outputs, Tensor):
            values = outputs.detach().cpu().double()
            return {f"embedding_{place}": values[:, place].numpy() for place in range(values.shape[1])}
        first, *others = (part.detach().cpu().double() for part in outputs)
        distances = [torch.linalg.vector_norm(first - other, dim=1).numpy() for other in others]
        names = ["distance"] if len(distances) == 1 else ["distance_positive", "distance_negative"]
        return dict(zip(names, distances, strict=True))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "embedding", "task": self.task, "width": self.width}


def target_from_dict(value: dict[str, Any]) -> Target:
    """What `to_dict` of any kind of target gave."""
    kind = value.get("kind", "column")
    if kind == "mask":
        return MaskTarget(values=tuple(value["values"]))
    if kind == "embedding":
        return EmbeddingTarget(task=value["task"], width=value["width"])
    if kind == "many":
        return ManyTargets(encoders=tuple(_column(encoder) for encoder in value["encoders"]))
    return _column(value)


def _column(value: dict[str, Any]) -> TargetEncoder:
    fields: dict[str, Any] = {key: tuple(v) if key != "classes" and isinstance(v, list) else v for key, v in value.items()}
    return TargetEncoder(**fields)


def _guessed(values: Any) -> str:
    import numpy as np

    present = values[~is_missing(values)]
    if len(np.unique(present.astype(str))) == 2:
        return "binary"
    return "regression" if values.dtype.kind in "iuf" else "classification"
