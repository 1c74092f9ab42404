"""A stretch of a run between two of its checkpoints, and computing it again in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from stepwell.core.errors import RunFolderError, TrainingStopped
from stepwell.core.reports import EvalReport, Event
from stepwell.core.slots import Source
from stepwell.data.sources import ShuffledSource
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint
from stepwell.engine.records.same_bytes import bit_sum
from stepwell.engine.state import snapshot
from stepwell.recipe.evidence.rerun import Rerun, budget_changes
from stepwell.recipe.run import Assembly

MOST_FROM_START = 1000  # steps, where a run has one checkpoint and nobody said how many


@dataclass
class Stretch:
    """Two states of a run.

    Args:
        first_step, last_step: completed optimizer steps at both ends.
        start: the state at the first, None for the start of the run.
        end: the state at the last.
        damaged: names of newer checkpoints that aren't whole, and were passed over.
    """

    first_step: int
    last_step: int
    start: dict[str, Any] | None
    end: dict[str, Any]
    damaged: list[str] = field(default_factory=list)


@dataclass
class Computed:
    """What came of a stretch.

    Args:
        state: of the trainer at its end; None where it was not reached.
        rows: logged on the way, by file.
        sums: completed steps, and a sum over the bits of the model, before each step.
        stopped: why the end was not reached.
    """

    state: dict[str, Any] | None = None
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sums: list[tuple[int, int]] = field(default_factory=list)
    stopped: str | None = None


def last_stretch(folder: Path, steps: int | None) -> Stretch:
    """The last two whole checkpoints, or the start of the run and the only one.

    Args:
        steps: at most so many between them; None for any number between two, and `MOST_FROM_START` from the start.

    Raises:
        RunFolderError: no whole checkpoint, too many steps, or the run was continued with another budget in between.
    """
    if steps is not None and steps < 1:
        raise RunFolderError(f"steps is {steps}", expected="1 or more", fix="Leave it out for the last stretch of the run")
    whole, damaged = _two_newest(folder)
    end, start = whole[0], whole[1] if len(whole) > 1 else None
    first, last = 0 if start is None else steps_of(start), steps_of(end)
    most = steps if steps is not None else MOST_FROM_START if start is None else last
    if last - first > most:
        place = f"from the start to the only checkpoint, of step {last}," if start is None else f"from step {first} to {last}"
        raise RunFolderError(
            f"the stretch {place} has {last - first} steps; at most {most} may be computed",
            expected=f"leave to compute {last - first} steps",
            fix=f"Give --steps {last - first}, or let the next run save more often (checkpoint_every)",
        )
    changed = [step for step, _ in budget_changes(folder) if first < step < last]
    if changed:
        raise RunFolderError(
            f"the run was continued with another budget at step {changed[-1]}, whose checkpoint is gone",
            expected="a stretch under one budget",
            fix="Train on to the next checkpoint, then verify again",
        )
    return Stretch(first, last, start, end, damaged)


def _two_newest(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The states of the last two whole checkpoints, and the names of those passed over."""
    whole: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    for place in checkpoints(folder / "checkpoints"):
        try:
            whole.append(load_checkpoint(place))
        except RunFolderError as error:
            damaged[place.name] = error.what
        if len(whole) == 2:
            break
    if not whole:
        problem = next(iter(damaged.values()), "none was written")
        raise RunFolderError(
            f"{folder} has no whole checkpoint to compare with: {problem}",
            expected="a run that has saved at least once",
            fix="Train on, or begin anew",
        )
    return whole, list(damaged)


def steps_of(state: dict[str, Any]) -> int:
    """Completed optimizer steps of a trainer's state."""
    return int(state["step"]["clock"]["steps"])


def compute(rerun: Rerun, stretch: Stretch) -> Computed:
    """Compute a stretch with everything made anew. Nothing is written."""
    assembly = Assembly(rerun.from_start() if stretch.start is None else rerun.ingredients())
    trainer = assembly.trainer
    if stretch.start is not None:
        trainer.load_state_dict(stretch.start)
    done = Computed()
    follower = _Follower(assembly, stretch.end, done)
    try:
        trainer.run()
    except _Arrived:
        if stretch.end.get("evaluated_at") == stretch.last_step != trainer.state_dict()["evaluated_at"]:
            trainer.stop_reason = "the end of the stretch"  # the run had ended there, and its end evaluated
            trainer.run()
        else:
            follower.keep()
    except TrainingStopped as error:
        done.stopped = error.what
    finally:
        if isinstance(follower.source, ShuffledSource):
            follower.source.close()
    history = trainer.recorder.history
    done.rows = {"train": list(history.train), "validation": list(history.validation), "layers": list(history.layers)}
    if done.state is not None and steps_of(done.state) != stretch.last_step:
        done.stopped = f"it ended after step {steps_of(done.state)}: {trainer.stop_reason}"
    return done


class _Arrived(Exception):
    """The end of the stretch is reached. Where this is caught, the model holds its own weights, no average's."""


class _Follower:
    """Watches a trainer, and ends it where the stretch ends."""

    def __init__(self, assembly: Assembly, end: dict[str, Any], done: Computed) -> None:
        self._trainer, self._done = assembly.trainer, done
        self._last, self._cursor, self._evaluated_at = steps_of(end), int(end["step"]["cursor"]), end.get("evaluated_at")
        self.source = self._trainer.source
        self._trainer.source = _SourceUntil(self.source, self._before)
        if self._trainer.evaluator is not None:
            self._trainer.evaluator = _evaluator_until(self._trainer.evaluator, self._before_evaluation)
        self._trainer.recorder.progress = _Ending(self.keep)
        self._trainer.plan = replace(self._trainer.plan, max_seconds=None)

    def keep(self) -> None:
        """The state as it is now."""
        self._done.state = snapshot(self._trainer.state_dict())

    def _before(self, cursor: int) -> None:
        step = self._trainer.step
        self._done.sums.append((step.clock.steps, bit_sum(step.model.state_dict().values())))
        if step.clock.steps > self._last or (step.clock.steps == self._last and cursor == self._cursor):
            raise _Arrived

    def _before_evaluation(self) -> None:
        # A run that a signal met while it evaluated has a checkpoint from before that evaluation.
        step = self._trainer.step
        if (step.clock.steps, step.cursor) == (self._last, self._cursor) and self._evaluated_at != self._last:
            raise _Arrived


class _SourceUntil:
    """A source that asks first whether there is anything left to do."""

    def __init__(self, source: Source, before: Callable[[int], None]) -> None:
        self._source, self._before = source, before

    @property
    def steps_per_epoch(self) -> int | None:
        return self._source.steps_per_epoch

    @property
    def batch_size(self) -> int:
        return self._source.batch_size

    def next(self, cursor: int, model: nn.Module | None = None) -> Any:
        self._before(cursor)
        return self._source.next(cursor, model)

    def state_dict(self) -> dict[str, Any]:
        return self._source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._source.load_state_dict(state)


def _evaluator_until(evaluator: Callable[[], dict[str, float]], before: Callable[[], None]) -> Callable[[], dict[str, float]]:
    def evaluate() -> dict[str, float]:
        before()
        return evaluator()

    return evaluate


class _Ending:
    """Calls back when a run has ended: the last moment at which the model holds the trained weights, not the delivered ones."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def event(self, event: Event) -> None:
        if event.kind == "stopped":
            self._ended()

    def start(self, total_steps: int, epoch_steps: int | None) -> None:
        pass

    def step(self, row: dict[str, float]) -> None:
        pass

    def evaluated(self, report: EvalReport) -> None:
        pass

    def finish(self) -> None:
        pass
