"""bf16 in the forward pass, where the hardware computes in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup
from stepwell.precision import Precision

_IN_HARDWARE = ("amx_bf16", "avx512_bf16", "avx_ne_convert", "bf16")


class InHalf(nn.Module):
    """A model whose products are computed in bf16; its outputs are in fp32.

    Args:
        inner: the model.
        device: where it computes.
    """

    def __init__(self, inner: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.inner, self.device, self.precision = inner, device, Precision.of("bf16")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.precision.forward(self.device):
            outputs = self.inner(*args, **kwargs)
        return self.precision.full(outputs)


@dataclass(frozen=True)
class Compared:
    """A loss in either format.

    Args:
        difference: relative; infinite where the loss in bf16 isn't finite or the model fails in it.
    """

    loss: float
    loss_in_bf16: float
    difference: float


def half_precision(setup: Setup) -> Setup:
    """The forward pass of a copy in bf16."""
    copied = setup.copied()
    return copied.change(model=InHalf(copied.model, _device(copied.model)))


def has_fast_bf16(setup: Setup) -> bool:
    """Whether the hardware that the model lies on multiplies in bf16, rather than imitating it."""
    device = _device(setup.model)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(found.get(name, False) for name in _IN_HARDWARE)


def bf16_check(setup: Setup, rows: Rows) -> Compared:
    """The loss of some rows in fp32 and in bf16, in evaluation mode, without a step."""
    full = _loss(setup.copied(), rows)
    try:
        half = _loss(half_precision(setup), rows)
    except RuntimeError:  # an operation that bf16 has no kernel for
        half = math.nan
    finite = math.isfinite(full) and math.isfinite(half)
    return Compared(full, half, abs(half - full) / max(abs(full), 1e-6) if finite else math.inf)


def _loss(setup: Setup, rows: Rows) -> float:
    setup.model.eval()
    with torch.no_grad(), seeded_defaults(0):
        return float(setup.loss(setup.model(rows.inputs), rows.targets))


def _device(model: nn.Module) -> torch.device:
    return next((part.device for part in model.parameters()), torch.device("cpu"))
