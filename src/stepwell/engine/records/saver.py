"""Saving while training goes on: a snapshot is written by a thread, one at a time, and what became of it is always told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stepwell.core.errors import RunFolderError, TrainingStopped
from stepwell.engine.records.checkpoint import FILES, Saved, checkpoints, save_checkpoint, step_of, verify_checkpoint
from stepwell.engine.records.storage import discard, free_bytes

logger = logging.getLogger("stepwell.checkpoint")
MOST_FAILED = 3  # in a row; after that a crash would cost too much, and the run stops
HEADROOM = 1.2  # a checkpoint isn't begun unless this many times the space it takes is free


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay.

    Args:
        newest: how many of the newest, >= 2: the last one may turn out damaged.
        every: one of every so many steps stays too, None for none; of the checkpoints there are, those whose step is a multiple.
        top: how many of those with the best evaluations stay, >= 0; the best one always does.
        max_bytes: what they may take together: the oldest of the others go, never the two newest or the best one.
    """

    newest: int = 2
    every: int | None = None
    top: int = 0
    max_bytes: int | None = None


@dataclass(frozen=True)
class Failed:
    """A checkpoint that was not saved, and why."""

    step: int
    error: RunFolderError


class Saver:
    """Writes checkpoints into a folder, and removes those that needn't stay.

    Args:
        folder: holds them.
        retention: which stay.
        before: called before a checkpoint is written: what it counts on, such as rows of metrics, is flushed to the disk there.
        record: takes the kind of an event, its step and details: "saved" and "save_failed".
    """

    def __init__(
        self,
        folder: Path,
        *,
        retention: Retention | None = None,
        before: Callable[[], None] | None = None,
        record: Callable[..., None] | None = None,
    ) -> None:
        self.folder, self.retention = folder, retention or Retention()
        self._before, self._record = before, record
        self._failed = 0
        # One thread for all: starting one takes longer than handing over the state.
        self._writer: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None
        self._outcomes: list[Saved | Failed] = []
        self._whole: set[int] = set()  # steps whose checkpoint was read back whole by this process

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written now."""
        return self._under_way is not None and not self._under_way.done()

    def start(self, state: dict[str, Any], *, step: int, best: Iterable[int] = ()) -> None:
        """Write a checkpoint in the background, after the one under way.

        Args:
            state: a snapshot, which nobody changes any more.
            step: completed optimizer steps.
            best: steps of the best evaluations, best first.
        """
        self.wait()
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="stepwell-checkpoint")
        self._under_way = self._writer.submit(self._save, state, step, list(best))

    def save(self, state: dict[str, Any], *, step: int, best: Iterable[int] = ()) -> Saved:
        """Write a checkpoint now.

        Raises:
            RunFolderError: it could not be written; earlier ones are whole.
        """
        self.wait()
        self._save(state, step, list(best))
        outcome = self._outcomes[-1]
        self.tell()
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    def missed(self, step: int, error: RunFolderError) -> None:
        """A checkpoint that couldn't even be begun: told like one that failed."""
        self._outcomes.append(Failed(step, error))

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = None

    def tell(self) -> None:
        """Put on record what became of the checkpoints since the last call.

        Raises:
            TrainingStopped: three in a row could not be saved.
        """
        while self._outcomes:
            outcome = self._outcomes[0]
            if isinstance(outcome, Saved):
                self._failed = 0
                self._event("saved", outcome.step, checkpoint=outcome.path.name, sha256=outcome.sha256)
                self._outcomes.pop(0)  # only now: where the log refuses the line, it is told again at the end
                continue
            self._outcomes.pop(0)
            self._failed += 1
            logger.warning("the checkpoint of step %d was not saved: %s", outcome.step, outcome.error)
            with suppress(RunFolderError):  # the same full disk
                self._event("save_failed", outcome.step, reason=outcome.error.what)
            if self._failed >= MOST_FAILED:
                raise TrainingStopped(
                    f"{self._failed} checkpoints in a row could not be saved: {outcome.error.what}",
                    expected="a disk that keeps what is written to it",
                    fix=f"{outcome.error.fix}; then go on from the last whole checkpoint with `stepwell resume`",
                ) from outcome.error

    def _event(self, kind: str, step: int, **detail: Any) -> None:
        if self._record is not None:
            self._record(kind, step, **detail)

    def _save(self, state: dict[str, Any], step: int, best: list[int]) -> None:
        try:
            self._require_space(state, step)
            if self._before is not None:
                self._before()
            saved = save_checkpoint(self.folder, state, step=step)
        except RunFolderError as error:
            self._outcomes.append(Failed(step, error))
            return
        except Exception as error:  # nothing that goes wrong in a thread may pass in silence
            told = RunFolderError(
                f"the checkpoint of step {step} was not saved: {type(error).__name__}: {error}",
                expected="a state that can be written",
                fix="Run again with --debug; earlier checkpoints are whole",
            )
            told.__cause__ = error
            self._outcomes.append(Failed(step, told))
            return
        self._whole.add(step)
        self._outcomes.append(saved)
        try:
            prune(self.folder, self.retention, best=best, whole=self._whole)
        except OSError as error:
            logger.warning("an old checkpoint in %s can't be removed: %s", self.folder, error)

    def _require_space(self, state: dict[str, Any], step: int) -> None:
        needed, free = int(HEADROOM * num_bytes(state)), free_bytes(self.folder)
        if free is not None and free < needed:
            raise RunFolderError(
                f"the disk is full: the checkpoint of step {step} takes {needed} bytes, {free} are free in {self.folder}",
                expected="free space",
                fix="Free some space; earlier checkpoints are whole, and training goes on",
            )


def num_bytes(state: Any) -> int:
    """How much the tensors of a state take."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(num_bytes(value) for value in state.values())
    return sum(num_bytes(value) for value in state) if isinstance(state, (list, tuple)) else 0


def prune(folder: Path, retention: Retention, *, best: Iterable[int] = (), whole: Container[int] = ()) -> list[Path]:
    """Remove the checkpoints that needn't stay, if two that stay are whole; which they were.

    Args:
        best: steps of the best evaluations, best first.
        whole: steps whose checkpoint is known to be whole, and need not be read again.
    """
    places = checkpoints(folder)
    there = {step_of(place) for place in places}
    ranked = [step for step in best if step in there]  # an evaluation needn't fall on a checkpoint
    safe = {step_of(place) for place in places[: max(retention.newest, 2)]} | set(ranked[:1])
    wanted = safe | set(ranked[: retention.top])
    if retention.every:
        wanted |= {step_of(place) for place in places if step_of(place) % retention.every == 0}
    gone = [place for place in places if step_of(place) not in wanted]
    if retention.max_bytes is not None:
        sizes = {place: sum(file.stat().st_size for file in place.iterdir()) for place in places if place not in gone}
        protected = {step_of(place) for place in places[:2]} | set(ranked[:1])
        for place in reversed(list(sizes)):
            if sum(sizes.values()) <= retention.max_bytes:
                break
            if step_of(place) not in protected:
                gone.append(place)
                del sizes[place]
    if gone and not _two_are_whole([place for place in places if place not in gone], whole):
        return []
    for place in gone:
        discard(place, names=FILES)
    return gone


def _two_are_whole(places: list[Path], known: Container[int]) -> bool:
    num_whole = 0
    for place in places:
        if step_of(place) not in known:
            try:
                verify_checkpoint(place)
            except RunFolderError:
                continue
        num_whole += 1
        if num_whole == 2:
            return True
    return False
