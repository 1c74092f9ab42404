"""Plateau: lower the rate when evaluations stop improving."""

from __future__ import annotations

import re
from typing import Any, Literal

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError, nearest
from stepwell.core.reports import EvalReport, StepReport
from stepwell.core.slots import Drive

__all__ = ["Plateau", "PlateauSchedule", "has_improved"]


def has_improved(
    value: float,
    best: float | None,
    *,
    mode: Literal["min", "max"],
    min_delta: float,
    threshold: Literal["relative", "absolute"] = "relative",
) -> bool:
    """Whether a value is better than the best so far by more than a margin. NaN never is.

    Args:
        value: the new value.
        best: the best so far, None before the first.
        mode: "min" where lower is better, "max" where higher is.
        min_delta: the margin, >= 0: as it is ("absolute") or times |best| ("relative").

    >>> has_improved(0.95, 1.0, mode="min", min_delta=0.1), has_improved(0.85, 1.0, mode="min", min_delta=0.1)
    (False, True)
    """
    if best is None:
        return value == value
    margin = min_delta * abs(best) if threshold == "relative" else min_delta
    return value < best - margin if mode == "min" else value > best + margin


class PlateauSchedule:
    """What `Plateau` makes for one run: a drive whose factor falls as evaluations are reported."""

    watches: Literal["evaluations"] = "evaluations"

    def __init__(self, settings: Plateau) -> None:
        self.settings = settings
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
        if not isinstance(report, EvalReport) or report.split != "validation":
            return
        rule = self.settings
        if rule.monitor not in report.metrics:
            raise JobError(
                f"plateau.monitor is {rule.monitor!r}",
                expected="a metric that is evaluated",
                fix=nearest(rule.monitor, report.metrics),
            )
        value = report.metrics[rule.monitor]
        if has_improved(value, self.best, mode=rule.mode, min_delta=rule.min_delta, threshold=rule.threshold):
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
        mode: "min" where lower is better, "max" where higher is.
        cooldown: evaluations after a reduction that don't count, an int >= 0.
        floor: the lowest factor, in [0, 1].
        drives: what it moves, "optimizer.lr" or "ID.FIELD" of any technique in the recipe.

    Raises:
        JobError: a value outside its range; at the first report, a monitor that isn't evaluated.

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
    mode: Literal["min", "max"] = "min"
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
        for name, known in {"mode": ("min", "max"), "threshold": ("relative", "absolute")}.items():
            value = getattr(self, name)
            require(value in known, f"plateau.{name}", value, " or ".join(map(repr, known)), f"Write {known[0]!r}")
        good = re.fullmatch(r"\w+\.\w+", self.drives) is not None
        require(good, "plateau.drives", self.drives, 'a field written "ID.FIELD"', 'Write for example "optimizer.lr"')

    def __call__(self, horizon: Horizon | None = None) -> PlateauSchedule:
        return PlateauSchedule(self)
