"""A user's loss as an objective: recognised, summed over samples or tokens, or taken as a mean and tested."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree, tree_leaves, tree_map
from stepwell.core.errors import JobError
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.core.objectives.torch_losses import recognised
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["CallableLoss", "MeanCheck", "as_objective", "is_mean_over_samples"]

_IGNORED = -100  # torch's convention for labels that don't count


def as_objective(loss: Objective | Callable[..., Any]) -> Objective:
    """An objective from whatever a user gives as a loss.

    Args:
        loss: an Objective; a loss of torch.nn or torch.nn.functional, recognised with its settings whatever its
            reduction; or a callable (outputs, targets) -> losses per sample (N,) or per token (N, T), which are
            summed, or a scalar, which is taken as the mean over the samples (test it: `is_mean_over_samples`).

    Raises:
        JobError: something that can't be called, or a class instead of an object.

    >>> objective = as_objective(lambda outputs, targets: (outputs - targets).abs())
    >>> term = objective.terms(torch.tensor([1.0, 5.0]), Batch(torch.zeros(2), torch.tensor([0.0, 2.0])))["loss"]
    >>> float(term.sum), term.unit
    (4.0, 'samples')
    """
    if isinstance(loss, Objective):
        return loss
    if isinstance(loss, type):
        raise JobError(
            f"the loss is the class {loss.__name__}",
            expected="an object",
            fix=f"Write {loss.__name__}() with its settings",
        )
    if not callable(loss):
        raise JobError(
            f"the loss is {loss!r}",
            expected="an objective, a loss of torch.nn, or a callable (outputs, targets)",
            fix="Pass e.g. torch.nn.CrossEntropyLoss(), or a function of your own",
        )
    return recognised(loss) or CallableLoss(loss)


class CallableLoss(Objective):
    """Any callable (outputs, targets) -> a tensor of losses.

    The shape of what it returns decides: (N,) is summed over samples; the shape of the targets is summed over tokens
    (integer targets, those labelled -100 not counted) or values; a scalar is taken as the mean over the samples.
    """

    provides: tuple[str, ...] = ()

    def __init__(self, loss: Callable[..., Any]) -> None:
        self.loss = loss
        self.name = getattr(loss, "__name__", type(loss).__name__)

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        losses = self._checked(self.loss(outputs, batch.targets), outputs)
        num_samples, weights, targets = len(batch), batch.weights, batch.targets
        if losses.ndim == 0:
            if weights is not None:
                raise JobError(
                    f"the loss {self.name} returned one number for a batch with sample weights",
                    expected="one loss per sample, so that each can be weighted",
                    fix='Return losses of shape (N,), e.g. with reduction="none"',
                )
            return {"loss": Term(losses * num_samples, "samples")}
        if tuple(losses.shape) in ((num_samples,), (num_samples, 1)) and not _same_tokens(losses, targets):
            losses = losses.reshape(num_samples)
            unit = "samples"
        elif isinstance(targets, Tensor) and _same_tokens(losses, targets):
            losses = losses.reshape(targets.shape)
            unit = "values" if targets.is_floating_point() else "tokens"
        else:
            shape = f"targets {tuple(targets.shape)}" if isinstance(targets, Tensor) else "a tree of targets"
            raise JobError(
                f"the loss {self.name} returned a tensor {tuple(losses.shape)} for {num_samples} samples with {shape}",
                expected="one loss per sample (N,), one per target (the targets' shape), or one number",
                fix="Check the loss for dimensions that broadcast, such as (N, 1) against (N,)",
            )
        if weights is not None:
            losses = losses * over_elements(weights, losses)
        return {"loss": Term(losses.sum(), unit)}

    def counts(self, batch: Batch) -> Counts:
        # What the callable returns is not known yet, so every unit that it may choose is counted.
        weights, targets = batch.weights, batch.targets
        counts: Counts = {"samples": len(batch) if weights is None else weights.sum()}
        if not isinstance(targets, Tensor) or targets.ndim < 2:
            return counts
        if targets.is_floating_point():
            counts["values"] = targets.numel() if weights is None else over_elements(weights, targets).expand_as(targets).sum()
        else:
            kept = targets != _IGNORED
            counts["tokens"] = kept.sum() if weights is None else (kept * weights.reshape(-1, *(1,) * (kept.ndim - 1))).sum()
        return counts

    def _checked(self, losses: Any, outputs: Tree) -> Tensor:
        if not isinstance(losses, Tensor):
            raise JobError(
                f"the loss {self.name} returned {type(losses).__name__} {losses!r}"[:200],
                expected="a tensor: losses per sample or per token, or their mean",
                fix="Return the tensor itself, without .item() or float(); of several parts, return their sum",
            )
        if not losses.is_floating_point():
            raise JobError(
                f"the loss {self.name} returned a tensor of type {losses.dtype}",
                expected="a floating-point tensor",
                fix="Compute it from the outputs; counts of right answers have no gradient",
            )
        if not losses.requires_grad and torch.is_grad_enabled() and any(leaf.requires_grad for leaf in tree_leaves(outputs)):
            raise JobError(
                f"the loss {self.name} returned a tensor that doesn't depend on the outputs",
                expected="a tensor with a gradient",
                fix="Don't detach the outputs or convert them to numpy, and avoid argmax and rounding",
            )
        return losses if losses.dtype in (torch.float32, torch.float64) else losses.float()


def _same_tokens(losses: Tensor, targets: Tree) -> bool:
    # One loss per element of (N, T) targets, in their shape or flattened as losses over tokens often are.
    if not isinstance(targets, Tensor) or targets.ndim < 2 or targets.numel() == targets.shape[0]:
        return False
    return losses.shape == targets.shape or tuple(losses.shape) == (targets.numel(),)


@dataclass(frozen=True, slots=True)
class MeanCheck:
    """Whether a loss adds up over parts of a batch.

    Args:
        holds: it does, within the tolerance.
        whole: the loss times the count, of the whole batch.
        parts: the same, summed over parts.
        difference: the largest |whole - parts| found, relative to the size of the parts.
        message: what that means and what to do.
    """

    holds: bool
    whole: float
    parts: float
    difference: float
    message: str


def is_mean_over_samples(objective: Objective, model: nn.Module, batch: Batch, tolerance: float = 1e-4) -> MeanCheck:
    """Test on real outputs that an objective adds up over samples: whole against halves, and against uneven parts.

    A loss that doesn't (a sum, a mean over something else, a statistic of the whole batch) can't be cut into
    micro-batches or ranks. Meant for preflight: reads numbers from the device; the model is called once, in
    evaluation mode and without gradients, and its mode put back.

    Args:
        objective: any, e.g. from `as_objective`.
        model: it is only called.
        batch: two samples or more.
        tolerance: relative difference that counts as equal, > 0.

    >>> batch = Batch(torch.arange(8.0).reshape(8, 1), torch.zeros(8, 1))
    >>> is_mean_over_samples(as_objective(lambda outputs, targets: outputs.mean()), nn.Identity(), batch).holds
    True
    >>> is_mean_over_samples(as_objective(lambda outputs, targets: outputs.sum()), nn.Identity(), batch).holds
    False
    """
    size = len(batch)
    if size < 2:
        return MeanCheck(True, 0.0, 0.0, 0.0, "one sample can't be cut, so nothing was tested")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            outputs = tree_map(lambda tensor: tensor.detach(), objective.forward(model, batch))
            whole = _total(objective, outputs, batch)
            cuts = {size // 2, max(size // 4, 1)}
            found = [_parts(objective, outputs, batch, cut) for cut in sorted(cuts)]
    finally:
        for module, mode in modes:
            module.training = mode
    if not math.isfinite(whole):
        return MeanCheck(False, whole, whole, math.inf, "the loss is not finite; look for inf or nan in the data and the loss")

    # Relative to the parts' sizes, because signed losses may cancel to almost nothing. A part without a finite loss
    # (a mean over a part's positives, where it has none) is as far off as can be.
    def off(parts: list[float]) -> float:
        if not all(math.isfinite(part) for part in parts):
            return math.inf
        return abs(sum(parts) - whole) / max(sum(abs(part) for part in parts), abs(whole), 1e-12)

    worst = max(found, key=off)
    difference, total = off(worst), sum(worst)
    if difference <= tolerance:
        return MeanCheck(True, whole, total, difference, "the loss adds up over the samples of a batch")
    return MeanCheck(
        False,
        whole,
        total,
        difference,
        f"the loss is no mean over samples: times its samples it is {whole:.6g} for {size} of them but {total:.6g} for two parts "
        "of them; return one loss per sample instead, or train without micro-batches and on one rank",
    )


def _total(objective: Objective, outputs: Tree, batch: Batch) -> float:
    return sum(float(term.sum) * term.weight for term in objective.terms(outputs, batch).values())


def _parts(objective: Objective, outputs: Tree, batch: Batch, cut: int) -> list[float]:
    first: Callable[[Tensor], Tensor] = lambda tensor: tensor[:cut]  # noqa: E731
    second: Callable[[Tensor], Tensor] = lambda tensor: tensor[cut:]  # noqa: E731
    parts = ((tree_map(first, outputs), batch.part(0, cut)), (tree_map(second, outputs), batch.part(cut, len(batch))))
    return [_total(objective, out, part) for out, part in parts]
