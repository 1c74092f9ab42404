"""Target reached: end the run once a metric is good enough."""

from __future__ import annotations

import math
from typing import Any

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.clock import Horizon
from stepwell.core.direction import MetricObserver, Mode, checked_mode
from stepwell.core.reports import Stop

__all__ = ["TargetReached", "TargetReachedObserver"]


class TargetReachedObserver(MetricObserver):
    """What `TargetReached` makes for one run."""

    def __init__(self, settings: TargetReached) -> None:
        super().__init__(settings, technique="target_reached")

    def judged(self, value: float) -> Stop | None:
        """Compare with the target."""
        monitor, target = self.settings.monitor, self.settings.value
        if self.mode == "min":
            return Stop(f"target_reached: {monitor} {value:.6g} <= {target:.6g}") if value <= target else None
        return Stop(f"target_reached: {monitor} {value:.6g} >= {target:.6g}") if value >= target else None

    def state_dict(self) -> dict[str, Any]:
        """Empty: it remembers nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


@technique(id="target_reached", slot="observer", paper="MLPerf, Mattson et al. 2020, arXiv:1910.01500 (time to target)")
class TargetReached:
    """End the run once a metric of the validation part is good enough.

    What: stops at the first evaluation whose metric has reached `value`. Why: measures time to a quality, and spares
    steps that nobody needs. When not: as the only end: the budget still ends a run that never gets there. A target
    chosen on the same validation part makes that part's figure optimistic; read the test part's.

    Args:
        value: the target, in the metric's own unit; finite.
        monitor: name of a metric of the validation part.
        mode: "max": reached at or above the value; "min": at or below; "auto" tells by the name: losses and errors low,
            accuracy, auc, r2, f1 and the like high.

    Raises:
        JobError: the value isn't finite, another mode, a name that "auto" doesn't know; at the first report, a monitor that isn't
            evaluated.

    Paper: time to target quality, Mattson et al., "MLPerf Training Benchmark", MLSys 2020, arXiv:1910.01500.

    >>> from stepwell.core.reports import EvalReport
    >>> observer = TargetReached(monitor="accuracy", value=0.97)()
    >>> observer(EvalReport(step=10, epoch=1.0, metrics={"accuracy": 0.96}))
    >>> observer(EvalReport(step=20, epoch=2.0, metrics={"accuracy": 0.972})).reason
    'target_reached: accuracy 0.972 >= 0.97'
    """

    monitor: str
    value: float
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        require(math.isfinite(self.value), "target_reached.value", self.value, "a finite number", "Write e.g. 0.97")
        checked_mode(self.mode, monitor=self.monitor, technique="target_reached")

    def __call__(self, horizon: Horizon | None = None) -> TargetReachedObserver:
        return TargetReachedObserver(self)
