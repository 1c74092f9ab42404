"""What data looks like from a model's side: enough to build the model and to check a new file against it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

InputKind = Literal["vector", "table", "image", "mask", "series", "tokens", "document"]


@dataclass(frozen=True)
class Signature:
    """Shapes of one sample, without the batch dimension.

    Args:
        kind: vector (D,) float; table: {"numeric": (D,) float, "categories": (C,) int64}; image (channels, height,
            width) float; mask: the same, answered pixel by pixel; series (steps, D) float; tokens (T,) int64, answered
            token by token; document: the same, padded with 0, answered as a whole.
        shape: of the float inputs (for tokens and documents: (T,)); (0,) for a table without numeric columns.
        cardinalities: how many codes each categorical column has, the unseen/missing code 0 included.
        vocab_size: of tokens.
        num_outputs: width of the model's last layer: classes, labels, 1 for binary and single regression, the width
            of an embedding; of a multi-task model, of all its heads together.
        heads: of a multi-task model: each target's name and width, in order.
    """

    kind: InputKind
    shape: tuple[int, ...]
    num_outputs: int
    cardinalities: tuple[int, ...] = ()
    vocab_size: int = 0
    heads: tuple[tuple[str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Signature:
        return Signature(
            value["kind"],
            tuple(value["shape"]),
            value["num_outputs"],
            tuple(value.get("cardinalities", ())),
            value.get("vocab_size", 0),
            tuple((str(name), int(width)) for name, width in value.get("heads", ())),
        )
