"""A loss whose gradient no single row can dominate: clipping where a setup has no place for it but the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepwell.doctor.setup import Loss, Setup

MOST = 3.0  # times the median row that has a gradient


class _Limited(torch.autograd.Function):
    """Identity forward; backward, each row's gradient has at most `MOST` times the norm of the median row."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor) -> Tensor:
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        norms = gradient.reshape(len(gradient), -1).norm(dim=1)
        pulling = norms[norms > 0]  # rows that a margin or a mask lets off would bring the median to 0, and all others with it
        if not len(pulling):
            return gradient
        factors = (MOST * pulling.median() / norms.clamp(min=1e-30)).clamp(max=1.0)
        limited: Tensor = gradient * factors.reshape(-1, *[1] * (gradient.dim() - 1))
        return limited


@dataclass
class Tamed:
    """A loss with limited gradients.

    Args:
        inner: the loss.
    """

    inner: Loss

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        limited = _Limited.apply(outputs) if isinstance(outputs, Tensor) and outputs.requires_grad else outputs  # type: ignore[no-untyped-call]
        return self.inner(limited, targets)


def tamed(setup: Setup) -> Setup:
    """The same setup, its loss with limited gradients."""
    return setup.change(loss=Tamed(setup.loss))
