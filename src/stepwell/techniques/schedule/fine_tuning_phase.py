"""Fine-tuning phase: from some time on, a lower rate and less dropout."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.clock import Horizon
from stepwell.core.duration import Duration
from stepwell.core.slots import ClockSchedule, Drive

__all__ = ["FineTuningPhase", "fine_tuning_phase"]


def fine_tuning_phase(factor: float, *, start: float) -> Callable[[float], float]:
    """A factor on something: 1 while done < start, `factor` from there on.

    Args:
        factor: what the phase multiplies by, >= 0.
        start: where it begins, in the unit of `done`.

    >>> [fine_tuning_phase(0.5, start=3)(done) for done in range(5)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def value(done: float) -> float:
        return 1.0 if done < start else factor

    return value


@technique(
    id="fine_tuning_phase",
    slot="schedule",
    role="factor",
    paper="Howard & Ruder 2018, arXiv:1801.06146 (a low rate at the end); practice of transformer training",
    search={"start": ("70%", "80%", "90%"), "lr_factor": (0.01, 0.3, "log")},
)
class FineTuningPhase:
    """End the run with a phase of its own: a lower rate and, where wished, less dropout.

    What: from `start` on, the rate is multiplied by `lr_factor` and the dropout probability by `dropout_factor`, whatever
    schedule stands beside it. Why: small, less noisy steps adapt a trained model to its task without undoing it. When
    not: beside a schedule that already ends low (cosine, one_cycle), where it only adds an abrupt drop.

    Args:
        start: when the phase begins, a duration, less than the budget.
        lr_factor: multiplies the rate, in (0, 1]. 0.033 takes 3e-4 to 1e-5; 1 changes nothing.
        dropout_factor: multiplies the probability of the recipe's dropout technique, in [0, 1]: 0.5 takes 0.1 to 0.05, 0
            switches it off. None leaves dropout alone; a number needs a dropout technique in the recipe.

    Raises:
        JobError: a value outside its range, a duration without a unit, a start that is not inside the budget.

    Paper: no single one; the idea is that of Howard & Ruder, "ULMFiT", ACL 2018, arXiv:1801.06146.

    >>> schedule = FineTuningPhase(start="80%", lr_factor=0.1, dropout_factor=0.5)(Horizon.of("100 steps"))
    >>> [(drive.target, drive.value(79), drive.value(80)) for drive in schedule.drives]
    [('optimizer.lr', 1.0, 0.1), ('dropout.probability', 1.0, 0.5)]
    """

    start: str = "80%"
    lr_factor: float = 0.033
    dropout_factor: float | None = None

    def __post_init__(self) -> None:
        Duration.parse(self.start, name="fine_tuning_phase.start")
        require_between("fine_tuning_phase.lr_factor", self.lr_factor, 0, 1, "Try 0.1, or 1 to keep the rate", ends="(]")
        if self.dropout_factor is not None:
            fix = "Try 0.5, or leave it out to keep the dropout"
            require_between("fine_tuning_phase.dropout_factor", self.dropout_factor, 0, 1, fix)

    def __call__(self, horizon: Horizon) -> ClockSchedule:
        start = horizon.amount(self.start, name="fine_tuning_phase.start")
        expected = f"less than the budget, {horizon.total:g} {horizon.unit}"
        fix = 'Write it in %, e.g. "80%", or train longer'
        require(start < horizon.total, "fine_tuning_phase.start", self.start, expected, fix)
        drives = [Drive("optimizer.lr", fine_tuning_phase(self.lr_factor, start=start))]
        if self.dropout_factor is not None:
            drives.append(Drive("dropout.probability", fine_tuning_phase(self.dropout_factor, start=start)))
        return ClockSchedule(tuple(drives))
