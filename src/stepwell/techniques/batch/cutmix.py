"""CutMix: a rectangle of each image is replaced by its partner's, targets mixed by the share of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch, tree_map
from stepwell.core.batches.images import map_pictures, pictures_of
from stepwell.core.batches.pairing import (
    MIXED_TOKENS,
    classes_known,
    drawn_share,
    mass_of,
    partners_in,
    require_mixing,
)
from stepwell.core.catalog import technique
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng

__all__ = ["CutBox", "CutMix", "cut_box", "cutmix"]


@dataclass(frozen=True, slots=True)
class CutBox:
    """Rows top to bottom and columns left to right (both ends as in slices), and the share of pixels outside the box."""

    top: int
    bottom: int
    left: int
    right: int
    lam: float


def cut_box(height: int, width: int, *, lam: float, row: int, column: int) -> CutBox:
    """The paper's box: sides sqrt(1 - lam) of the picture's, around a centre, clipped at the edges; lam corrected.

    Args:
        height, width: of the picture, in pixels.
        lam: share of pixels that the box is meant to leave, in [0, 1].
        row, column: its centre, in pixels.

    >>> cut_box(8, 16, lam=0.75, row=0, column=8)  # 4 x 8 pixels, the upper half of it outside the picture
    CutBox(top=0, bottom=2, left=4, right=12, lam=0.875)
    """
    box_height, box_width = int(height * math.sqrt(1 - lam)), int(width * math.sqrt(1 - lam))
    top, left = row - box_height // 2, column - box_width // 2
    bottom, right = min(top + box_height, height), min(left + box_width, width)
    top, left = max(top, 0), max(left, 0)
    return CutBox(top, bottom, left, right, 1 - (bottom - top) * (right - left) / (height * width))


def cutmix(pictures: Tensor, partner: Tensor, box: CutBox) -> Tensor:
    """Pictures (..., H, W) with the partners' pixels inside the box.

    >>> cutmix(torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]]), torch.tensor([1, 0]), CutBox(0, 1, 0, 1, 0.5)).tolist()
    [[[2.0, 1.0]], [[1.0, 2.0]]]
    """
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    made = pictures.clone()
    made[..., rows, columns] = pictures[..., rows, columns][partner]
    return made


@technique(
    id="cutmix",
    slot="batch",
    paper="Yun et al. 2019, arXiv:1905.04899",
    needs=("soft_targets",),
    conflicts={"token_inputs": MIXED_TOKENS},
    search={"alpha": (0.1, 2.0, "log"), "probability": (0.25, 1.0, "linear")},
)
class CutMix:
    """Replace a rectangle of each image by the same rectangle of another, targets mixed by the share of pixels.

    What: one box per step, as high and wide as sqrt(1 - lam) of the picture with lam ~ Beta(alpha, alpha), clipped at
    the edges; targets are lam' t_i + (1 - lam') t_j with lam' the true share of pixels after clipping. Masks and other
    targets that lie on the image are cut themselves. Why: the model must use all of an object, and no pixel is wasted
    on blanks. When not: images whose class hangs on one small spot, or on the whole layout.

    Args:
        alpha: Beta concentration, no unit, > 0. Paper: 1.0.
        probability: share of the steps that are mixed, in [0, 1]. Paper: 0.5 on CIFAR, 1.0 on ImageNet.
        num_classes: K, where targets are class numbers; filled in from the data by a job.

    Shapes: inputs with floating images (N, C, H, W) -> same; targets (N,) int64 -> (N, K) float, (N, H, W) -> same.

    Raises:
        JobError: alpha is not positive; class numbers without num_classes.
        DataError: no images among the inputs.

    Paper: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
    arXiv:1905.04899.

    >>> batch = Batch(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0]))
    >>> mixed = CutMix(num_classes=2)(batch, Rng(0))
    >>> bool(torch.isin(mixed.inputs, batch.inputs).all())
    True
    """

    alpha: float = 1.0
    probability: float = 1.0
    num_classes: int | None = None

    def __post_init__(self) -> None:
        require_mixing("cutmix", self.alpha, self.probability, self.num_classes)

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The number of classes, from the model or the data."""
        return classes_known(self.num_classes, facts)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "cutmix")
        lam = drawn_share(rng, self.alpha, self.probability)
        if lam is None:
            return batch
        row, column = rng.host.randrange(size.height), rng.host.randrange(size.width)
        box = cut_box(size.height, size.width, lam=lam, row=row, column=column)
        partner = partners_in(batch)

        def mixed(targets: Tensor) -> Tensor:
            if targets.ndim in (3, 4) and targets.shape[-2:] == (size.height, size.width):
                return cutmix(targets, partner, box)
            mass = mass_of(targets, self.num_classes, "cutmix")
            return torch.lerp(mass[partner], mass, box.lam)

        made = map_pictures(batch, lambda pictures: cutmix(pictures, partner, box))
        return replace(made, targets=tree_map(mixed, batch.targets))
