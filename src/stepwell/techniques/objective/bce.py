"""Binary cross-entropy on logits, for one yes-or-no target per sample or several labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError
from stepwell.core.objectives.binary_losses import bce_sum, labels_unit
from stepwell.core.objectives.loss_shapes import aligned, num_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms
from stepwell.core.updates.constants import numbers_like

__all__ = ["Bce", "bce_sum"]


@technique(
    id="bce",
    slot="objective",
    role="base",
    paper="Cox 1958, doi:10.1111/j.2517-6161.1958.tb00292.x",
    provides=("soft_targets", "yes_or_no"),
)
class Bce(Objective):
    """The negative log-likelihood of yes-or-no targets under sigmoid outputs.

    What: -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), summed; divided by the number of samples, or of labels
    (N * L) where each sample has several. Why: binary and multilabel classification; several labels may hold at
    once. When not: exactly one of K classes holds (`cross_entropy`).

    Args:
        positive_weight: what the first part, of the positives, counts: one number > 0 for all, or one per label; torch's
            pos_weight. negatives / positives balances the two; probabilities then no longer match the data's shares.
            The count stays N or N * L, as in torch.

    Shapes: outputs (N,) or (N, 1) for one target per sample, (N, L) for several; targets alike, integers, bools or
    probabilities in [0, 1]. Nothing is broadcast.

    Raises:
        JobError: a positive_weight that is not positive and finite; another number of them than labels.
        DataError: shapes that don't fit.

    Paper: Cox, "The regression analysis of binary sequences", J. R. Stat. Soc. B 20, 1958.

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 3), torch.tensor([1, 0]))
    >>> term = Bce().terms(torch.zeros(2, 1), batch)["bce"]
    >>> round(float(term.sum), 4), Bce().counts(batch)  # 2 log 2
    (1.3863, {'samples': 2})
    """

    positive_weight: float | list[float] | None = None

    def __post_init__(self) -> None:
        given = self.positive_weight
        if given is None:
            return
        values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        good = bool(values) and all(isinstance(value, (int, float)) and 0 < value < math.inf for value in values)
        fix = "Write for example 3.0, or one number per label; without it, both count alike"
        require(good, "bce.positive_weight", given, "one finite number above 0, or one per label", fix)
        object.__setattr__(self, "positive_weight", values if isinstance(given, Sequence) else given)

    def _positive_weight(self, logits: Tensor) -> Tensor | None:
        given = self.positive_weight
        # Ones multiply nothing, and torch rounds the gradient otherwise where they are multiplied.
        if given is None or all(value == 1 for value in (given if isinstance(given, list) else [given])):
            return None
        num_labels = 1 if logits.ndim == 1 else logits.shape[-1]
        if isinstance(given, list) and len(given) != num_labels:
            raise JobError(
                f"bce.positive_weight holds {len(given)} weights, but the model has {num_labels} outputs",
                expected="one number, or one per label",
                fix="List a weight for each label in order, or write one number",
            )
        return numbers_like(given, logits)

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned(outputs, batch.targets, "bce")
        heavy = self._positive_weight(pair.outputs)
        loss = bce_sum(pair.outputs, pair.targets, weights=batch.weights, positive_weight=heavy)
        return {"bce": Term(loss, labels_unit(batch.targets))}

    def counts(self, batch: Batch) -> Counts:
        return {labels_unit(batch.targets): num_elements(batch)}
