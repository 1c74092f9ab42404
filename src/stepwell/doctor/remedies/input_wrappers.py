"""Modules around a model that mend its inputs, so that any loop and any validation rows get the mend too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.doctor.rows import tree

FURTHEST = 10.0  # standard deviations: a column that is almost always constant would be blown up beyond


class StandardInputs(nn.Module):
    """A model behind inputs of mean 0 and spread 1.

    Args:
        inner: the model.
        means, spreads: of each tensor of the inputs, in order, to be broadcast over its rows; None leaves a tensor as it is.
    """

    def __init__(self, inner: nn.Module, means: Sequence[Tensor | None], spreads: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.inner = inner
        for place, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
            self.register_buffer(f"mean_{place}", mean)
            self.register_buffer(f"spread_{place}", spread)

    def forward(self, inputs: Any) -> Any:
        place = -1

        def scaled(part: Tensor) -> Tensor:
            nonlocal place
            place += 1
            mean, spread = getattr(self, f"mean_{place}"), getattr(self, f"spread_{place}")
            return part if mean is None else ((part - mean) / spread).clamp(-FURTHEST, FURTHEST)

        return self.inner(tree(inputs, scaled))


class FilledInputs(nn.Module):
    """A model that gets a fixed value wherever its inputs aren't finite.

    Args:
        inner: the model.
        fills: for each tensor of the inputs, in order, a value for every cell of a row; None leaves a tensor as it is.
    """

    def __init__(self, inner: nn.Module, fills: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.inner = inner
        for place, fill in enumerate(fills):
            self.register_buffer(f"fill_{place}", fill)

    def forward(self, inputs: Any) -> Any:
        place = -1

        def filled(part: Tensor) -> Tensor:
            nonlocal place
            place += 1
            fill = getattr(self, f"fill_{place}")
            return part if fill is None else torch.where(torch.isfinite(part), part, fill)

        return self.inner(tree(inputs, filled))


class MappedInputs(nn.Module):
    """A model behind inputs of other units: factor * inputs + shift.

    Args:
        inner: the model.
        factor, shift: to be broadcast over rows of the one tensor of inputs.
    """

    def __init__(self, inner: nn.Module, factor: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)

    def forward(self, inputs: Tensor) -> Any:
        return self.inner(inputs * self.get_buffer("factor") + self.get_buffer("shift"))
