"""What every target does: train with the public call, then predict in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def trained(model: nn.Module, data: tuple[Tensor, Tensor], *, recipe: Mapping[str, Any], budget: str, seed: int) -> nn.Module:
    """Train on all of the data, without a validation part: nothing is chosen by looking at held-out numbers."""
    import stepwell

    run = stepwell.fit(model, data, recipe=stepwell.Recipe(**recipe), budget=budget, seed=seed, out=None)
    result: nn.Module = run.model
    return result.eval()


def outputs(model: nn.Module, inputs: Tensor, *, batch_size: int = 1000) -> Tensor:
    """The model's outputs for all inputs, without gradients."""
    with torch.no_grad():
        return torch.cat([model(part) for part in inputs.split(batch_size)])
