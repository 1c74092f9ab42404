"""The weights that a run delivers: the trained ones, or those of an average that is ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.core.slots import Average
from stepwell.engine.shortage import Cut, SparingPass
from stepwell.engine.state import snapshot
from stepwell.engine.train_step import TrainStep


class Delivery:
    """A context in which the model holds the last ready average, finalised; it gives that average's id, or "trained".

    Args:
        step: whose model it is.
        refresh: batches for averages that re-estimate statistics, as a fresh iterable each call; None leaves those as they are.
        spared: what begins that pass again where it runs out of memory.
    """

    def __init__(self, step: TrainStep, refresh: Callable[[], Any] | None, spared: SparingPass | None = None) -> None:
        ready = [(key, average) for key, average in step.parts.averages.items() if average.ready]
        self.step, self.refresh, self.spared = step, refresh, spared or SparingPass()
        self.key = ready[-1][0] if ready else "trained"
        self.average: Average | None = ready[-1][1] if ready else None
        self._context: Any = None

    def __enter__(self) -> str:
        if self.average is not None:
            self._context = self.average.swapped()
            self._context.__enter__()
            try:
                if self.refresh is not None:
                    self.spared(self._finalize)
            except BaseException:  # what fails here has no __exit__, and the model must have its own weights back
                self._context.__exit__(None, None, None)
                raise
        return self.key

    def _finalize(self, cut: Cut) -> None:
        assert self.average is not None
        assert self.refresh is not None
        self.average.finalize(self.step.model, cut(self.refresh()))

    def __exit__(self, *error: Any) -> None:
        if self._context is not None:
            self._context.__exit__(*error)

    def keep(self) -> None:
        """Leave the delivered weights in the model for good."""
        with self:
            weights = snapshot(dict(self.step.model.state_dict()))
        self.step.model.load_state_dict(weights)
