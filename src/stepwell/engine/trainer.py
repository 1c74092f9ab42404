"""The loop around the step: draw, step, evaluate, decide, save, in one fixed order at fixed points of the clock."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, Interrupted, RunFolderError, StepwellError, TrainingStopped
from stepwell.core.reports import EvalReport, StepReport, Stop
from stepwell.core.slots import Source
from stepwell.data.loading import Watch
from stepwell.engine.delivery import Delivery
from stepwell.engine.finite_weights import nonfinite_step, nonfinite_weights, weights_are_finite
from stepwell.engine.memory import OutOfMemory, SparingStep, copy_of
from stepwell.engine.metrics.streaming import metric_mode
from stepwell.engine.plan import Plan
from stepwell.engine.records.checkpoint import Saved, newest_checkpoint
from stepwell.engine.records.history import Recorder
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.records.saver import Saver
from stepwell.engine.records.storage import sweep
from stepwell.engine.signals import SignalFlag, Stopped
from stepwell.engine.state import snapshot
from stepwell.engine.train_step import TrainStep

logger = logging.getLogger("stepwell.train")
MOST_SKIPS = 100  # in a row; after that nothing is learned any more, and the run stops
RECORDED_SKIPS = 20  # of a row of skipped steps, so that a run that went bad doesn't fill the disk with events
MOST_ROLLBACKS = 3  # to one place; after that the data is not the cause, and the run stops


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
        self.flag = SignalFlag()
        self.sparing = SparingStep(step, self._event)
        self.watch = Watch(poll=self.flag.poll, tell=self._event)
        if hasattr(source, "watch"):
            source.watch = self.watch
        self.saver = (
            None if folder is None else Saver(folder.checkpoints, retention=plan.keep, before=folder.sync, record=recorder.event)
        )
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
        step, plan, sparing = self.step, self.plan, self.sparing
        if self._rollback is None:  # else it came with the state that this run goes on from
            self._mark_good()
        started = time.monotonic()
        with self.flag if self.folder is not None else nullcontext(), self._written():
            self._catch_up()
            while self.stop_reason is None:
                if plan.horizon.done(step.clock) >= plan.horizon.total:
                    self.stop_reason = "budget spent"
                    break
                if plan.max_seconds is not None and time.monotonic() - started > plan.max_seconds:
                    self.stop_reason = f"max time of {plan.max_seconds:g} s reached"
                    break
                batch = self._drawn()
                try:
                    report = sparing(batch)
                except OutOfMemory as error:
                    self._keep_state(error, whole=error.whole)
                    raise
                self.recorder.step(report, self._epochs_per_step)
                if report.skipped is not None:
                    self._nonfinite(report)
                else:
                    self._after(report)
                if self.flag.number or self.flag.save:
                    self._heed_signal()
        self._finish()
        assert self.stop_reason is not None
        return self.stop_reason

    def _drawn(self) -> Batch:
        """The step's batch; what keeps it from coming ends the run with its state saved."""
        try:
            return self.source.next(self.step.cursor, self.step.model)
        except Stopped:
            self._heed_signal()
            raise
        except (DataError, TrainingStopped) as error:
            self._keep_state(error)
            raise

    def _keep_state(self, error: StepwellError, *, whole: bool = True) -> None:
        """Save before an error ends the run, and say so in it."""
        steps = self.step.clock.steps
        if self.folder is None or not steps:  # before the first step there is nothing to go on from
            return
        if not whole:
            error.fix += f". Go on from the last checkpoint with `stepwell resume {self.folder.path}`"
            return
        try:
            self.save()
        except (RunFolderError, TrainingStopped) as failed:
            error.fix += f". The state could not be saved: {failed.what}"
            return
        error.fix += f". Everything up to step {steps} is saved; then go on with `stepwell resume {self.folder.path}`"

    def _event(self, kind: str, **detail: Any) -> None:
        self.recorder.event(kind, self.step.clock.steps, **detail)

    def _after(self, report: StepReport) -> None:
        """Let observers decide, evaluate, save: one ordered transaction at a fixed point of the clock."""
        steps, every = report.step, self.plan.checkpoint_every
        self._skips = 0
        for observer in self._step_observers:
            self._heed(observer(report))
        self._catch_up()
        if every and steps % every == 0 and not self._over:  # the end saves by itself
            self._mark_good()
            if self.saver is not None:
                self._start_saving()
        if self.saver is not None:
            self.saver.tell()

    @property
    def _over(self) -> bool:
        return self.stop_reason is not None or self.plan.horizon.done(self.step.clock) >= self.plan.horizon.total

    def _catch_up(self) -> None:
        """Evaluate where this point of the clock asks for it; a run that was interrupted in an evaluation begins with it."""
        steps, every = self.step.clock.steps, self.plan.evaluate_every
        if every and steps and steps % every == 0 and self._evaluated_at != steps:
            try:
                self._evaluate()
            except Stopped:
                self._heed_signal()

    def _evaluate(self) -> None:
        if self.evaluator is None:
            return
        step = self.step
        try:
            with self.delivered() as weights:
                metrics = self.evaluator()
                report = EvalReport(step.clock.steps, self.plan.horizon.epochs(step.clock), metrics, weights=weights)
                self._evaluated_at = report.step
                self.recorder.evaluated(report)
                self._keep_best(report)
        except (DataError, TrainingStopped) as error:
            self._keep_state(error)
            raise
        for observer in self._evaluation_observers:
            self._heed(observer(report))

    def _mark_good(self) -> None:
        """Where a rollback would go back to: the last checkpoint's place, or the start."""
        if self.plan.on_nonfinite == "rollback":
            self._rollback, self._rollbacks = snapshot(self.step.state_dict()), 0

    def delivered(self) -> Delivery:
        """A context in which the model holds what would be delivered now: the last ready average, or its own weights."""
        return Delivery(self.step, self.refresh, self.sparing.estimation)

    def _keep_best(self, report: EvalReport) -> None:
        value = report.metrics.get(self.plan.monitor, math.nan)
        sign = 1 if metric_mode(self.plan.monitor) == "max" else -1
        if not math.isfinite(value) or (self.best and sign * value <= sign * self.best["value"]):
            return
        self.best = {
            "metric": self.plan.monitor,
            "value": value,
            "step": report.step,
            "epoch": report.epoch,
            "weights": report.weights,
        }
        self.best["metrics"] = dict(report.metrics)
        self.recorder.event("best", report.step, metric=self.plan.monitor, value=value)
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
            self._evaluated_at = -1
            self.recorder.event("rolled_back", self.step.clock.steps, cursor=cursor)
        elif policy != "skip" or self._skips >= MOST_SKIPS:
            self._give_up(report, loss, norm)

    def _give_up(self, report: StepReport, loss: float, norm: float) -> None:
        """Save what was good, placed so that a resumed run meets the same step, and say what happened."""
        num_skips = self._skips
        last = self.recorder.last_finite_loss()
        self.recorder.flush(self._epochs_per_step)
        whole = self._weights_are_finite()
        if whole and self.folder is not None:
            self.step.cursor, self._skips = report.cursor, self._skips - 1
            self.save()
        told: dict[str, Any] = {"num_skips": num_skips, "last": last, "whole": whole, "folder": self._place}
        raise nonfinite_step(report, loss=loss, grad_norm=norm, **told)

    def _heed_signal(self) -> None:
        """Save; then go on, or stop as the signal asked.

        Raises:
            Interrupted: it asked to stop.
        """
        flag, steps = self.flag, self.step.clock.steps
        assert self.folder is not None
        flag.save = False
        place = self.save().path
        if not flag.number:
            return
        self.recorder.event("interrupted", steps, signal=flag.number)
        raise Interrupted(
            f"interrupted after step {steps}; everything up to it is saved in {place}",
            expected="the run to reach its budget",
            fix=f"Continue with `stepwell resume {self.folder.path}`",
            signal_number=flag.number,
        )

    def _finish(self) -> None:
        self.recorder.flush(self._epochs_per_step)
        self._require_finite_weights()
        if self.evaluator is not None and self._evaluated_at != self.step.clock.steps:
            self._evaluate()
        if self.folder is not None:
            self.save()
        self.recorder.event("stopped", self.step.clock.steps, reason=self.stop_reason)
        if self.plan.deliver == "best" and self._best_weights is not None:
            self.step.model.load_state_dict(self._best_weights)
        else:
            self.delivered().keep()

    def save(self) -> Saved:
        """Write a checkpoint of everything that changes, now.

        Raises:
            RunFolderError: it could not be written; earlier ones are whole.
            TrainingStopped: the weights are not finite, and are not written.
        """
        assert self.saver is not None
        self._require_finite_weights()
        steps = self.step.clock.steps
        return self.saver.save(copy_of(self.state_dict(), step=steps), step=steps, best=self._best_steps())

    def _weights_are_finite(self) -> bool:
        return weights_are_finite(self.step.model, self.step.parameter_norm())

    def _require_finite_weights(self) -> None:
        """Neither save nor deliver what no step will look at any more."""
        if not self._weights_are_finite():
            self._event("nonfinite", policy="stop", weights="not finite")
            raise nonfinite_weights(self.step.clock.steps, self._place)

    @property
    def _place(self) -> Path | None:
        return None if self.folder is None else self.folder.path

    def _start_saving(self) -> None:
        assert self.saver is not None
        steps = self.step.clock.steps
        try:
            if not self._weights_are_finite():  # a finite gradient times a large rate: the next step's loss will tell
                raise RunFolderError(
                    f"the weights are not finite after step {steps}",
                    expected="a state that training can go on from",
                    fix="Try a lower peak lr, or clip_norm 1.0; earlier checkpoints are whole",
                )
            state = copy_of(self.state_dict(), step=steps)
        except RunFolderError as error:
            self.saver.missed(steps, error)
            return
        self.saver.start(state, step=steps, best=self._best_steps())
        if self.plan.saving == "wait":
            self.saver.wait()

    def _best_steps(self) -> list[int]:
        """Steps of the best evaluations, best first."""
        best = [self.best["step"]] if self.best else []
        if not self.plan.keep.top:
            return best
        monitor, sign = self.plan.monitor, -1 if metric_mode(self.plan.monitor) == "max" else 1
        rows = [row for row in self.recorder.history.validation if math.isfinite(row.get(monitor, math.nan))]
        ranked = sorted(rows, key=lambda row: (sign * row[monitor], row["step"]))
        return best + [step for row in ranked if (step := int(row["step"])) not in best]

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Whatever ends the run: the checkpoint under way is finished, and what became of it told."""
        saver = self.saver
        try:
            yield
            if saver is not None:
                saver.close()
                saver.tell()
        except BaseException:
            if saver is not None:
                saver.close()
                with suppress(TrainingStopped, RunFolderError):  # what happened first is what is told
                    saver.tell()
            raise

    def state_dict(self) -> dict[str, Any]:
        state = {
            "step": self.step.state_dict(),
            "source": self.source.state_dict(),
            "recorder": self.recorder.state_dict(),
            "best": self.best,
            "evaluated_at": self._evaluated_at,
            "stopped": self._stopped,
            "skips": self._skips,
            "memory": self.sparing.state_dict(),
        }
        if self._rollback is not None and self._rollback["clock"] != self.step.clock.state_dict():
            state |= {"rollback": self._rollback, "rollbacks": self._rollbacks}
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
        self._skips = int(state.get("skips", 0))
        self.sparing.load_state_dict(state.get("memory", {}))
        self._rollback, self._rollbacks = state.get("rollback"), int(state.get("rollbacks", 0))

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint in the folder; False where there is none."""
        assert self.folder is not None
        place = self.folder.path
        for folder in (place, self.folder.checkpoints, place / "metrics", place / "model"):
            sweep(folder)
        found = newest_checkpoint(self.folder.checkpoints)
        if found is None:
            self.recorder.load_state_dict(self.recorder.state_dict())  # rows that were written before any checkpoint go
            return False
        self.load_state_dict(found[1])
        self.recorder.event("resumed", self.step.clock.steps, checkpoint=found[0].name)
        return True
