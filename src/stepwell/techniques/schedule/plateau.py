"""Plateau: lower the rate when evaluations stop improving."""

from __future__ import annotations

from typing import Any, Literal

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_one_of, require_target
from stepwell.core.clock import Horizon
from stepwell.core.direction import Mode, checked_mode, has_improved, monitored
from stepwell.core.reports import EvalReport, StepReport
from stepwell.core.slots import Drive

__all__ = ["Plateau", "PlateauSchedule"]


class PlateauSchedule:
    """What `Plateau` makes for one run: a drive whose factor falls as evaluations are reported."""

    watches: Literal["evaluations"] = "evaluations"

    def __init__(self, settings: Plateau) -> None:
        self.settings = settings
        self.mode = checked_mode(settings.mode, monitor=settings.monitor, technique="plateau")
        self.factor = 1.0
        self.best: float | None = None
        self.num_bad = 0
        self.num_cooling = 0
        self.drives = (Drive(settings.drives, lambda done: self.factor),)

    def __call__(self, report: StepReport | EvalReport) -> None:
        """Take note of a validation report; other reports change nothing.

        Raises:
            JobError: the monitored metric isn't in the report.
        """
        rule = self.settings
        value = monitored(report, rule.monitor, technique="plateau")
        if value is None:
            return
        if has_improved(value, self.best, mode=self.mode, min_delta=rule.min_delta, threshold=rule.threshold):
            self.best, self.num_bad = value, 0
        else:
            self.num_bad += 1
        if self.num_cooling > 0:
            self.num_cooling, self.num_bad = self.num_cooling - 1, 0
        if self.num_bad > rule.patience:
            self.factor = max(self.factor * rule.factor, rule.floor)
            self.num_cooling, self.num_bad = rule.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "best": self.best, "num_bad": self.num_bad, "num_cooling": self.num_cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor, self.best = state["factor"], state["best"]
        self.num_bad, self.num_cooling = state["num_bad"], state["num_cooling"]


@technique(
    id="plateau",
    slot="schedule",
    paper="torch.optim.lr_scheduler.ReduceLROnPlateau; practice since LeCun et al. 1998, Efficient BackProp",
    search={"factor": (0.1, 0.5, "log"), "patience": (2, 5, 10)},
)
class Plateau:
    """Multiply the rate by a factor whenever evaluations have stopped improving.

    What: after more than `patience` evaluations in a row without improvement, the factor on the configured value is
    multiplied by `factor`, down to `floor`; then `cooldown` evaluations don't count. Why: no length has to be known.
    When not: with no validation data, or with noisy metrics and little patience. The reports come at fixed points of
    the clock and what it has seen is saved, so a resumed run falls at the same step.

    Args:
        factor: multiplies the rate, in (0, 1).
        patience: evaluations without improvement that are tolerated, an int >= 0.
        min_delta: margin that counts as an improvement, >= 0.
        threshold: "relative": min_delta is a share of |best|; "absolute": in the metric's own unit. For a negative
            best, torch's relative margin has the wrong sign; this one has not.
        monitor: name of a metric of the validation part.
        mode: "min" where lower is better, "max" where higher is; "auto" tells by the name: losses and errors low,
            accuracy, auc, r2, f1 and the like high.
        cooldown: evaluations after a reduction that don't count, an int >= 0.
        floor: the lowest factor, in [0, 1].
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range, a name that "auto" doesn't know; at the first report, a monitor that isn't evaluated.

    Paper: none; the rule is torch's ReduceLROnPlateau.

    >>> schedule = Plateau(factor=0.5, patience=0)(Horizon.of("10 epochs", steps_per_epoch=5))
    >>> for loss in (1.0, 0.9, 0.95): schedule(EvalReport(step=0, epoch=0.0, metrics={"loss": loss}))
    >>> schedule.drives[0].value(15)
    0.5
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    threshold: Literal["relative", "absolute"] = "relative"
    monitor: str = "loss"
    mode: Mode = "auto"
    cooldown: int = 0
    floor: float = 0.0
    drives: str = "optimizer.lr"

    def __post_init__(self) -> None:
        require_between("plateau.factor", self.factor, 0, 1, "Write e.g. 0.1", ends="()")
        for name in ("patience", "cooldown"):
            value = getattr(self, name)
            good = isinstance(value, int) and value >= 0
            require(good, f"plateau.{name}", value, "a whole number of evaluations, at least 0", "Write e.g. 5")
        require(self.min_delta >= 0, "plateau.min_delta", self.min_delta, "a number of at least 0", "Write e.g. 1e-4")
        require_between("plateau.floor", self.floor, 0, 1, "Give it as a fraction of the configured value, e.g. 0.01")
        require_one_of("plateau.threshold", self.threshold, ("relative", "absolute"))
        checked_mode(self.mode, monitor=self.monitor, technique="plateau")
        require_target("plateau.drives", self.drives)

    def __call__(self, horizon: Horizon | None = None) -> PlateauSchedule:
        return PlateauSchedule(self)
