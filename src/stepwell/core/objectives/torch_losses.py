"""The losses of torch.nn, turned into a sum and the count that torch's own mean divides by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError
from stepwell.core.objectives.loss_shapes import aligned, as_scores, num_elements, over_elements
from stepwell.core.objectives.soft_targets import ClassObjective, class_targets, class_weights_at, position_mass, unit_of
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["TorchClassLoss", "TorchElementLoss", "recognised"]

# One loss per element, whatever the reduction; torch's mean divides by the number of elements.
_ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
)
_FUNCTIONS: dict[Callable[..., Any], type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.huber_loss: nn.HuberLoss,
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss,
    F.soft_margin_loss: nn.SoftMarginLoss,
}


def recognised(loss: Callable[..., Any]) -> Objective | None:
    """The objective of a loss of torch.nn (or the function of torch.nn.functional with its defaults), or None.

    >>> recognised(nn.MSELoss()).counts(Batch(nn.Linear(3, 1).weight, nn.Linear(2, 1).weight))
    {'values': 2}
    """
    try:
        made = _FUNCTIONS.get(loss)
    except TypeError:  # a callable without a hash
        made = None
    module = made() if made is not None else loss
    # Exactly these types: a subclass may compute something else.
    if type(module) in (nn.CrossEntropyLoss, nn.NLLLoss):
        return TorchClassLoss(module)  # type: ignore[arg-type]
    if type(module) in _ELEMENTWISE:
        return TorchElementLoss(module)  # type: ignore[arg-type]
    return None


class TorchClassLoss(ClassObjective):
    """CrossEntropyLoss or NLLLoss with their weight, ignore_index and label_smoothing, classes in dimension 1 as in torch.

    The count is what torch's mean divides by: the weights of the labels that are not ignored; for class
    probabilities the number of samples, whatever their weights.
    """

    provides = ("soft_targets", "class_scores")

    def __init__(self, loss: nn.CrossEntropyLoss | nn.NLLLoss) -> None:
        self.loss = loss
        self._smoothing: float = getattr(loss, "label_smoothing", 0.0)
        self._weight: Tensor | None = loss.weight

    def ignored_label(self, targets: Tensor) -> int | None:
        return self.loss.ignore_index

    def _table(self, like: Tensor) -> Tensor | None:
        if self._weight is not None and self._weight.device != like.device:
            self._weight = self._weight.to(like.device)
        return self._weight

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        name = type(self.loss).__name__
        targets, scores = class_targets(batch, name), as_scores(outputs, name)
        self._check(name, scores, targets)
        table = self._table(scores)
        table = None if table is None else table.to(scores.dtype)
        options: dict[str, Any] = {"weight": table, "ignore_index": self.loss.ignore_index}
        if targets.is_floating_point():
            targets = targets.to(scores.dtype)
        else:
            targets = targets.long()
        function: Callable[..., Tensor] = F.nll_loss
        if isinstance(self.loss, nn.CrossEntropyLoss):
            function, options["label_smoothing"] = F.cross_entropy, self._smoothing
        try:
            if batch.weights is None:
                loss = function(scores, targets, reduction="sum", **options)
            else:
                losses = function(scores, targets, reduction="none", **options)
                loss = (losses * over_elements(batch.weights, losses)).sum()
        except IndexError as error:
            raise DataError(
                f"a target is not one of the {scores.shape[1]} classes",
                expected=f"class numbers from 0 to {scores.shape[1] - 1}, or {name}'s ignore_index",
                fix="Give the model one output per class",
            ) from error
        return {"loss": Term(loss, unit_of(targets))}

    def counts(self, batch: Batch) -> Counts:
        targets = class_targets(batch, type(self.loss).__name__)
        table, weights = self._table(targets), batch.weights
        unit = unit_of(targets)
        if targets.is_floating_point():
            if table is not None:
                return {unit: targets.shape[0] if weights is None else weights.sum()}
            mass = position_mass(batch)
            assert mass is not None
            return {unit: mass.sum()}
        mass = position_mass(batch, ignored=self.loss.ignore_index)
        assert mass is not None
        return {unit: mass.sum() if table is None else (mass * class_weights_at(targets, table)).sum()}

    def _check(self, name: str, scores: Tensor, targets: Tensor) -> None:
        soft = targets.is_floating_point() and isinstance(self.loss, nn.CrossEntropyLoss)
        fits = tuple(scores.shape) if soft else (scores.shape[0], *scores.shape[2:])
        if scores.ndim < 2 or tuple(targets.shape) != fits or targets.is_floating_point() != soft or (soft and scores.ndim != 2):
            raise DataError(
                f"{name} got outputs {tuple(scores.shape)} and {targets.dtype} targets {tuple(targets.shape)}",
                expected="outputs (N, K) or (N, K, T) as in torch, with integer targets (N,) or (N, T), or probabilities (N, K)",
                fix='Use objective "cross_entropy" for outputs (N, T, K) with classes last',
            )


class TorchElementLoss(Objective):
    """A loss of torch.nn with one value per element; the count is the number of elements, as in torch's mean."""

    provides: tuple[str, ...] = ("soft_targets",)

    def __init__(self, loss: nn.Module) -> None:
        # A copy: the user's own keeps its reduction and its device.
        self.loss = copy.deepcopy(loss)
        self.loss.reduction = "none"  # type: ignore[assignment]
        if isinstance(loss, (nn.BCELoss, nn.BCEWithLogitsLoss)):
            self.provides = (*self.provides, "yes_or_no")

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, type(self.loss).__name__)
        buffer = next(self.loss.buffers(), None)
        if buffer is not None and buffer.device != pair.outputs.device:
            self.loss.to(pair.outputs.device)
        losses = self.loss(pair.outputs, pair.targets)
        if batch.weights is not None:
            losses = losses * over_elements(batch.weights, losses)
        return {"loss": Term(losses.sum(), "values")}

    def counts(self, batch: Batch) -> Counts:
        return {"values": num_elements(batch)}
