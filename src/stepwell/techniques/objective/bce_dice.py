"""Cross-entropy of every pixel plus the Dice loss of every mask."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.objectives.loss_shapes import over_elements
from stepwell.core.objectives.masks import aligned_masks, dice_losses, mask_counts
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms

__all__ = ["BceDice", "pixel_losses"]


def pixel_losses(logits: Tensor, masks: Tensor, *, kept: Tensor | None = None) -> Tensor:
    """Cross-entropy of every sample's pixels, summed, (N,): binary for one score per pixel, over classes for several.

    Args:
        logits: (N, C, ...).
        masks: same shape, in [0, 1], 0 at pixels that don't count.
        kept: (N, 1, ...), what each pixel counts; None where all count 1.

    >>> import torch
    >>> [round(value, 4) for value in pixel_losses(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]])).tolist()]  # 2 log 2
    [1.3863]
    """
    if logits.shape[1] == 1:
        rest = (1.0 if kept is None else kept) - masks
        losses = -(masks * F.logsigmoid(logits) + rest * F.logsigmoid(-logits))
    else:
        losses = masks * -F.log_softmax(logits, dim=1)
    return losses.flatten(1).sum(-1)


@technique(
    id="bce_dice",
    slot="objective",
    role="base",
    paper="Isensee et al. 2021, doi:10.1038/s41592-020-01008-z",
    provides=("soft_targets", "mask_targets"),
    search={"weight": (0.1, 0.9, "linear")},
)
class BceDice(Objective):
    """Cross-entropy of the pixels plus the Dice loss of the masks.

    What: weight * cross-entropy + (1 - weight) * Dice; the first is divided by the number of pixels that count, the
    second by the number of samples, each over the whole step. Binary cross-entropy for one score per pixel, softmax
    cross-entropy for several classes. Why: cross-entropy has a smooth pull everywhere, Dice keeps small objects from
    being drowned by background. When not: the masks are balanced: cross-entropy alone is calibrated (weight 1).

    Args:
        weight: share of the cross-entropy, in [0, 1]; 0.5 is usual.
        smooth: added to both sides of the overlap, > 0, in pixels. See `dice`; the overlap is always each sample's own.
        ignore_index: number of pixels, in masks of integers, that are left out, any int.

    Shapes: as in `dice`.

    Raises:
        JobError: weight or smooth out of range.
        DataError: shapes that don't fit; a mask of other numbers.

    Paper: Isensee et al., "nnU-Net", Nature Methods 18, 2021 (the sum of both); Milletari et al. 2016, arXiv:1606.04797.

    >>> import torch
    >>> batch = Batch(torch.zeros(1, 1), torch.tensor([[[1.0, 0.0]]]))
    >>> terms = BceDice().terms(torch.zeros(1, 1, 2), batch)
    >>> {name: (round(float(term.sum), 4), term.unit, term.weight) for name, term in terms.items()}
    {'bce': (1.3863, 'pixels', 0.5), 'dice': (0.3333, 'samples', 0.5)}
    """

    weight: float = 0.5
    smooth: float = 1.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        require_between("bce_dice.weight", self.weight, 0, 1, "0.5 is usual; 0 is dice alone, 1 is cross-entropy alone")
        require(0 < self.smooth < math.inf, "bce_dice.smooth", self.smooth, "a finite number above 0", "1.0 is usual")

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        pair = aligned_masks(outputs, batch, "bce_dice", ignored=self.ignore_index)
        pixels = pixel_losses(pair.logits, pair.masks, kept=pair.kept)
        dice = dice_losses(pair.logits, pair.masks, smooth=self.smooth, kept=pair.kept)
        if batch.weights is not None:
            each = over_elements(batch.weights, dice)
            pixels, dice = pixels * each, dice * each
        name = "bce" if pair.logits.shape[1] == 1 else "cross_entropy"
        return {name: Term(pixels.sum(), "pixels", self.weight), "dice": Term(dice.sum(), "samples", 1 - self.weight)}

    def counts(self, batch: Batch) -> Counts:
        return mask_counts(batch, "bce_dice", ignored=self.ignore_index)
