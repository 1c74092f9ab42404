"""Flat memory for a group of parameters: one buffer of values, one of gradients, ordinary parameters as views.

A norm, a clip, an update and a zeroing are then one operation each instead of one per tensor. Models, techniques
and state_dicts still see parameters with their own names and shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Every parameter starts at a multiple of 16 elements (64 bytes in fp32): kernels see the alignment that torch's
# own allocator gives, so their results keep the same bits.
ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring members that are updated as one: their places in the buffers, and who they are."""

    start: int
    stop: int
    members: tuple[int, ...]


class Layout:
    """Parameters of one dtype and device, laid out in flat buffers.

    Args:
        parameters: contiguous dense leaves; their `data` and `grad` become views of `values` and `gradients`.

    >>> weight = nn.Parameter(torch.ones(2, 3))
    >>> layout = Layout([weight])
    >>> layout.values.mul_(2.0).shape, weight.sum().item()
    (torch.Size([16]), 12.0)
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        first = self.parameters[0]
        self.starts: list[int] = []
        size = 0
        for parameter in self.parameters:
            self.starts.append(size)
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        self.values = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.values)
        self._values = self.views(self.values)
        self._gradients = self.views(self.gradients)
        self._addresses = [view.data_ptr() for view in self._values]
        with torch.no_grad():
            for parameter, view in zip(self.parameters, self._values, strict=True):
                view.copy_(parameter.data)
                parameter.data = view
        self.attach()

    @staticmethod
    def takes(parameter: nn.Parameter) -> bool:
        """Whether a parameter can be laid out: a plain dense leaf in its default memory order."""
        plain = type(parameter) is nn.Parameter and parameter.layout == torch.strided and parameter.is_leaf
        return plain and parameter.is_contiguous() and parameter.is_floating_point() and parameter.numel() > 0

    def views(self, buffer: Tensor) -> list[Tensor]:
        """The parameters' parts of a buffer of the layout's size, in their own shapes."""
        return [
            buffer[start : start + parameter.numel()].view(parameter.shape)
            for start, parameter in zip(self.starts, self.parameters, strict=True)
        ]

    def attach(self) -> None:
        """Make sure that parameters and gradients still are the views (a user may call `zero_grad`, or move the model).

        Gradients of parameters that don't train are None, as everywhere in torch. Where a parameter's memory was
        replaced, its new values are copied in and it is linked again.
        """
        gradients, addresses = self._gradients, self._addresses
        for index, parameter in enumerate(self.parameters):
            if parameter.data_ptr() != addresses[index]:
                with torch.no_grad():
                    self._values[index].copy_(parameter.data)
                parameter.data = self._values[index]
            if parameter.requires_grad:
                if parameter.grad is not gradients[index]:
                    parameter.grad = gradients[index]
            elif parameter.grad is not None:
                parameter.grad = None

    def runs(self, keys: Sequence[object]) -> list[Run]:
        """Maximal runs of neighbours with equal keys; a key of None leaves a parameter out."""
        runs: list[Run] = []
        last: object = None
        for index, key in enumerate(keys):
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else self.values.numel()
            if key is None:
                pass
            elif runs and key == last and runs[-1].stop == self.starts[index]:
                runs[-1] = Run(runs[-1].start, stop, (*runs[-1].members, index))
            else:
                runs.append(Run(self.starts[index], stop, (index,)))
            last = key
        return runs
