"""The weights that a run delivers: the trained ones, or those of an average that is ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.core.slots import Average
from stepwell.engine.state import snapshot
from stepwell.engine.train_step import TrainStep


class Delivery:
    """A context in which the model holds the last ready average, finalised; it gives that average's id, or "trained".

    Args:
        step: whose model it is.
        refresh: batches for averages that re-estimate statistics, as a fresh iterable each call; None leaves those as they are.
    """

    def __init__(self, step: TrainStep, refresh: Callable[[], Any] | None) -> None:
        ready = [(key, average) for key, average in step.parts.averages.items() if average.ready]
        self.step, self.refresh = step, refresh
        self.key = ready[-1][0] if ready else "trained"
        self.average: Average | None = ready[-1][1] if ready else None
        self._context: Any = None

    def __enter__(self) -> str:
        if self.average is not None:
            self._context = self.average.swapped()
            self._context.__enter__()
            if self.refresh is not None:
                self.average.finalize(self.step.model, self.refresh())
        return self.key

    def __exit__(self, *error: Any) -> None:
        if self._context is not None:
            self._context.__exit__(*error)

    def keep(self) -> None:
        """Leave the delivered weights in the model for good."""
        with self:
            weights = snapshot(dict(self.step.model.state_dict()))
        self.step.model.load_state_dict(weights)
