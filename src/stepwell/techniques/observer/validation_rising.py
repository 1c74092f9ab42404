"""Validation rising: end the run when every one of the last evaluations was worse than the one before."""

from __future__ import annotations

from typing import Any

from stepwell.core.catalog import technique
from stepwell.core.clock import Horizon
from stepwell.core.direction import MetricObserver, Mode, checked_mode, has_improved, require_patience
from stepwell.core.reports import Stop

__all__ = ["ValidationRising", "ValidationRisingObserver"]


class ValidationRisingObserver(MetricObserver):
    """What `ValidationRising` makes for one run."""

    def __init__(self, settings: ValidationRising) -> None:
        super().__init__(settings, technique="validation_rising")
        self.last: float | None = None
        self.num_worse = 0

    def judged(self, value: float) -> Stop | None:
        """Compare with the evaluation before."""
        last, self.last = self.last, value
        # Worse than before is to have been better before; what is no number is neither.
        worse = last is not None and has_improved(last, value, mode=self.mode, min_delta=0.0)
        self.num_worse = self.num_worse + 1 if worse else 0
        if self.num_worse < self.settings.patience:
            return None
        moved = "risen" if self.mode == "min" else "fallen"
        where = f"{self.num_worse} evaluations in a row (now {value:.6g})"
        return Stop(f"validation_rising: {self.settings.monitor} has {moved} at {where}")

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last, "num_worse": self.num_worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last, self.num_worse = state["last"], state["num_worse"]


@technique(
    id="validation_rising",
    slot="observer",
    paper="Prechelt 1998, Early Stopping - But When? (criterion UP)",
    search={"patience": (3, 5, 8)},
)
class ValidationRising:
    """End the run when every one of the last evaluations was worse than the one before.

    What: stops when the monitored metric got worse `patience` times in a row, however large or small the steps; one
    evaluation that isn't worse starts the count again. Why: a loss that rises steadily is overfitting, where one that
    merely fails to improve may be noise. When not: noisy validation sets, on which a steady rise never comes;
    early_stopping counts from the best instead, and tolerates ups and downs.

    Args:
        patience: evaluations in a row, each worse than the one before, an int >= 1.
        monitor: name of a metric of the validation part.
        mode: "min" where lower is better, "max" where higher is; "auto" tells by the name: losses and errors low,
            accuracy, auc, r2, f1 and the like high.

    Raises:
        JobError: a value outside its range, a name that "auto" doesn't know; at the first report, a monitor that isn't
            evaluated.

    Paper: Prechelt, "Early stopping - but when?", in Neural Networks: Tricks of the Trade, 1998, criterion UP.

    >>> from stepwell.core.reports import EvalReport
    >>> observer = ValidationRising(patience=2)()
    >>> [observer(EvalReport(step=0, epoch=0.0, metrics={"loss": loss})) for loss in (1.0, 1.1, 1.0, 1.05)]
    [None, None, None, None]
    >>> observer(EvalReport(step=0, epoch=0.0, metrics={"loss": 1.06})).reason
    'validation_rising: loss has risen at 2 evaluations in a row (now 1.06)'
    """

    patience: int = 5
    monitor: str = "loss"
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        require_patience("validation_rising", self.patience)
        checked_mode(self.mode, monitor=self.monitor, technique="validation_rising")

    def __call__(self, horizon: Horizon | None = None) -> ValidationRisingObserver:
        return ValidationRisingObserver(self)
