"""Dice loss: one minus the overlap of a predicted mask with the true one."""

from __future__ import annotations

import math
from typing import Literal

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.core.objectives.masks import aligned_masks, batch_dice_loss, dice_losses, mask_counts
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["Dice", "batch_dice_loss", "dice_losses"]


@technique(
    id="dice",
    slot="objective",
    role="base",
    paper="Milletari et al. 2016, arXiv:1606.04797",
    provides=("soft_targets", "mask_targets"),
)
class Dice(Objective):
    """One minus the overlap of the predicted mask with the true one.

    What: 1 - (2 |p m| + smooth) / (|p| + |m| + smooth), p the sigmoid of one score per pixel or the softmax over
    several classes (their mean is taken, background included). Why: a small object counts as much as its background.
    When not: well-calibrated pixels are wanted, or training from scratch is unstable: add cross-entropy (`bce_dice`).

    Args:
        smooth: added to both sides, > 0, in pixels; with it an empty mask answered with an empty prediction costs 0.
        over: "sample" takes the overlap of every sample and averages the losses; "batch" takes that of all pixels of
            the batch together, so that samples without the object don't matter. A batch can then not be cut into
            micro-batches or over ranks, and in an evaluation the loss is the mean over its batches.
        ignore_index: number of pixels, in masks of integers, that are left out, any int; 255 in many data sets.

    Shapes: outputs (N, H, W), (N, 1, H, W) or (N, P) with masks alike, 0 / 1, bools or numbers in [0, 1] (mixed
    masks), or the mass of both classes (N, H, W, 2); outputs (N, C, H, W), C > 1, with class numbers (N, H, W), or mass
    (N, C, H, W) or (N, H, W, C).

    Raises:
        JobError: smooth is not positive; over is neither.
        DataError: shapes that don't fit; a mask of other numbers.

    Paper: Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, arXiv:1606.04797 (whose squares in the denominator are left
    out, as usual since); Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945.

    >>> import torch
    >>> batch = Batch(torch.zeros(1, 1), torch.tensor([[[1, 0, 0]]]))
    >>> term = Dice().terms(torch.tensor([[[99.0, 99.0, -99.0]]]), batch)["dice"]
    >>> float(term.sum), int(Dice().counts(batch)["samples"])  # 1 - (2 * 1 + 1) / (2 + 1 + 1)
    (0.25, 1)
    """

    smooth: float = 1.0
    over: Literal["sample", "batch"] = "sample"
    ignore_index: int = -100

    def __post_init__(self) -> None:
        require(0 < self.smooth < math.inf, "dice.smooth", self.smooth, "a finite number above 0", "1.0 is usual")
        require_one_of("dice.over", self.over, ("sample", "batch"))
        object.__setattr__(self, "decomposable", self.over == "sample")

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair, weights = aligned_masks(outputs, batch, "dice", ignored=self.ignore_index), batch.weights
        if self.over == "sample":
            losses = dice_losses(pair.logits, pair.masks, smooth=self.smooth, kept=pair.kept)
            total = losses.sum() if weights is None else (losses * over_elements(weights, losses)).sum()
        else:
            loss = batch_dice_loss(pair.logits, pair.masks, smooth=self.smooth, kept=pair.kept, weights=weights)
            total = (loss * self.counts(batch)["samples"]).to(loss.dtype)
        return {"dice": Term(total, "samples")}

    def counts(self, batch: Batch) -> Counts:
        return {"samples": mask_counts(batch, "dice", ignored=self.ignore_index)["samples"]}
