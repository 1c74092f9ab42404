"""What a forward pass calls, seen and changed without a look at the model's code: also functions that are no modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, functional.alpha_dropout)


class _Seen(TorchFunctionMode):
    """Takes down the share of every dropout that is called while training."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DROPOUTS and _training(args, given):
            self.shares.append(_share(args, given))
        return func(*args, **given)


class _Lighter(TorchFunctionMode):
    """Lowers the share of every dropout to at most `most`."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DROPOUTS:
            share = min(_share(args, given), self.most)
            args, given = (
                (args[0], share, *args[2:]) if len(args) > 1 else args,
                {**given} if len(args) > 1 else {**given, "p": share},
            )
        return func(*args, **given)


class LighterDropout(nn.Module):
    """A model none of whose dropouts, modules and functions alike, drops more than a share.

    Args:
        body: the model.
        most: the largest share, 0 to 1.
    """

    def __init__(self, body: nn.Module, most: float) -> None:
        super().__init__()
        self.body, self.most = body, most

    def forward(self, inputs: Any) -> Any:
        with _Lighter(self.most):
            return self.body(inputs)


def dropped_shares(model: nn.Module, inputs: Any) -> list[float]:
    """The shares of all dropouts that a forward pass calls in training mode, in order."""
    seen = _Seen()
    with torch.no_grad(), seen:
        model(inputs)
    return seen.shares


def _share(args: tuple[Any, ...], given: Mapping[str, Any]) -> float:
    return float(args[1] if len(args) > 1 else given.get("p", 0.5))


def _training(args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    return bool(args[2] if len(args) > 2 else given.get("training", True))
