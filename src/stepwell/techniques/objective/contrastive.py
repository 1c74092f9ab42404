"""Contrastive loss on pairs: like ones are pulled together, unlike ones pushed a margin apart."""

from __future__ import annotations

import math

from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.errors import DataError
from stepwell.core.objectives.embeddings import Takes, distances, embed, embeddings
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.core.objectives.soft_targets import class_targets
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Contrastive", "contrastive_losses"]

MEMBERS = ("left", "right")


def contrastive_losses(left: Tensor, right: Tensor, same: Tensor, *, margin: float = 1.0) -> Tensor:
    """same * d^2 + (1 - same) * max(0, margin - d)^2 of every pair, (N,), d the Euclidean distance.

    Args:
        left, right: embeddings (N, D).
        same: (N,), 1 where both show the same, 0 where not, or in between.
        margin: distance from which on unlike ones are left alone, > 0, in the embedding's unit.

    >>> import torch
    >>> left, right = torch.zeros(2, 2), torch.tensor([[0.3, 0.4], [0.3, 0.4]])
    >>> [round(value, 4) for value in contrastive_losses(left, right, torch.tensor([1.0, 0.0])).tolist()]  # d = 0.5
    [0.25, 0.25]
    """
    squares = (left - right).square().sum(-1)
    near = (margin - distances(left, right)).clamp(min=0)
    return same * squares + (1 - same) * near.square()


@technique(
    id="contrastive",
    slot="objective",
    role="base",
    paper="Hadsell et al. 2006, doi:10.1109/CVPR.2006.100",
    provides=("pair_inputs",),
    search={"margin": (0.2, 5.0, "log")},
)
class Contrastive(Objective):
    """Pull embeddings of like pairs together and push those of unlike pairs a margin apart.

    What: y d^2 + (1 - y) max(0, margin - d)^2, d the Euclidean distance of the two embeddings, y = 1 for a pair of
    the same; summed, divided by the number of pairs. (The paper has y = 0 for the same, and halves.) Why: a distance
    that means likeness, also for classes never seen. When not: there are labels of few classes (`cross_entropy`), or
    the order of distances is what counts (`triplet`).

    Args:
        margin: distance from which on unlike pairs are left alone, > 0, in the embedding's unit.
        model_takes: "one": the model embeds one input, and is called once on left and right stacked along the batch, so
            that batch norm sees both; "all": it gets the inputs as they are and returns both embeddings.

    Shapes: inputs a tuple (left, right) or a dict of both, each a tree of (N, ...); embeddings (N, D) each, or one
    tensor (N, 2, D); targets (N,), 1 for the same, 0 for not. Weights multiply a pair's loss and count.

    Raises:
        JobError: the margin is not positive; model_takes is neither.
        DataError: another structure; shapes that don't fit.

    Paper: Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.

    >>> import torch
    >>> batch = Batch((torch.zeros(1, 2), torch.tensor([[0.3, 0.4]])), torch.tensor([1]))
    >>> term = Contrastive()(nn.Identity(), batch)["contrastive"]
    >>> round(float(term.sum), 4), term.unit, Contrastive().counts(batch)
    (0.25, 'samples', {'samples': 1})
    """

    margin: float = 1.0
    model_takes: Takes = "one"

    def __post_init__(self) -> None:
        require(0 < self.margin < math.inf, "contrastive.margin", self.margin, "a finite number above 0", "1.0 is usual")
        require_one_of("contrastive.model_takes", self.model_takes, ("one", "all"))

    def forward(self, model: nn.Module, batch: Batch) -> Tree:
        return embed(model, batch.inputs, MEMBERS, takes=self.model_takes, name="contrastive")

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        left, right = embeddings(outputs, MEMBERS, "contrastive")
        same = class_targets(batch, "contrastive")
        same = same.squeeze(1) if same.ndim == 2 and same.shape[1] == 1 else same
        if same.shape != left.shape[:1]:
            raise DataError(
                f"contrastive got {left.shape[0]} pairs and targets {tuple(batch.targets.shape)}",
                expected="one target per pair, (N,): 1 for the same, 0 for not",
                fix="Give the data as ((left, right), same)",
            )
        losses = contrastive_losses(left, right, same.to(left.dtype), margin=self.margin)
        weighted = losses if batch.weights is None else losses * over_elements(batch.weights, losses)
        return {"contrastive": Term(weighted.sum(), "samples")}

    def counts(self, batch: Batch) -> Counts:
        return {"samples": len(batch) if batch.weights is None else batch.weights.sum()}
