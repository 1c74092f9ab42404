"""What a forward pass calls: modules and plain functions alike, seen and changed on their way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from stepwell.doctor.rows import tensors

Key = tuple[str, int]
"""A call: its function's name, and how many of that name came before it."""
Handler = Callable[[Key, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

WEIGHTED = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear")
_QUIET = ("__get__", "__set__", "dim", "size", "numel", "is_floating_point", "stride", "__len__")


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Args:
        key: its name and number.
        inputs: tensors among its arguments.
        output: what it returned.
        weighted: whether a weight that trains is among the arguments.
        values: its arguments by place.
        settings: its keywords that aren't tensors.
    """

    key: Key
    inputs: tuple[Tensor, ...]
    output: Any
    weighted: bool
    values: tuple[Any, ...]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.key[0]


class Handled(TorchFunctionMode):
    """Sends every call of a torch function through a handler; calls that it makes itself go straight through."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self.handler = handler
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _QUIET:
            return func(*args, **(kwargs or {}))
        key = (name, self.counts[name])
        self.counts[name] += 1
        return self.handler(key, func, args, kwargs or {})


def plain(key: Key, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The handler that changes nothing."""
    return func(*args, **kwargs)


def calls_of(model: nn.Module, inputs: Any, *, handler: Handler = plain) -> tuple[Any, list[Call]]:
    """Outputs of a forward pass, and its calls in their order. Modes and gradients are as the caller set them."""
    seen: list[Call] = []

    def record(key: Key, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = tuple(tensors(list(args)) + tensors(kwargs))
        output = handler(key, func, args, kwargs)
        settings = {name: value for name, value in kwargs.items() if not isinstance(value, Tensor)}
        trained = any(isinstance(part, nn.Parameter) for part in given)
        seen.append(Call(key, given, output, trained or key[0] in WEIGHTED, args, settings))
        return output

    with Handled(record):
        outputs = model(inputs)
    return outputs, seen


@dataclass(frozen=True)
class Reach:
    """Between which values outputs can be brought by the last weights.

    Args:
        low, high: of all outputs; infinite where nothing holds them back.
        after: calls between the last weights and the outputs.
        last: the call of the last weights.
        outputs: as they are.
    """

    low: float
    high: float
    after: tuple[Call, ...]
    last: Call
    outputs: Tensor


def reach_of(model: nn.Module, inputs: Any, *, push: float = 1e3) -> Reach | None:
    """Push what the last weights give by `push` times its scale, to both sides, all channels alike and every other one against
    its neighbours, and see how far outputs follow. None where no such call can be told.

    Args:
        model: a copy in evaluation mode.
    """
    outputs, seen = calls_of(model, inputs)
    places = [number for number, call in enumerate(seen) if call.weighted and _moves(call.output, call)]
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or not places:
        return None
    last = seen[places[-1]]
    if not isinstance(last.output, Tensor):
        return None
    scale = push * max(1.0, float(last.output.detach().abs().max()))
    channel = 1 if last.name.startswith("conv") else last.output.dim() - 1
    shape = [1] * last.output.dim()
    shape[channel] = last.output.shape[channel]
    turns = (torch.arange(shape[channel]) % 2 * 2.0 - 1.0).reshape(shape)
    found = [outputs]
    for direction in (1.0, -1.0, turns, -turns):

        def pushed(key: Key, func: Callable[..., Any], args: Any, kwargs: Any, by: Any = direction) -> Any:
            output = func(*args, **kwargs)
            return output + by * scale if key == last.key else output

        found.append(calls_of(model, inputs, handler=pushed)[0])
    values = torch.stack([part.detach() for part in found])
    if bool(torch.isnan(values).any()):
        return None
    low, high, far = float(values.min()), float(values.max()), 0.01 * scale
    after = tuple(seen[places[-1] + 1 :])
    return Reach(-float("inf") if low < -far else low, float("inf") if high > far else high, after, last, outputs)


def _moves(output: Any, call: Call) -> bool:
    """Whether a call computes with weights, rather than reading their shape."""
    found = tensors(output)
    return bool(found) and any(part.is_floating_point() and not isinstance(part, nn.Parameter) for part in found)
