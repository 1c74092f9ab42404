"""Cross-entropy over classes, for one label per sample or per token, from class numbers or class mass."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.objectives.loss_shapes import as_scores
from stepwell.core.objectives.soft_targets import ClassObjective, class_counts, class_targets, cross_entropy_sum, unit_of
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Terms

__all__ = ["CrossEntropy", "cross_entropy_sum"]


@technique(
    id="cross_entropy",
    slot="objective",
    role="base",
    paper="Bridle 1990, doi:10.1007/978-3-642-76153-9_28",
    provides=("soft_targets", "class_scores"),
)
class CrossEntropy(ClassObjective):
    """The negative log-likelihood of the right class under softmax outputs.

    What: -log softmax(logits)[target], summed; the step divides by the number of samples (or tokens that are not
    ignored) in the whole step. Why: the likelihood of a classifier. When not: several labels can hold at once (`bce`).

    Args:
        ignore_index: class number of token targets that are left out of loss and count, any int.
        ignored: "tokens" leaves `ignore_index` out of sequences only, so that counting one label per sample costs
            nothing; "everywhere" does so for one label per sample too.

    Shapes: outputs (N, K), or (N, T, K) for sequences, classes last; targets (N,) or (N, T) integers, or class mass
    shaped as the outputs, which need not add up to one: the count is the mass.

    Raises:
        DataError: shapes that don't fit; a class number outside 0..K-1.

    Paper: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    >>> import torch
    >>> batch = Batch(torch.zeros(2, 1), torch.tensor([0, 3]))
    >>> term = CrossEntropy().terms(torch.zeros(2, 4), batch)["cross_entropy"]
    >>> round(float(term.sum), 4), CrossEntropy().counts(batch)  # 2 log 4
    (2.7726, {'samples': 2})
    """

    ignore_index: int = -100
    ignored: Literal["tokens", "everywhere"] = "tokens"

    def __post_init__(self) -> None:
        require(
            self.ignored in ("tokens", "everywhere"),
            "cross_entropy.ignored",
            self.ignored,
            '"tokens" or "everywhere"',
            'Write "everywhere" where labels of single samples can be missing',
        )

    def ignored_label(self, targets: Tensor) -> int | None:
        return self.ignore_index if targets.ndim > 1 or self.ignored == "everywhere" else None

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        targets = class_targets(batch, "cross_entropy")
        scores = as_scores(outputs, "cross_entropy")
        loss = cross_entropy_sum(scores, targets, weights=batch.weights, ignored=self.ignored_label(targets))
        return {"cross_entropy": Term(loss, unit_of(targets))}

    def counts(self, batch: Batch) -> Counts:
        targets = class_targets(batch, "cross_entropy")
        return class_counts(batch, ignored=None if targets.is_floating_point() else self.ignored_label(targets))
