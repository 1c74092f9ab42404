"""Random rotations of images around their centre."""

from __future__ import annotations

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Fill, Rows, changed_where, move_pictures, pictures_of, require_fill, unit_range, warp
from stepwell.core.catalog import technique
from stepwell.core.check import require_between
from stepwell.core.objectives.soft_targets import wide_dtype
from stepwell.core.randomness import Rng

__all__ = ["Rotation", "rotate_pictures"]


def rotate_pictures(pictures: Tensor, degrees: Tensor, *, fill: Fill = "zeros", mask_fill: int = 0) -> Tensor:
    """Pictures (N, C, H, W) turned counterclockwise around their centre by so many degrees each, (N,).

    Bilinear for floats, the nearest pixel for whole numbers; pixels are square.

    >>> turned = rotate_pictures(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([90.0]))
    >>> turned.round(decimals=4).tolist()
    [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    height, width = pictures.shape[2:]
    angle = torch.deg2rad(degrees.to(wide_dtype(degrees.device)))
    cosine, sine, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Backwards: where each pixel of the result comes from, so clockwise, with y pointing down.
    entries = [cosine, -sine * (height / width), none, sine * (width / height), cosine, none]
    return warp(pictures, torch.stack(entries, -1).view(-1, 2, 3), fill=fill, mask_fill=mask_fill)


@technique(
    id="rotation",
    slot="batch",
    paper="Simard et al. 2003, doi:10.1109/ICDAR.2003.1227801",
    search={"degrees": (2.0, 30.0, "log"), "probability": (0.25, 1.0, "linear")},
)
class Rotation:
    """Turn each image around its centre by a random angle.

    What: the angle is uniform in -degrees to degrees, each image by its own draw, pixels interpolated between their
    four neighbours; masks turn with it by the nearest pixel. Why: the class doesn't depend on how the camera was held.
    When not: 6 and 9, or textures that interpolation blurs away.

    Args:
        degrees: largest angle, in degrees, in [0, 180]. Common: 15.
        fill: what comes in at the corners: "zeros" (the mean, where images are standardised), "border" (the outermost
            pixel) or "reflection" (the picture mirrored at its edge).
        mask_fill: class number of mask pixels outside the picture under "zeros"; -100 leaves them out of cross_entropy.
        probability: share of the images that are turned, in [0, 1].

    Shapes: floating images (N, C, H, W) -> same; targets (N, H, W) or (N, C, H, W) -> same.

    Raises:
        JobError: a setting out of range. DataError: no images among the inputs.

    Paper: Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document
    Analysis", ICDAR 2003, doi:10.1109/ICDAR.2003.1227801.

    >>> Rotation(degrees=15.0)(Batch(torch.ones(2, 1, 8, 8)), Rng(0)).inputs.shape
    torch.Size([2, 1, 8, 8])
    """

    degrees: float = 15.0
    fill: Fill = "zeros"
    mask_fill: int = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        require_between("rotation.degrees", self.degrees, 0, 180, "The default is 15")
        require_fill("rotation.fill", self.fill)
        require_between("rotation.probability", self.probability, 0, 1, "The default is 1.0: every image")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "rotation")
        if self.degrees == 0 or self.probability == 0:
            return batch
        draws = rng.uniform(batch.position, size.num, 2, size.device)
        angles = unit_range(draws[:, 0], -self.degrees, self.degrees)

        def turned(pictures: Tensor, rows: Rows) -> Tensor:
            return rotate_pictures(pictures, angles[rows], fill=self.fill, mask_fill=self.mask_fill)

        which = draws[:, 1] < self.probability
        return move_pictures(batch, size, lambda pictures: changed_where(which, pictures, turned))
