"""Remedies that change the loss: what it is given, its sign, its size, or which one it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.doctor.setup import Loss, Setup

Change = Callable[[Setup], Setup]


class Reshaped:
    """A loss whose targets get the shape of the outputs, where both hold as many numbers."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return self.loss(outputs, targets.reshape(outputs.shape))


class Given:
    """A loss that is given a function of the outputs.

    Args:
        loss: of what the function returns.
        of: of the outputs.
    """

    def __init__(self, loss: Loss, of: Callable[[Tensor], Tensor]) -> None:
        self.loss, self.of = loss, of

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return self.loss(self.of(outputs), targets)


class Negated:
    """The negative of a loss."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return -self.loss(outputs, targets)


class PerRow:
    """A sum over rows as a mean.

    Args:
        loss: the sum.
        parts: terms of it in each row.
    """

    def __init__(self, loss: Loss, parts: int) -> None:
        self.loss, self.parts = loss, parts

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        first = outputs if isinstance(outputs, Tensor) else next(iter(outputs.values() if isinstance(outputs, dict) else outputs))
        return self.loss(outputs, targets) / (len(first) * self.parts)


class Entropy:
    """Cross-entropy of scores with labels of any dtype and shape.

    Args:
        class_dim: where scores have their classes.
        one_hot: targets are shares of the classes.
    """

    def __init__(self, class_dim: int = -1, *, one_hot: bool = False) -> None:
        self.class_dim, self.one_hot = class_dim, one_hot

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        scores = outputs.movedim(self.class_dim, -1)
        flat = scores.reshape(-1, scores.shape[-1])
        if self.one_hot:
            return nn.functional.cross_entropy(flat, targets.reshape(flat.shape).to(flat.dtype))
        return nn.functional.cross_entropy(flat, targets.reshape(-1).long())


class YesOrNo:
    """Binary cross-entropy with labels of any dtype and shape.

    Args:
        chances: outputs are between 0 and 1, not scores.
    """

    def __init__(self, *, chances: bool = False) -> None:
        self.chances = chances

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = targets.reshape(outputs.shape).to(outputs.dtype)
        if self.chances:
            return nn.functional.binary_cross_entropy(outputs, wanted)
        return nn.functional.binary_cross_entropy_with_logits(outputs, wanted)


class Squares:
    """Mean squared error with targets of any dtype and shape."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


class Log:
    """The logarithm of chances; of 0 it is that of the smallest normal number."""

    def __call__(self, chances: Tensor) -> Tensor:
        return (chances + torch.finfo(chances.dtype).tiny).log()


class LogSoftmax:
    """Log-softmax along the classes."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __call__(self, scores: Tensor) -> Tensor:
        return scores.log_softmax(self.dim)


class Softmax:
    """Softmax along the classes."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __call__(self, scores: Tensor) -> Tensor:
        return scores.softmax(self.dim)


class Between:
    """Outputs held between two values."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, outputs: Tensor) -> Tensor:
        return outputs.clamp(self.low, self.high)


def with_loss(loss: Loss) -> Change:
    """Another loss."""
    return lambda setup: setup.change(loss=loss)


def reshaped(setup: Setup) -> Setup:
    """Targets in the outputs' shape."""
    return setup.change(loss=Reshaped(setup.loss))


def given(of: Callable[[Tensor], Tensor]) -> Change:
    """The loss gets a function of the outputs."""
    return lambda setup: setup.change(loss=Given(setup.loss, of))


def negated(setup: Setup) -> Setup:
    """The other sign."""
    return setup.change(loss=Negated(setup.loss))


def per_row(parts: int) -> Change:
    """A mean instead of a sum."""
    return lambda setup: setup.change(loss=PerRow(setup.loss, parts))
