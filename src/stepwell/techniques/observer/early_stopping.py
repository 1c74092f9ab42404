"""Early stopping: end the run when evaluations have stopped improving."""

from __future__ import annotations

from typing import Any

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.clock import Horizon
from stepwell.core.direction import MetricObserver, Mode, checked_mode, has_improved, require_patience
from stepwell.core.reports import Stop

__all__ = ["EarlyStopping", "EarlyStoppingObserver"]


class EarlyStoppingObserver(MetricObserver):
    """What `EarlyStopping` makes for one run."""

    def __init__(self, settings: EarlyStopping) -> None:
        super().__init__(settings, technique="early_stopping")
        self.best: float | None = None
        self.num_bad = 0

    def judged(self, value: float) -> Stop | None:
        """Compare with the best evaluation so far."""
        rule = self.settings
        if has_improved(value, self.best, mode=self.mode, min_delta=rule.min_delta, threshold="absolute"):
            self.best, self.num_bad = value, 0
            return None
        self.num_bad += 1
        if self.num_bad < rule.patience:
            return None
        best = "never a number" if self.best is None else f"{self.best:.6g}"
        reason = f"{rule.monitor} has not improved for {self.num_bad} evaluations (best {best}, now {value:.6g})"
        return Stop(f"early_stopping: {reason}")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "num_bad": self.num_bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.num_bad = state["best"], state["num_bad"]


@technique(
    id="early_stopping",
    slot="observer",
    paper="Prechelt 1998, Early Stopping - But When?",
    search={"patience": (3, 5, 10)},
)
class EarlyStopping:
    """End the run when evaluations have stopped improving.

    What: stops after `patience` evaluations in a row without an improvement of more than `min_delta` on the best. Why:
    saves time, and weights from before the overfitting are kept (restoring the best ones is the trainer's work). When
    not: with schedules tied to the budget (one_cycle, warmup_cosine): the low rates that make the gain come last.

    Args:
        patience: evaluations without improvement, an int >= 1.
        min_delta: smallest change that counts, in the metric's own unit, >= 0.
        monitor: name of a metric of the validation part.
        mode: "min" where lower is better, "max" where higher is; "auto" tells by the name: losses and errors low,
            accuracy, auc, r2, f1 and the like high.

    Raises:
        JobError: a value outside its range, a name that "auto" doesn't know; at the first report, a monitor that isn't
            evaluated.

    Paper: Prechelt, "Early stopping - but when?", in Neural Networks: Tricks of the Trade, 1998.

    >>> from stepwell.core.reports import EvalReport
    >>> observer = EarlyStopping(patience=2)()
    >>> [observer(EvalReport(step=0, epoch=0.0, metrics={"loss": loss})) for loss in (1.0, 0.9, 0.95)]
    [None, None, None]
    >>> observer(EvalReport(step=0, epoch=0.0, metrics={"loss": 0.92})).reason
    'early_stopping: loss has not improved for 2 evaluations (best 0.9, now 0.92)'
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "loss"
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        require_patience("early_stopping", self.patience)
        require(self.min_delta >= 0, "early_stopping.min_delta", self.min_delta, "a number of at least 0", "Write e.g. 0.001")
        checked_mode(self.mode, monitor=self.monitor, technique="early_stopping")

    def __call__(self, horizon: Horizon | None = None) -> EarlyStoppingObserver:
        return EarlyStoppingObserver(self)
