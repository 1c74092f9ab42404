"""The plan of a run: its budget, and when it evaluates, saves and gives up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stepwell.core.clock import Horizon
from stepwell.engine.records.saver import Retention


@dataclass(frozen=True)
class Plan:
    """When things happen, in optimizer steps.

    Args:
        horizon: the budget.
        evaluate_every, checkpoint_every: steps between two, or None for never (the end always evaluates and saves).
        max_seconds: wall-clock limit of this process's training.
        monitor: the metric that says which evaluation is best.
        deliver: whether the run ends with the "last" weights or puts the "best" evaluated ones back.
        keep: which checkpoints stay.
        saving: "background" writes checkpoints while training goes on, "wait" before the next step.
        on_nonfinite: "stop", "skip", or "rollback" to the state at the last checkpoint and past the bad
            stretch of data (three times to one place, then stop).
    """

    horizon: Horizon
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    max_seconds: float | None = None
    monitor: str = "loss"
    deliver: str = "last"
    keep: Retention = field(default_factory=Retention)
    saving: Literal["background", "wait"] = "background"
    on_nonfinite: str = "stop"
