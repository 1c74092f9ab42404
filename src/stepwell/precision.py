"""Precision policies: what runs in which number format, and loss scaling for fp16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from stepwell.core.batch import Tree, tree_map
from stepwell.core.errors import JobError, nearest

_NOTHING: AbstractContextManager[Any] = nullcontext()
_HALF = (torch.float16, torch.bfloat16)


class LossScale:
    """Dynamic loss scaling: halve on overflow, double after a stretch of good steps.

    Args:
        scale: initial factor on the loss, > 0.
        growth_interval: good steps before the scale doubles.

    Paper: Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740.

    >>> scale = LossScale(1024.0, growth_interval=2)
    >>> for overflow in (True, False, False): scale.update(overflow=overflow)
    >>> scale.scale
    1024.0
    """

    def __init__(self, scale: float = 65536.0, *, growth_interval: int = 2000) -> None:
        self.scale, self.growth_interval, self.good_steps = scale, growth_interval, 0

    def update(self, *, overflow: bool) -> None:
        """Learn from one step."""
        if overflow:
            self.scale, self.good_steps = max(self.scale / 2, 1.0), 0
            return
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            self.scale, self.good_steps = self.scale * 2, 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])


@dataclass(frozen=True)
class Precision:
    """How the forward pass is computed. Losses, norms, updates and weights stay in fp32 under every policy.

    Args:
        name: fp32, bf16 or fp16.
        autocast: dtype of matrix products and convolutions under autocast; None runs in the weights' own dtype.
        loss_scale: for formats whose gradients underflow.
    """

    name: str = "fp32"
    autocast: torch.dtype | None = None
    loss_scale: LossScale | None = None

    @staticmethod
    def of(value: str | Precision) -> Precision:
        """The policy of a name.

        Raises:
            JobError: an unknown name.

        >>> Precision.of("bf16").autocast
        torch.bfloat16
        """
        if isinstance(value, Precision):
            return value
        if value == "fp32":
            return Precision()
        if value == "bf16":
            return Precision("bf16", torch.bfloat16)
        if value == "fp16":
            return Precision("fp16", torch.float16, LossScale())
        raise JobError(
            f"unknown precision {value!r}", expected="fp32, bf16 or fp16", fix=nearest(value, ["fp32", "bf16", "fp16"])
        )

    def forward(self, device: torch.device) -> AbstractContextManager[Any]:
        """`with precision.forward(device):` around the model's forward pass."""
        if self.autocast is None:
            return _NOTHING
        return torch.autocast(device.type, dtype=self.autocast)

    def full(self, outputs: Tree) -> Tree:
        """Outputs in fp32, so that softmax, logarithms and sums keep their digits; fp32 and fp64 stay as they are."""
        if self.autocast is None:
            return outputs
        return tree_map(lambda tensor: tensor.float() if tensor.dtype in _HALF else tensor, outputs)
