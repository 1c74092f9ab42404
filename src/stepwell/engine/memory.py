"""Going on where memory runs out: the same step again with smaller micro-batches, the same pass with smaller batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.batch import Batch
from stepwell.core.errors import RunFolderError
from stepwell.core.objectives.callable_loss import CallableLoss, is_mean_over_samples
from stepwell.core.randomness import derive, seeded_defaults
from stepwell.core.reports import StepReport
from stepwell.engine.evaluate import evaluating
from stepwell.engine.shortage import Cut, OutOfMemory, Shortage, SparingPass, tidy
from stepwell.engine.state import snapshot
from stepwell.engine.train_step import TrainStep
from stepwell.parallel.group import size_of

__all__ = ["Cut", "OutOfMemory", "Shortage", "SparingPass", "SparingStep", "copy_of"]

logger = logging.getLogger("stepwell.train")


class SparingStep:
    """A training step that is taken again with half the micro-batches where it ran out of memory. The batch stays what it is.

    The smaller size holds for the rest of the run; it is part of the state, so that a resumed run goes on with it.

    Args:
        step: the step.
        tell: called with the kind of an event and its details.
    """

    def __init__(self, step: TrainStep, tell: Callable[..., None] = lambda kind, **detail: None) -> None:
        self.step, self._tell = step, tell
        self._here = step.device.type == "cpu"
        self.micro_batch_size: int | None = None  # where it is smaller than the job's
        self.evaluation = SparingPass(tell)
        # Of a single sample a batch has no variance.
        self.estimation = SparingPass(tell, kind="estimation_batches", what="an estimate of batch-norm statistics", least=2)

    def __call__(self, batch: Batch) -> StepReport:
        """Train on a batch.

        Raises:
            OutOfMemory: smaller micro-batches would change what is computed, or don't help.
        """
        try:
            return self.step(batch if self._here else batch.to(self.step.device))
        except (MemoryError, RuntimeError) as error:
            shortage = Shortage.of(error)
            if shortage is None:
                raise
        # Here the exception is gone, and with its frames the tensors that they held.
        return self._again(batch, shortage)

    def state_dict(self) -> dict[str, Any]:
        """The sizes that memory forced, empty where it never ran out."""
        sizes = {"micro_batch_size": self.micro_batch_size}
        sizes |= {"evaluation_size": self.evaluation.size, "estimation_size": self.estimation.size}
        return {name: size for name, size in sizes.items() if size is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with saved sizes."""
        if "micro_batch_size" in state:
            self._take(int(state["micro_batch_size"]))
        self.evaluation.size, self.estimation.size = state.get("evaluation_size"), state.get("estimation_size")

    def _take(self, size: int) -> None:
        self.micro_batch_size = size
        self.step.execution = replace(self.step.execution, micro_batch_size=size)

    def _again(self, batch: Batch, shortage: Shortage) -> StepReport:
        while True:
            size, changed = self._size_now(batch), _buffers_changed(self.step)
            self._undo()
            reason = self._why_not(batch, size, changed=changed)
            if reason is not None:
                raise self._stopped(shortage, *reason)
            smaller = size // 2
            self._take(smaller)
            self._tell("micro_batches", before=size, now=smaller, batch=len(batch), needed=shortage.num_bytes)
            logger.warning(
                "out of memory in the step after %d%s: micro-batches of %d, not %d, from here on; the batch of %d is unchanged",
                *(self.step.clock.steps, shortage.needed, smaller, size, len(batch)),
            )
            try:
                return self.step(batch if self._here else batch.to(self.step.device))
            except (MemoryError, RuntimeError) as error:
                found = Shortage.of(error)
                if found is None:
                    raise
            shortage = found

    def _size_now(self, batch: Batch) -> int:
        size = self.step.execution.micro_batch_size
        largest = len(batch) if size is None else size if isinstance(size, int) else max(size)
        return min(largest, len(batch))

    def _undo(self) -> None:
        """Back to before the step: what a forward pass changes is put back; gradients and graphs are thrown away."""
        step = self.step
        for probe in step.parts.probes:
            probe.cancel()
        if step.held == step.cursor and not step.updating and step._buffers:
            torch._foreach_copy_(step._buffers, step._saved_buffers)
        step._zero_gradients()
        tidy()

    def _why_not(self, batch: Batch, size: int, *, changed: bool) -> tuple[str, str] | None:
        """Why smaller micro-batches are no way out, and what is; None where they are one."""
        step = self.step
        if step.updating:
            return (
                "while weights were updated, which micro-batches don't make smaller; weights may be half updated",
                "Take an optimizer with less state, such as sgd, or a smaller model",
            )
        if size_of(step.group) > 1:
            return "and the other ranks can't be told to cut theirs", "Set micro_batch_size to a part of the batch for all ranks"
        smaller = "Take a smaller batch_size (which changes what is learned), a smaller model or activation_checkpointing"
        if not step.parts.objective.decomposable:
            return "and the objective is defined over a whole batch, so that it can't be cut", smaller
        if any(isinstance(module, _BatchNorm) and module.training for module in step.model.modules()):
            fix = f"If that is what you want, set micro_batch_size: {max(size // 2, 1)}; else swap batch norm for group norm. "
            return "and batch norm would see smaller batches, which changes what is computed", fix + smaller
        if changed:
            return "and the model keeps statistics of each forward pass, which smaller batches change", smaller
        if size <= 1:
            return "with micro-batches of one sample", "Take a smaller model, smaller samples or activation_checkpointing"
        if not isinstance(step.parts.base, CallableLoss):  # the others say themselves whether they can be cut
            return None
        few = batch.part(0, min(8, max(size // 2, 2))).to(step.device)
        with evaluating(step.model), seeded_defaults(derive(step.seed, "memory"), step.device):
            finding = is_mean_over_samples(step.parts.base, step.model, few)
        return None if finding.holds else (f"and the loss can't be cut: {finding.message}", smaller)

    def _stopped(self, shortage: Shortage, why: str, fix: str) -> OutOfMemory:
        error = OutOfMemory(
            f"out of memory in the step after {self.step.clock.steps} {why}{shortage.needed}: {shortage.text}",
            expected="a step that fits into the memory of this machine",
            fix=fix,
        )
        error.whole = not self.step.updating
        return error


def copy_of(state: dict[str, Any], *, step: int) -> dict[str, Any]:
    """A snapshot of a state.

    Raises:
        RunFolderError: there is no memory for it.
    """
    try:
        copied: dict[str, Any] = snapshot(state)
        return copied
    except (MemoryError, RuntimeError) as error:
        shortage = Shortage.of(error)
        if shortage is None:
            raise
    tidy()
    raise RunFolderError(
        f"there is no memory for a copy of the state after step {step}{shortage.needed}: {shortage.text}",
        expected="room for a second copy of what is saved",
        fix="Free some memory, or take a smaller model; earlier checkpoints are whole",
    )


def _buffers_changed(step: TrainStep) -> bool:
    """Whether the forward passes of the step under way left traces, such as running statistics."""
    if step.held != step.cursor:
        return False
    pairs = zip(step._buffers, step._saved_buffers, strict=True)
    return any(not torch.equal(torch.nan_to_num(buffer), torch.nan_to_num(saved)) for buffer, saved in pairs)
