"""What the tests of update rules share: gradients, a comparison over fifty steps, and one way to call every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.techniques import adagrad_, adam_, adamw_, lamb_, lars_, lion_, rmsprop_, sgd_

SHAPES = [(7, 5), (5,), (3, 2, 2), (1,)]


def tensors(shapes: Iterable[tuple[int, ...]], seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes]


def parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(tensor) for tensor in tensors(SHAPES, 0, dtype)]


def trained(
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer], dtype: torch.dtype, num_steps: int = 50
) -> list[Tensor]:
    """The parameters after steps with gradients that are the same for every optimizer."""
    made = parameters(dtype)
    optimizer = build(made)
    for count in range(num_steps):
        for parameter, gradient in zip(made, tensors(SHAPES, 100 + count, dtype)):
            parameter.grad = gradient
        optimizer.step()
    return [parameter.detach() for parameter in made]


def largest_difference(left: list[Tensor], right: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


@dataclass(frozen=True)
class Rule:
    """One update of a rule: (values, gradients, state, step, lr and the like) with `num_states` state tensors each."""

    update: Callable[..., None]
    num_states: int


def _sgd(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    sgd_(w, g, *s, momentum=0.9, weight_decay=0.1, nesterov=True, **more)


def _adamw(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    adamw_(w, g, *s, t, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, **more)


def _adam(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    adam_(w, g, *s, t, weight_decay=0.1, **more)


def _adagrad(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    adagrad_(w, g, *s, t, lr_decay=0.1, weight_decay=0.1, **more)


def _rmsprop(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    rmsprop_(w, g, *s, **more)


def _rmsprop_decayed(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    rmsprop_(w, g, *s, weight_decay=0.1, **more)


def _rmsprop_momentum(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    rmsprop_(w, g, s[0], momentum=0.9, momentum_buffers=s[1], **more)


def _rmsprop_centered(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    rmsprop_(w, g, s[0], momentum=0.9, momentum_buffers=s[1], grad_avgs=s[2], weight_decay=0.1, **more)


def _lion(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    lion_(w, g, *s, weight_decay=0.1, **more)


def _lars(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    lars_(w, g, *s, weight_decay=0.1, **more)


def _lars_plain(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    lars_(w, g, *s, momentum=0.0, trust_coefficient=0.1, **more)


def _lamb(w: Any, g: Any, s: Any, t: Any, **more: Any) -> None:
    lamb_(w, g, *s, t, **more)


RULES = {
    "sgd": Rule(_sgd, 1),
    "adamw": Rule(_adamw, 2),
    "adam": Rule(_adam, 2),
    "adagrad": Rule(_adagrad, 1),
    "rmsprop": Rule(_rmsprop, 1),
    "rmsprop decayed": Rule(_rmsprop_decayed, 1),
    "rmsprop momentum": Rule(_rmsprop_momentum, 2),
    "rmsprop centered": Rule(_rmsprop_centered, 3),
    "lion": Rule(_lion, 1),
    "lars": Rule(_lars, 1),
    "lars without momentum": Rule(_lars_plain, 1),
    "lamb": Rule(_lamb, 2),
}
