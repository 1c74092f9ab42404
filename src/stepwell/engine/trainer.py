"""The loop around the step: draw, step, evaluate, decide, save, in one fixed order at fixed points of the clock."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from stepwell.core.clock import Horizon
from stepwell.core.errors import Interrupted, TrainingStopped
from stepwell.core.reports import EvalReport, StepReport, Stop
from stepwell.core.slots import Average, Source
from stepwell.engine.checkpoint import newest_checkpoint, save_checkpoint
from stepwell.engine.history import Recorder
from stepwell.engine.metrics import metric_mode
from stepwell.engine.run_folder import RunFolder
from stepwell.engine.signals import SignalFlag
from stepwell.engine.state import snapshot
from stepwell.engine.train_step import TrainStep

logger = logging.getLogger("stepwell.train")
MOST_SKIPS = 100  # in a row; after that nothing is learned any more, and the run stops
RECORDED_SKIPS = 20  # of a row of skipped steps, so that a run that went bad doesn't fill the disk with events
MOST_ROLLBACKS = 3  # to one place; after that the data is not the cause, and the run stops


@dataclass(frozen=True)
class Plan:
    """When things happen, in optimizer steps.

    Args:
        horizon: the budget.
        evaluate_every, checkpoint_every: steps between two, or None for never (the end always evaluates and saves).
        max_seconds: wall-clock limit of this process's training.
        monitor: the metric that says which evaluation is best.
        deliver: whether the run ends with the "last" weights or puts the "best" evaluated ones back.
        keep: newest checkpoints that stay.
        on_nonfinite: "stop", "skip", or "rollback" to the state at the last checkpoint and past the bad
            stretch of data (three times to one place, then stop).
    """

    horizon: Horizon
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    max_seconds: float | None = None
    monitor: str = "loss"
    deliver: str = "last"
    keep: int = 2
    on_nonfinite: str = "stop"


class Trainer:
    """Runs a TrainStep over a source until the plan says stop.

    Args:
        step: the training step; its clock and cursor say where the run is.
        source: where batches come from.
        plan: when things happen.
        recorder: what keeps the rows.
        evaluator: metrics of the model as it stands (weights already swapped in), or None.
        refresh: batches for averages that re-estimate statistics, as a fresh iterable each call.
        folder: where checkpoints go, or None.
    """

    def __init__(
        self,
        step: TrainStep,
        source: Source,
        *,
        plan: Plan,
        recorder: Recorder,
        evaluator: Callable[[], dict[str, float]] | None = None,
        refresh: Callable[[], Any] | None = None,
        folder: RunFolder | None = None,
    ) -> None:
        self.step, self.source, self.plan, self.recorder = step, source, plan, recorder
        self.evaluator, self.refresh, self.folder = evaluator, refresh, folder
        self.best: dict[str, Any] = {}
        self.stop_reason: str | None = None
        self._stopped: str | None = None  # by an observer: a resumed run stays stopped then, whatever its budget
        self._best_weights: dict[str, Any] | None = None
        self._rollback: dict[str, Any] | None = None
        self._rollbacks = 0
        self._skips = 0
        self._evaluated_at = -1
        observers = list(step.parts.observers.values())
        self._step_observers = [item for item in observers if item.watches == "steps"]
        self._evaluation_observers = [item for item in observers if item.watches == "evaluations"]
        self._epochs_per_step = 1 / plan.horizon.steps_per_epoch if plan.horizon.steps_per_epoch else 0.0

    def run(self) -> str:
        """Train to the end; the reason for stopping.

        Raises:
            TrainingStopped: a non-finite step under "stop". Weights are those before that step.
            Interrupted: a signal came; the state was saved first.
        """
        step, source, plan, device = self.step, self.source, self.plan, self.step.device
        self._mark_good()
        started = time.monotonic()
        with SignalFlag() if self.folder is not None else nullcontext() as flag:
            while self.stop_reason is None:
                if plan.horizon.done(step.clock) >= plan.horizon.total:
                    self.stop_reason = "budget spent"
                    break
                if plan.max_seconds is not None and time.monotonic() - started > plan.max_seconds:
                    self.stop_reason = f"max time of {plan.max_seconds:g} s reached"
                    break
                batch = source.next(step.cursor, step.model)
                report = step(batch if device.type == "cpu" else batch.to(device))
                self.recorder.step(report, self._epochs_per_step)
                if report.skipped is not None:
                    self._nonfinite(report)
                else:
                    self._after(report)
                if flag is not None and flag.number:
                    self._interrupted(flag.number)
        self._finish()
        assert self.stop_reason is not None
        return self.stop_reason

    def _after(self, report: StepReport) -> None:
        """Evaluate, let observers decide, save: one ordered transaction at a fixed point of the clock."""
        steps, plan = report.step, self.plan
        self._skips = 0
        for observer in self._step_observers:
            self._heed(observer(report))
        if plan.evaluate_every and steps % plan.evaluate_every == 0:
            self._evaluate()
        if plan.checkpoint_every and steps % plan.checkpoint_every == 0:
            self._mark_good()
            if self.folder is not None:
                self.save()

    def _evaluate(self) -> None:
        if self.evaluator is None:
            return
        step = self.step
        with self.delivered() as weights:
            metrics = self.evaluator()
            report = EvalReport(step.clock.steps, self.plan.horizon.epochs(step.clock), metrics, weights=weights)
            self._evaluated_at = report.step
            self.recorder.evaluated(report)
            self._keep_best(report)
        for observer in self._evaluation_observers:
            self._heed(observer(report))

    def _mark_good(self) -> None:
        """Where a rollback would go back to: the last checkpoint's place, or the start."""
        if self.plan.on_nonfinite == "rollback":
            self._rollback, self._rollbacks = snapshot(self.step.state_dict()), 0

    def delivered(self) -> Any:
        """A context in which the model holds what would be delivered now: the last ready average, or its own weights."""
        return _Delivered(self.step, self.refresh)

    def _keep_best(self, report: EvalReport) -> None:
        value = report.metrics.get(self.plan.monitor, math.nan)
        sign = 1 if metric_mode(self.plan.monitor) == "max" else -1
        if math.isnan(value) or (self.best and sign * value <= sign * self.best["value"]):
            return
        self.best = {
            "metric": self.plan.monitor,
            "value": value,
            "step": report.step,
            "epoch": report.epoch,
            "weights": report.weights,
        }
        self.best["metrics"] = dict(report.metrics)
        if self.plan.deliver == "best":
            self._best_weights = snapshot(dict(self.step.model.state_dict()))

    def _heed(self, stop: Stop | None) -> None:
        if stop is not None and self.stop_reason is None:
            self.stop_reason = self._stopped = stop.reason

    def _nonfinite(self, report: StepReport) -> None:
        scaled = self.step.precision.loss_scale is not None
        policy = "skip" if scaled else self.plan.on_nonfinite
        self._skips += 1
        loss, norm = float(report.loss.sum()), float(report.grad_norm)
        if self._skips <= RECORDED_SKIPS:
            detail = {"loss": loss, "grad_norm": norm, "lr": report.lr, "policy": policy}
            self.recorder.event("nonfinite", report.step, cursor=report.cursor, **detail)
        if policy == "rollback" and self._rollbacks < MOST_ROLLBACKS:
            self._rollbacks += 1
            cursor = self.step.cursor
            self.step.load_state_dict(snapshot(self._rollback))
            self.step.cursor = cursor
            self.recorder.event("rolled_back", self.step.clock.steps, cursor=cursor)
        elif policy != "skip" or self._skips >= MOST_SKIPS:
            self._give_up(report, loss, norm)

    def _give_up(self, report: StepReport, loss: float, norm: float) -> None:
        """Save what was good, placed so that a resumed run meets the same step, and say what happened."""
        last = next((row["loss"] for row in reversed(self.recorder.history.train) if math.isfinite(row["loss"])), None)
        self.recorder.flush(self._epochs_per_step)
        place = ""
        if self.folder is not None:
            self.step.cursor = report.cursor
            self.save()
            place = f"; details: {self.folder.path}"
        before = f"last finite {last:.4g}, " if last is not None else ""
        row = f" {self._skips} times in a row" if self._skips > 1 else ""
        raise TrainingStopped(
            f"loss or gradient became non-finite{row} after step {report.step} "
            f"(loss {loss:.4g}, {before}grad_norm {norm:.4g}, lr {report.lr:.3g}). Weights were not updated",
            expected="finite losses and gradients",
            fix=f"Try a lower peak lr, a longer warmup, or clip_norm 1.0{place}",
        )

    def _interrupted(self, number: int) -> None:
        assert self.folder is not None
        place = self.save()
        self.recorder.event("interrupted", self.step.clock.steps, signal=number)
        raise Interrupted(
            f"interrupted after step {self.step.clock.steps}; everything up to it is saved in {place}",
            expected="the run to reach its budget",
            fix=f"Continue with `stepwell resume {self.folder.path}`",
            signal_number=number,
        )

    def _finish(self) -> None:
        self.recorder.flush(self._epochs_per_step)
        if self.evaluator is not None and self._evaluated_at != self.step.clock.steps:
            self._evaluate()
        if self.folder is not None:
            self.save()
        self.recorder.event("stopped", self.step.clock.steps, reason=self.stop_reason)
        if self.plan.deliver == "best" and self._best_weights is not None:
            self.step.model.load_state_dict(self._best_weights)
        else:
            self.delivered().keep()

    def save(self) -> Any:
        """Write a checkpoint of everything that changes."""
        assert self.folder is not None
        best = self.best.get("step")
        return save_checkpoint(
            self.folder.checkpoints, self.state_dict(), step=self.step.clock.steps, keep=self.plan.keep, best=best
        )

    def state_dict(self) -> dict[str, Any]:
        state = {
            "step": self.step.state_dict(),
            "source": self.source.state_dict(),
            "recorder": self.recorder.state_dict(),
            "best": self.best,
            "evaluated_at": self._evaluated_at,
            "stopped": self._stopped,
        }
        if self._best_weights is not None:
            state["best_weights"] = self._best_weights
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step.load_state_dict(state["step"])
        self.source.load_state_dict(state["source"])
        self.recorder.load_state_dict(state["recorder"])
        self.best = dict(state["best"])
        self._evaluated_at = int(state["evaluated_at"])
        self.stop_reason = self._stopped = state["stopped"]
        self._best_weights = state.get("best_weights")

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint in the folder; False where there is none."""
        assert self.folder is not None
        found = newest_checkpoint(self.folder.checkpoints)
        if found is None:
            return False
        self.load_state_dict(found[1])
        self.recorder.event("resumed", self.step.clock.steps, checkpoint=found[0].name)
        return True


class _Delivered:
    """The last ready average swapped in, finalised; its id, or "trained"."""

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
