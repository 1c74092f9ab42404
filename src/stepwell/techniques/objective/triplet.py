"""Triplet loss: an anchor is nearer to a like example than to an unlike one, by a margin."""

from __future__ import annotations

import math

from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.objectives.embeddings import Takes, distances, embed, embeddings
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Triplet", "triplet_losses"]

MEMBERS = ("anchor", "positive", "negative")


def triplet_losses(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 0.3) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) of every triplet, (N,), d the Euclidean distance.

    Args:
        anchor, positive, negative: embeddings (N, D).
        margin: > 0, in the embedding's unit.

    >>> import torch
    >>> anchor, positive, negative = torch.zeros(1, 2), torch.tensor([[0.3, 0.4]]), torch.tensor([[0.6, 0.0]])
    >>> round(float(triplet_losses(anchor, positive, negative)), 4)  # 0.5 - 0.6 + 0.3
    0.2
    """
    return (distances(anchor, positive) - distances(anchor, negative) + margin).clamp(min=0)


@technique(
    id="triplet",
    slot="objective",
    role="base",
    paper="Schroff et al. 2015, arXiv:1503.03832",
    provides=("triplet_inputs",),
    search={"margin": (0.05, 2.0, "log")},
)
class Triplet(Objective):
    """Bring an anchor nearer to a like example than to an unlike one, by a margin.

    What: max(0, d(anchor, positive) - d(anchor, negative) + margin), d the Euclidean distance of the embeddings (the
    paper squares it); summed, divided by the number of triplets, also of those without a loss. Why: only the order of
    distances is asked for, so classes may be of any width. When not: most triplets are easy and give no pull:
    choose harder ones, or train on pairs (`contrastive`).

    Args:
        margin: by how much nearer, > 0, in the embedding's unit. 0.3 suits embeddings of length one.
        model_takes: "one": the model embeds one input, and is called once on all three stacked along the batch, so that
            batch norm sees all; "all": it gets the inputs as they are and returns the three embeddings.

    Shapes: inputs a tuple (anchor, positive, negative) or a dict of them, each a tree of (N, ...); embeddings (N, D)
    each, or one tensor (N, 3, D). No targets. Weights multiply a triplet's loss and count.

    Raises:
        JobError: the margin is not positive; model_takes is neither.
        DataError: another structure; shapes that don't fit.

    Paper: Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, arXiv:1503.03832; Hermans et al. 2017,
    arXiv:1703.07737 (distances that are not squared).

    >>> import torch
    >>> batch = Batch((torch.zeros(1, 2), torch.tensor([[0.3, 0.4]]), torch.tensor([[0.6, 0.0]])))
    >>> term = Triplet(margin=0.3)(nn.Identity(), batch)["triplet"]
    >>> round(float(term.sum), 4), term.unit, Triplet().counts(batch)
    (0.2, 'samples', {'samples': 1})
    """

    margin: float = 0.3
    model_takes: Takes = "one"

    def __post_init__(self) -> None:
        require(0 < self.margin < math.inf, "triplet.margin", self.margin, "a finite number above 0", "0.3 is usual")
        require_one_of("triplet.model_takes", self.model_takes, ("one", "all"))

    def forward(self, model: nn.Module, batch: Batch) -> Tree:
        return embed(model, batch.inputs, MEMBERS, takes=self.model_takes, name="triplet")

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        anchor, positive, negative = embeddings(outputs, MEMBERS, "triplet")
        losses = triplet_losses(anchor, positive, negative, margin=self.margin)
        weighted = losses if batch.weights is None else losses * over_elements(batch.weights, losses)
        return {"triplet": Term(weighted.sum(), "samples")}

    def counts(self, batch: Batch) -> Counts:
        return {"samples": len(batch) if batch.weights is None else batch.weights.sum()}
