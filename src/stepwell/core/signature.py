"""What data looks like from a model's side: enough to build the model and to check a new file against it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

InputKind = Literal["vector", "table", "image", "series", "tokens"]


@dataclass(frozen=True)
class Signature:
    """Shapes of one sample, without the batch dimension.

    Args:
        kind: vector (D,) float; table: {"numeric": (D,) float, "categories": (C,) int64}; image (channels, height,
            width) float; series (steps, D) float; tokens (T,) int64.
        shape: of the float inputs (for tokens: (T,)); (0,) for a table without numeric columns.
        cardinalities: how many codes each categorical column has, the unseen/missing code 0 included.
        vocab_size: of tokens.
        num_outputs: width of the model's last layer: classes, labels, 1 for binary and single regression.
    """

    kind: InputKind
    shape: tuple[int, ...]
    num_outputs: int
    cardinalities: tuple[int, ...] = ()
    vocab_size: int = 0

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
        )
