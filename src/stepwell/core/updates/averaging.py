"""What every average of weights shares: when it is updated, how it is swapped in, what is saved."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from stepwell.core.check import require
from stepwell.core.clock import Clock
from stepwell.core.errors import JobError
from stepwell.core.slots import Average

__all__ = ["NamedAverage", "wide"]


def wide(tensor: Tensor) -> Tensor:
    """A copy to average in: float32 for 16-bit floats, which would lose small differences; else the same dtype.

    >>> wide(torch.ones(2, dtype=torch.bfloat16)).dtype, wide(torch.ones(2, dtype=torch.int64)).dtype
    (torch.float32, torch.int64)
    """
    return tensor.to(torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype, copy=True)


class NamedAverage(Average):
    """An average kept as tensors by name; a subclass says when it takes in the weights, and how.

    Attributes:
        made_by: id of the technique that made it, for messages.
        tensors: the averaged tensors. `num_updates` counts what went into them, `num_steps` the steps seen.
        estimated: tensors that were estimated anew for the present average (batch-norm statistics). They stand in for
            those of `tensors` while swapped in, and are neither saved nor kept beyond the next update, so that
            evaluating or not, in the middle of a run, changes nothing that is saved.
    """

    made_by: ClassVar[str]

    def __init__(self) -> None:
        self.num_updates = self.num_steps = 0
        self.tensors: dict[str, Tensor] = {}
        self.estimated: dict[str, Tensor] = {}
        self._swapped = False

    @abstractmethod
    def live(self) -> dict[str, Tensor]:
        """The model's own tensors now, detached, under the names of `tensors`."""

    @abstractmethod
    def is_due(self) -> bool:
        """Whether the weights after step `num_steps` go in."""

    @abstractmethod
    def take_in(self) -> None:
        """Average in the weights as they are; `num_updates` went in before."""

    def update(self, clock: Clock | None = None) -> None:
        """Take note of a completed step. Without a clock, every call counts as a step."""
        assert not self._swapped, "the model holds the averaged weights: leave `swapped()` before updating"
        self.num_steps = self.num_steps + 1 if clock is None else clock.steps
        if self.is_due():
            self.take_in()
            self.num_updates += 1
            self.estimated = {}

    @property
    def ready(self) -> bool:
        return self.num_updates > 0

    @property
    def is_swapped(self) -> bool:
        """Whether the model holds the averaged weights now."""
        return self._swapped

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """`with average.swapped():` the model holds the averaged weights; afterwards its own again, to the bit."""
        name = f"{self.made_by}.ready"
        require(self.ready, name, False, "at least one update before swapping", "Look at `ready` first")
        live = self.live()
        own = [tensor.clone() for tensor in live.values()]
        before, self._swapped = self._swapped, True
        try:
            for name, tensor in live.items():
                tensor.copy_(self.estimated.get(name, self.tensors[name]))
            yield
        finally:
            for tensor, kept in zip(live.values(), own, strict=True):
                tensor.copy_(kept)
            self._swapped = before

    def state_dict(self) -> dict[str, Any]:
        """A snapshot: counters, and the averaged tensors under their state_dict names and shapes."""
        tensors = {name: tensor.clone() for name, tensor in self.tensors.items()}
        return {"num_updates": self.num_updates, "num_steps": self.num_steps, "tensors": tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a snapshot back.

        Raises:
            JobError: it is of a model with other tensors.
        """
        tensors = state["tensors"]
        shapes = [{name: tensor.shape for name, tensor in each.items()} for each in (self.tensors, tensors)]
        names = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
        if names:
            what = f"the saved average doesn't fit the model at {', '.join(names[:3])}"
            raise JobError(what, expected="the model that was averaged", fix="Resume with the job that saved it")
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
        self.num_updates, self.num_steps = state["num_updates"], state["num_steps"]
        self.estimated = {}
