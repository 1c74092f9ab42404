"""A wide branch beside a model: what would be learnt if width were no limit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.rows import tensors
from stepwell.doctor.setup import Setup

WIDTH = 128
MOST_INPUTS = 4096


class Beside(nn.Module):
    """The outputs of a model plus those of two wide layers over its flattened inputs, standardised.

    Args:
        inner: the model.
        inputs: rows that the branch's sizes and scales are read from.
        shape: of one row of outputs.
        causal: each moment's outputs get what came before it only, as the model's own do: the branch sees no more.
    """

    def __init__(self, inner: nn.Module, inputs: Tensor, shape: torch.Size, *, causal: bool = False) -> None:
        super().__init__()
        self.inner, self.causal = inner, causal
        self.num_kinds = 0 if inputs.is_floating_point() else int(inputs.max()) + 1
        if max(self.num_kinds, 1) * inputs[0].numel() > MOST_INPUTS:
            raise ValueError(f"a branch takes at most {MOST_INPUTS} inputs")
        flat = self._flat(inputs)
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", flat.mean(0))
        self.register_buffer("scale", flat.std(0, correction=0).clamp(min=1e-6))
        self.moments = inputs.shape[1] if causal else 1
        num_outputs = shape.numel() // self.moments
        self.branch = nn.Sequential(
            nn.Linear(flat.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_outputs)
        )

    def _flat(self, inputs: Tensor) -> Tensor:
        if self.num_kinds:
            inputs = nn.functional.one_hot(inputs.long().clamp(0, self.num_kinds - 1), self.num_kinds)
        return inputs.reshape(len(inputs), -1).float()

    def forward(self, inputs: Tensor) -> Any:
        outputs = self.inner(inputs)
        flat = (self._flat(inputs) - self.center) / self.scale
        if self.causal:
            past = torch.ones(self.moments, self.moments, device=flat.device).tril()
            flat = (flat.reshape(len(flat), 1, self.moments, -1) * past[:, :, None]).flatten(2)
        beside: Tensor = self.branch(flat)
        return outputs + beside.reshape(outputs.shape)


def is_causal(model: nn.Module, inputs: Tensor, outputs: Tensor) -> bool:
    """Whether there is an output for each moment of a sequence, and a change of the last one reaches no output before it."""
    if inputs.dim() < 2 or outputs.dim() < 2 or inputs.shape[1] != outputs.shape[1] or inputs.shape[1] < 2:
        return False
    other = inputs.clone()
    other[:, -1] = inputs[torch.arange(len(inputs)).roll(1), -1] if not inputs.is_floating_point() else inputs[:, -1] + 1.0
    change = (model(other) - outputs).abs().reshape(len(inputs), inputs.shape[1], -1).amax((0, 2))
    near = 1e-5 * float(outputs.abs().max())
    return float(change[:-1].max()) <= near < float(change[-1])


def wider(setup: Setup) -> Setup:
    """The model with a wide branch beside it.

    Raises:
        ValueError: inputs or outputs aren't one tensor with rows first, or are too large.
    """
    copied = setup.copied()
    some = setup.train.take(slice(0, 512))
    given = tensors(some.inputs)
    with seeded_defaults(0), torch.no_grad():
        outputs = copied.model.eval()(some.inputs)
        if not isinstance(some.inputs, Tensor) or not isinstance(outputs, Tensor) or outputs.shape[:1] != given[0].shape[:1]:
            raise ValueError("a branch needs one tensor of inputs and one of outputs")
        causal = is_causal(copied.model, some.inputs, outputs)
        copied.model.train()
        return copied.change(
            model=Beside(copied.model, some.inputs, outputs.shape[1:], causal=causal),
            optimizer={key: value for key, value in copied.optimizer.items() if key != "params"},
        )
