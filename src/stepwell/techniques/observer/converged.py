"""Converged: end the run when the training loss has stopped moving."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.clock import Horizon, steps_of
from stepwell.core.duration import Duration
from stepwell.core.reports import EvalReport, StepReport, Stop

__all__ = ["Converged", "ConvergedObserver"]


class ConvergedObserver:
    """What `Converged` makes for one run.

    Args:
        window: completed steps in a window, >= 1.
        epsilon, patience: see `Converged`.
    """

    watches: Literal["steps"] = "steps"

    def __init__(self, *, window: int, epsilon: float, patience: int) -> None:
        self.window, self.epsilon, self.patience = window, epsilon, patience
        self.total: Tensor | None = None
        self.num_steps = self.num_calm = 0
        self.last: float | None = None

    def __call__(self, report: StepReport | EvalReport) -> Stop | None:
        """Take in a completed step's loss; skipped steps and evaluations change nothing."""
        if not isinstance(report, StepReport) or report.skipped is not None:
            return None
        loss = report.loss.detach().mean()
        self.total = loss if self.total is None else self.total + loss
        self.num_steps += 1
        if self.num_steps < self.window:
            return None
        # Read from the device once per window, and not in every step.
        mean, last = float(self.total) / self.window, self.last
        self.total, self.num_steps, self.last = None, 0, mean
        calm = last is not None and abs(mean - last) < self.epsilon
        self.num_calm = self.num_calm + 1 if calm else 0
        if self.num_calm < self.patience:
            return None
        moves = f"moved by less than {self.epsilon:g} {self.num_calm} times in a row"
        return Stop(f"converged: the mean training loss over {self.window} steps {moves} (now {mean:.6g})")

    def state_dict(self) -> dict[str, Any]:
        total = None if self.total is None else self.total.clone()
        return {"total": total, "num_steps": self.num_steps, "last": self.last, "num_calm": self.num_calm}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.num_steps = state["total"], state["num_steps"]
        self.last, self.num_calm = state["last"], state["num_calm"]


@technique(
    id="converged",
    slot="observer",
    paper="Prechelt 1998, Early Stopping - But When? (training progress)",
    search={"patience": (1, 3, 5)},
)
class Converged:
    """End the run when the training loss has stopped moving.

    What: the loss of single steps is too noisy to compare, so its mean over windows of `window` is: when the means of
    consecutive windows differ by less than `epsilon`, `patience` times in a row, the run ends. Why: a fixed budget often
    outlives what there is to learn. When not: with schedules tied to the budget, whose low rates come last; small loss
    changes may still be accuracy; and it says nothing about generalisation (early_stopping, validation_rising). The loss
    is the one that is trained, with smoothing, mixing and dropout.

    Args:
        epsilon: smallest change of the window's mean that counts as movement, in units of the loss, > 0.
        window: length of a window, a duration > 0, in completed steps; at least 1 step.
        patience: calm pairs of windows in a row, an int >= 1.

    Raises:
        JobError: a value outside its range, a % without a planned run.

    Paper: the criterion |loss_t - loss_{t-1}| < threshold is folklore; progress over strips of training: Prechelt, "Early
    stopping - but when?", in Neural Networks: Tricks of the Trade, 1998.

    >>> import torch
    >>> from stepwell.core.reports import Term
    >>> observer, norm = Converged(window="1 step", epsilon=0.01, patience=2)(), torch.zeros(())
    >>> def after(loss): return observer(StepReport(1, 0, {"l": Term(torch.tensor(loss), "n")}, {"n": 1}, norm, 0.1, {}, 1))
    >>> [after(loss) for loss in (1.0, 0.5, 0.499)]
    [None, None, None]
    >>> after(0.498).reason
    'converged: the mean training loss over 1 steps moved by less than 0.01 2 times in a row (now 0.498)'
    """

    epsilon: float = 1e-4
    window: str = "5%"
    patience: int = 3

    def __post_init__(self) -> None:
        require(self.epsilon > 0, "converged.epsilon", self.epsilon, "a number above 0", "Write e.g. 1e-4")
        window = Duration.parse(self.window, name="converged.window")
        require(window.amount > 0, "converged.window", self.window, "a duration above 0", 'Write e.g. "1 epochs"')
        whole = isinstance(self.patience, int) and self.patience >= 1
        require(whole, "converged.patience", self.patience, "a whole number of windows, at least 1", "Write e.g. 3")

    def __call__(self, horizon: Horizon | None = None) -> ConvergedObserver:
        window = max(steps_of(self.window, horizon, name="converged.window"), 1)
        return ConvergedObserver(window=window, epsilon=self.epsilon, patience=self.patience)
