"""Random flips: images mirrored left to right, or upside down."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import changed_where, move_pictures, pictures_of
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.randomness import Rng

__all__ = ["Flip", "flip_pictures"]

Axis = Literal["horizontal", "vertical"]


def flip_pictures(pictures: Tensor, which: Tensor, axis: Axis) -> Tensor:
    """Pictures (N, C, H, W), those with `which` (N,) bool mirrored: "horizontal" left to right, "vertical" upside down.

    >>> import torch
    >>> flip_pictures(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([True]), "horizontal").tolist()
    [[[[2.0, 1.0]]]]
    """
    return changed_where(which, pictures, lambda some, rows: some.flip(3 if axis == "horizontal" else 2))


@technique(
    id="flip",
    slot="batch",
    paper="Krizhevsky et al. 2012, doi:10.1145/3065386",
    search={"probability": (0.25, 0.5, "linear")},
)
class Flip:
    """Mirror images at random.

    What: each image is mirrored with a probability, by its own draw, exactly; masks and other targets that lie on it
    too. Why: twice the data where a mirror image is as likely as the image. When not: digits, letters, road signs, or
    anatomy, where left and right (or up and down) mean something.

    Args:
        probability: share of the images that are mirrored, in [0, 1]. Common: 0.5.
        axis: "horizontal" mirrors left to right, "vertical" upside down.

    Shapes: floating images (N, C, H, W) -> same; targets (N, H, W) or (N, C, H, W) -> same.

    Raises:
        JobError: a setting out of range. DataError: no images among the inputs.

    Paper: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
    doi:10.1145/3065386 (section 4.1).

    >>> import torch
    >>> Flip(probability=1.0)(Batch(torch.tensor([[[[1.0, 2.0, 3.0]]]])), Rng(0)).inputs.tolist()
    [[[[3.0, 2.0, 1.0]]]]
    """

    probability: float = 0.5
    axis: Literal["horizontal", "vertical"] = "horizontal"

    def __post_init__(self) -> None:
        require_between("flip.probability", self.probability, 0, 1, "The default is 0.5")
        known = self.axis in ("horizontal", "vertical")
        require(known, "flip.axis", self.axis, '"horizontal" or "vertical"', "horizontal mirrors left to right")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "flip")
        if self.probability == 0:
            return batch
        which = rng.uniform(batch.position, size.num, 1, size.device)[:, 0] < self.probability
        return move_pictures(batch, size, lambda pictures: flip_pictures(pictures, which, self.axis))
