"""Update rules over stacked replicas: K models in one, every tensor with a leading dimension of K."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from torch import Tensor

Parameters = ParamSpec("Parameters")


def replicated(update: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Let an update rule take `replicas`, and a rate per replica.

    Where `replicas` is K, or `lr` a tensor of K values, every tensor of the rule's lists has a leading dimension of K
    (step counts, which have no dimension, are shared), and the rule is applied to each replica by itself: each gets the
    bits of its own single run. Without either, the rule sees the tensors as they are.

    >>> @replicated
    ... def descend_(values, gradients, *, lr, replicas=None):
    ...     for value, gradient in zip(values, gradients):
    ...         value.sub_(gradient * lr)
    >>> import torch
    >>> weight = torch.ones(2, 3)
    >>> descend_([weight], [torch.ones(2, 3)], lr=torch.tensor([0.0, 0.5]))
    >>> weight[:, 0].tolist()
    [1.0, 0.5]
    """

    @functools.wraps(update)
    def apply(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        rate = kwargs["lr"]
        rates = rate.unbind() if isinstance(rate, Tensor) and rate.ndim else None
        count: Any = kwargs.get("replicas") if rates is None else len(rates)
        if count is None:
            update(*args, **kwargs)
            return
        for number in range(count):
            ours: dict[str, Any] = {key: _member(value, number) for key, value in kwargs.items()}
            ours |= {"lr": rate if rates is None else rates[number], "replicas": None}
            update(*(_member(value, number) for value in args), **ours)  # type: ignore[call-arg]

    return apply


def _member(value: Any, number: int) -> Any:
    """One replica's part of a list of tensors; anything else as it is."""
    if not isinstance(value, list):
        return value
    return [tensor[number] if isinstance(tensor, Tensor) and tensor.ndim else tensor for tensor in value]
