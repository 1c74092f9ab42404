"""Random erasing: a rectangle of each image is blanked out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Boxes, draw_boxes, map_pictures, pictures_of, require_range, spread
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.objectives.soft_targets import wide_dtype
from stepwell.core.randomness import Rng

__all__ = ["Erasing", "erase_boxes"]


def erase_boxes(pictures: Tensor, boxes: Boxes, values: Tensor | None = None) -> Tensor:
    """Pictures (N, C, H, W) with the pixels of each box replaced.

    Args:
        boxes: in whole pixels.
        values: anything that broadcasts with the pictures; None for zeros.

    >>> box = Boxes(*(torch.tensor([value]) for value in (0, 1, 1, 2)))
    >>> erase_boxes(torch.ones(1, 1, 1, 4), box).tolist()
    [[[[1.0, 0.0, 0.0, 1.0]]]]
    """
    rows = torch.arange(pictures.shape[2], device=pictures.device)[:, None]
    columns = torch.arange(pictures.shape[3], device=pictures.device)
    top, left = spread(boxes.top), spread(boxes.left)
    in_rows = ((rows >= top) & (rows < top + spread(boxes.height))).to(pictures.dtype)
    in_columns = ((columns >= left) & (columns < left + spread(boxes.width))).to(pictures.dtype)
    inside = in_rows * in_columns
    # Products with 0 and 1 are exact, and far faster than choosing pixel by pixel.
    kept = pictures * (1 - inside)
    return kept if values is None else kept.add_(values.to(pictures.dtype) * inside)


@technique(
    id="erasing",
    slot="batch",
    paper="Zhong et al. 2020, arXiv:1708.04896",
    search={"probability": (0.1, 0.5, "linear"), "fill": ("zeros", "mean", "noise")},
)
class Erasing:
    """Blank out a random rectangle of each image.

    What: the rectangle's share of the area is uniform, its proportions log-uniform (as far as they fit), its place
    uniform, each image by its own draws. Why: the model can't lean on one part of an object, and learns what it looks
    like half covered. When not: small objects that a rectangle can hide whole. Masks stay as they are: what is hidden
    is still there.

    Args:
        probability: share of the images that are erased, in [0, 1]. Paper: 0.5 on CIFAR.
        area: least and largest share of the area, in [0, 1]. Paper: 0.02 to 0.4.
        ratio: least and largest width / height of the rectangle, in [0.01, 100]. Paper: 0.3 to 1 / 0.3.
        fill: what is put there: "zeros" (the mean, where images are standardised), "mean" (the image's own, per channel)
            or "noise" (uniform between the image's least and largest value, per channel; the paper's choice).

    Shapes: floating images (N, C, H, W) -> same.

    Raises:
        JobError: a setting out of range. DataError: no images among the inputs.

    Paper: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, arXiv:1708.04896.

    >>> erased = Erasing(probability=1.0, area=(0.25, 0.25), ratio=(1.0, 1.0))(Batch(torch.ones(2, 1, 8, 8)), Rng(0))
    >>> erased.inputs.sum((1, 2, 3)).tolist()
    [48.0, 48.0]
    """

    probability: float = 0.2
    area: tuple[float, float] = (0.02, 0.4)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: Literal["zeros", "mean", "noise"] = "zeros"

    def __post_init__(self) -> None:
        require_between("erasing.probability", self.probability, 0, 1, "The default is 0.2")
        require_range("erasing.area", self.area, 0.0, 1.0, "The default is (0.02, 0.4)")
        require_range("erasing.ratio", self.ratio, 0.01, 100.0, "The default is (0.3, 3.33)")
        known = self.fill in ("zeros", "mean", "noise")
        require(known, "erasing.fill", self.fill, '"zeros", "mean" or "noise"', 'The default is "zeros"')

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "erasing")
        if self.probability == 0:
            return batch
        draws = rng.uniform(batch.position, size.num, 5, size.device)
        boxes = draw_boxes(draws[:, :4], size, area=self.area, aspect=self.ratio, edges="on pixels")
        # A box of no height erases nothing.
        boxes = replace(boxes, height=boxes.height * (draws[:, 4] < self.probability))
        return map_pictures(batch, lambda pictures: erase_boxes(pictures, boxes, self._values(pictures, batch.position, rng)))

    def _values(self, pictures: Tensor, position: int, rng: Rng) -> Tensor | None:
        if self.fill == "zeros":
            return None
        if self.fill == "mean":
            return pictures.mean((2, 3), keepdim=True, dtype=wide_dtype(pictures.device))
        least, largest = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
        noise = rng.child(1).uniform(position, len(pictures), pictures[0].numel(), pictures.device).view(pictures.shape)
        return least + noise * (largest - least)
