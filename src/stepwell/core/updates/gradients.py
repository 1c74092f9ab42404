"""The gradients of a step, as the grad slot sees them: ordinary tensors, or the flat memory behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct

import torch
from torch import Tensor

_FP32 = Struct("f")


def global_norm(tensors: list[Tensor]) -> Tensor:
    """The L2 norm over all tensors, a scalar: of several, the norm of their norms.

    >>> global_norm([torch.tensor([3.0]), torch.tensor([0.0, 4.0])]).item()
    5.0
    """
    if not tensors:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(tensors[0] if len(tensors) == 1 else torch.stack(torch._foreach_norm(tensors, 2.0)))
    return norm


class Gradients:
    """Parameters with their gradients. Iterating gives the parameters.

    Args:
        parameters: those that have a gradient.
        spans: flat 1-D tensors that together cover exactly the same gradients, where the engine has laid them out;
            an elementwise change of the spans is a change of every gradient at a fraction of the calls.
    """

    __slots__ = ("_norm", "parameters", "spans", "tensors")

    def __init__(self, parameters: Sequence[Tensor], spans: Sequence[Tensor] | None = None) -> None:
        self.parameters = list(parameters)
        self.tensors: list[Tensor] = [p.grad for p in self.parameters if p.grad is not None]
        self.spans: list[Tensor] = self.tensors if spans is None else list(spans)
        self._norm: Tensor | None = None

    @staticmethod
    def of(parameters: Gradients | Iterable[Tensor]) -> Gradients:
        """Wrap any iterable of parameters; those without a gradient are left out."""
        if isinstance(parameters, Gradients):
            return parameters
        return Gradients([p for p in parameters if p.grad is not None])

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.parameters)

    def norm(self) -> Tensor:
        """Global L2 norm, a scalar, computed once until the gradients change.

        Over separate tensors it is the norm of their norms, with the bits of torch's clip_grad_norm_.
        """
        if self._norm is None:
            self._norm = global_norm(self.spans)
        return self._norm

    def changed(self) -> None:
        """Forget the norm: whoever writes to `tensors` or `spans` directly says so."""
        self._norm = None

    def scale_(self, factor: Tensor | float) -> None:
        """Multiply every gradient by a factor, in place."""
        self.changed()
        if len(self.spans) == 1:
            self.spans[0].mul_(factor)
        elif self.spans:
            torch._foreach_mul_(self.spans, factor)  # type: ignore[arg-type]

    def clip_(self, max_norm: float) -> Tensor:
        """Scale so that the global norm is at most `max_norm`; the norm before, a scalar. torch's rule and bits."""
        norm = self.norm()
        if norm.device.type == "cpu" and norm.dim() == 0:
            # Plain arithmetic on the host costs a tenth of five tiny tensor operations; a factor of 1 changes nothing.
            factor = _clip_factor(norm.item(), max_norm, _as_fp32 if norm.dtype == torch.float32 else float)
            if factor < 1.0:
                self.scale_(factor)
        else:
            self.scale_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm


def _as_fp32(value: float) -> float:
    """The nearest fp32 number. Sums, quotients and products of fp32 numbers round the same way twice as once."""
    try:
        return float(_FP32.unpack(_FP32.pack(value))[0])
    except OverflowError:
        return math.inf


def _clip_factor(norm: float, max_norm: float, rounded: Callable[[float], float]) -> float:
    """max_norm / (norm + 1e-6), rounded after every operation as the tensor operations round."""
    total = rounded(norm + rounded(1e-6))
    return rounded(rounded(1.0 / total) * rounded(max_norm)) if total > 0 else math.inf
