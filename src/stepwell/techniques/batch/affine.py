"""Random affine transformations of images: turned, moved, scaled and sheared in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import (
    Fill,
    Rows,
    changed_where,
    move_pictures,
    pictures_of,
    require_fill,
    require_range,
    unit_range,
    warp,
)
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.objectives.soft_targets import wide_dtype
from stepwell.core.randomness import Rng

__all__ = ["Affine", "transform_pictures"]


def transform_pictures(
    pictures: Tensor,
    *,
    degrees: Tensor,
    right: Tensor,
    down: Tensor,
    scale: Tensor,
    shear: Tensor,
    fill: Fill = "zeros",
    mask_fill: int = 0,
) -> Tensor:
    """Pictures (N, C, H, W) sheared, scaled, turned around their centre, then moved, in one interpolation.

    Args:
        degrees: (N,) counterclockwise.
        right, down: (N,) in pixels.
        scale: (N,) factor on height and width, > 0: above 1 the picture grows.
        shear: (N,) degrees, below 90 in size: by how much vertical lines lean over, their upper ends to the right.
        fill: what comes in from outside. mask_fill: the same for pictures of whole numbers under "zeros".

    >>> still, one = torch.zeros(1), torch.ones(1)
    >>> picture = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> moved = transform_pictures(picture, degrees=still, right=one, down=still, scale=one, shear=still)
    >>> moved.round(decimals=4).tolist()
    [[[[0.0, 1.0, 2.0, 3.0]]]]
    """
    wide = wide_dtype(pictures.device)
    half_width, half_height = pictures.shape[3] / 2, pictures.shape[2] / 2
    angle, lean = torch.deg2rad(degrees.to(wide)), torch.deg2rad(shear.to(wide)).tan()
    right, down, scale = right.to(wide), down.to(wide), scale.to(wide)
    # Backwards, with y pointing down: unmove, turn clockwise, unscale, then undo x -> x - lean * y.
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    from_x, from_y = cosine + lean * sine, -sine + lean * cosine
    first = [from_x, from_y * (half_height / half_width), -(from_x * right + from_y * down) / half_width]
    second = [sine * (half_width / half_height), cosine, -(sine * right + cosine * down) / half_height]
    return warp(pictures, torch.stack([*first, *second], -1).view(-1, 2, 3), fill=fill, mask_fill=mask_fill)


@technique(
    id="affine",
    slot="batch",
    paper="Simard et al. 2003, doi:10.1109/ICDAR.2003.1227801",
    search={"degrees": (0.0, 20.0, "linear"), "shear": (0.0, 15.0, "linear"), "probability": (0.25, 1.0, "linear")},
)
class Affine:
    """Turn, move, scale and shear each image by random amounts.

    What: angle, shear, factor and shifts are uniform, each image by its own draws, and applied in one interpolation
    between four neighbours; masks move with it by the nearest pixel. Why: handwriting, or objects seen from other
    places. When not: sizes or angles are the signal. In a row with `rotation`, pixels are interpolated twice.

    Args:
        degrees: largest angle, in degrees, in [0, 180].
        translate: largest shifts as shares of width and height, each in [0, 1].
        scale: least and largest factor on the size, in [0.1, 10].
        shear: largest lean of vertical lines, in degrees, in [0, 60].
        fill: what comes in from outside: "zeros" (the mean, where images are standardised), "border" (the outermost
            pixel) or "reflection" (the picture mirrored at its edge).
        mask_fill: class number of mask pixels outside the picture under "zeros"; -100 leaves them out of cross_entropy.
        probability: share of the images that are changed, in [0, 1].

    Shapes: floating images (N, C, H, W) -> same; targets (N, H, W) or (N, C, H, W) -> same.

    Raises:
        JobError: a setting out of range. DataError: no images among the inputs.

    Paper: Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document
    Analysis", ICDAR 2003, doi:10.1109/ICDAR.2003.1227801.

    >>> Affine(translate=(0.1, 0.1))(Batch(torch.ones(2, 1, 8, 8)), Rng(0)).inputs.shape
    torch.Size([2, 1, 8, 8])
    """

    degrees: float = 0.0
    translate: tuple[float, float] = (0.1, 0.1)
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    fill: Fill = "zeros"
    mask_fill: int = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        require_between("affine.degrees", self.degrees, 0, 180, "The default is 0")
        shifts = isinstance(self.translate, (list, tuple)) and len(self.translate) == 2
        shifts = shifts and all(0 <= share <= 1 for share in self.translate)
        require(shifts, "affine.translate", self.translate, "shares of width and height in [0, 1]", "E.g. (0.1, 0.1)")
        require_range("affine.scale", self.scale, 0.1, 10.0, "The default is (1.0, 1.0)")
        require_between("affine.shear", self.shear, 0, 60, "The default is 0")
        require_fill("affine.fill", self.fill)
        require_between("affine.probability", self.probability, 0, 1, "The default is 1.0: every image")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "affine")
        still = self.degrees == 0 == self.shear and tuple(self.translate) == (0, 0) and tuple(self.scale) == (1, 1)
        if still or self.probability == 0:
            return batch
        draws = rng.uniform(batch.position, size.num, 6, size.device)
        across, along = self.translate[0] * size.width, self.translate[1] * size.height
        degrees = unit_range(draws[:, 0], -self.degrees, self.degrees)
        right, down = unit_range(draws[:, 1], -across, across), unit_range(draws[:, 2], -along, along)
        scale, shear = unit_range(draws[:, 3], *self.scale), unit_range(draws[:, 4], -self.shear, self.shear)

        def moved(pictures: Tensor, rows: Rows) -> Tensor:
            return transform_pictures(
                pictures,
                degrees=degrees[rows],
                right=right[rows],
                down=down[rows],
                scale=scale[rows],
                shear=shear[rows],
                fill=self.fill,
                mask_fill=self.mask_fill,
            )

        which = draws[:, 5] < self.probability
        return move_pictures(batch, size, lambda pictures: changed_where(which, pictures, moved))
