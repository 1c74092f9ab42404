"""Label smoothing: a little of every target's mass is spread over all classes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require_between
from stepwell.core.objectives.loss_shapes import as_scores
from stepwell.core.objectives.soft_targets import Modifier, class_targets, soft_targets, wide_dtype
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["LabelSmoothing", "smooth_targets"]


def smooth_targets(targets: Tensor, epsilon: float) -> Tensor:
    """(1 - epsilon) * targets + epsilon / K * (their mass), for mass (..., K): the mass of every row is kept.

    >>> import torch
    >>> [round(value, 3) for value in smooth_targets(torch.tensor([0.0, 1.0, 0.0, 0.0]), 0.1).tolist()]
    [0.025, 0.925, 0.025, 0.025]
    """
    return (1 - epsilon) * targets + targets.sum(-1, keepdim=True) * (epsilon / targets.shape[-1])


class _Smoothed(Modifier):
    def __init__(self, inner: Objective, settings: LabelSmoothing) -> None:
        super().__init__(inner)
        self.settings = settings

    def _smooth(self, batch: Batch, num_classes: int, dtype: torch.dtype) -> Batch:
        targets = class_targets(batch, "label_smoothing")
        ignored = None if targets.is_floating_point() else self.ignored_label(targets)
        mass = soft_targets(targets, num_classes, ignored=ignored, dtype=dtype)
        return replace(batch, targets=smooth_targets(mass, self.settings.epsilon))

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        scores = as_scores(outputs, "label_smoothing")
        return self.inner.terms(outputs, self._smooth(batch, scores.shape[-1], scores.dtype))

    def counts(self, batch: Batch) -> Counts:
        # Smoothing keeps the mass of every row, so only weights per class, further in, can see it in the counts.
        num_classes = self.num_classes
        if num_classes is None:
            return self.inner.counts(batch)
        return self.inner.counts(self._smooth(batch, num_classes, wide_dtype(class_targets(batch, "label_smoothing").device)))


@technique(
    id="label_smoothing",
    slot="objective",
    role="modifier",
    paper="Szegedy et al. 2016, arXiv:1512.00567",
    needs=("class_scores",),
    search={"epsilon": (0.01, 0.3, "log")},
)
class LabelSmoothing:
    """Train towards (1 - epsilon) on the right class and epsilon / K on every class.

    What: the targets of the loss are (1 - epsilon) * onehot + epsilon / K, over all K classes, the right one
    included, as in the paper and in torch. Why: less over-confident predictions where a model is over-confident.
    When not: short or already calibrated runs (it makes them under-confident), and teachers of a distillation. The
    smoothed loss is no likelihood: its exponential is no perplexity.

    Listed before `class_weights`, each sample keeps the weight of its own label; listed after, the spread mass is
    weighted class by class.

    Args:
        epsilon: share of the mass that is spread, in [0, 1). Paper: 0.1.

    Shapes: outputs (N, K) or (N, T, K); targets class numbers or mass, as in `cross_entropy`.

    Raises:
        JobError: epsilon outside [0, 1).

    Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567.

    >>> import torch
    >>> smooth_targets(torch.eye(2), 0.5).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        require_between("label_smoothing.epsilon", self.epsilon, 0, 1, "The paper uses 0.1", ends="[)")

    def __call__(self, objective: Objective) -> Objective:
        return objective if self.epsilon == 0 else _Smoothed(objective, self)
