"""Random crops of padded images: each picture shifted by whole pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Fill, Rows, changed_where, move_pictures, pictures_of, require_fill
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.randomness import Rng

__all__ = ["RandomCrop", "pad_pictures", "shift_pictures"]


def pad_pictures(pictures: Tensor, padding: int, *, fill: Fill = "zeros", mask_fill: int = 0) -> Tensor:
    """Pictures with so many pixels more on each side, (N, C, H + 2 padding, W + 2 padding).

    Args:
        padding: pixels, >= 0.
        fill: zeros, the outermost pixel, or the picture mirrored at its edge (the edge pixel twice).
        mask_fill: in place of zeros, for pictures of whole numbers.

    >>> pad_pictures(torch.tensor([[[[1.0, 2.0]]]]), 2, fill="reflection")[0, 0, 0].tolist()
    [2.0, 1.0, 1.0, 2.0, 2.0, 1.0]
    """
    if fill == "zeros":
        return F.pad(pictures, (padding,) * 4, value=0 if pictures.is_floating_point() else mask_fill)
    for dim in (2, 3):
        size = pictures.shape[dim]
        places = torch.arange(-padding, size + padding, device=pictures.device)
        if fill == "border":
            places = places.clamp(0, size - 1)
        else:
            places = places % (2 * size)
            places = places.minimum(2 * size - 1 - places)
        pictures = pictures.index_select(dim, places)
    return pictures


def shift_pictures(padded: Tensor, rows: Tensor, columns: Tensor, *, height: int, width: int) -> Tensor:
    """A window of each padded picture, by whole pixels, exactly, (N, C, height, width).

    Args:
        padded: (N, C, H, W).
        rows, columns: (N,) int64: the window's upper left corner; it must lie inside.
        height, width: of the window, in pixels.

    >>> shift_pictures(torch.arange(4.0).view(1, 1, 1, 4), torch.tensor([0]), torch.tensor([2]), height=1, width=2).tolist()
    [[[[2.0, 3.0]]]]
    """
    num, channels, padded_height, padded_width = padded.shape
    flat = padded.reshape(-1)
    device = padded.device
    # Every row of every window is a stretch of `width` numbers in memory: one index per row instead of one per pixel.
    planes = torch.arange(num * channels, device=device).view(num, channels, 1) * padded_height
    lines = planes + (torch.arange(height, device=device) + rows[:, None])[:, None]
    starts = lines * padded_width + columns[:, None, None]
    stretches = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
    return stretches.index_select(0, starts.view(-1)).view(num, channels, height, width)


@technique(
    id="random_crop",
    slot="batch",
    paper="Krizhevsky et al. 2012, doi:10.1145/3065386",
    search={"padding": (2, 4, 8), "probability": (0.5, 1.0, "linear")},
)
class RandomCrop:
    """Pad each image, then cut a window of its own size at a random place.

    What: every image is shifted by up to `padding` whole pixels in each direction, each by its own draw; no pixel value
    changes. Masks and other targets that lie on the image move with it. Why: the class doesn't depend on where an
    object stands. When not: images where the place is the signal, or objects that touch the edge.

    Args:
        padding: pixels on each side, >= 0. 4 for images of 32 x 32.
        fill: what is padded with: "zeros" (the mean, where images are standardised), "border" (the outermost pixel) or
            "reflection" (the picture mirrored at its edge).
        mask_fill: class number of mask pixels outside the picture under "zeros"; -100 leaves them out of cross_entropy.
        probability: share of the images that are shifted, in [0, 1].

    Shapes: floating images (N, C, H, W) -> same; targets (N, H, W) or (N, C, H, W) -> same.

    Raises:
        JobError: a setting out of range. DataError: no images among the inputs.

    Paper: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012,
    doi:10.1145/3065386 (section 4.1).

    >>> batch = Batch(torch.ones(2, 1, 4, 4))
    >>> RandomCrop(padding=1, fill="border")(batch, Rng(0)).inputs.equal(batch.inputs)
    True
    """

    padding: int = 4
    fill: Fill = "zeros"
    mask_fill: int = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.padding <= 4096, "random_crop.padding", self.padding, "0 to 4096 pixels", "4 suits 32 x 32 images")
        require_fill("random_crop.fill", self.fill)
        require_between("random_crop.probability", self.probability, 0, 1, "The default is 1.0: every image")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "random_crop")
        if self.padding == 0 or self.probability == 0:
            return batch
        draws = rng.uniform(batch.position, size.num, 3, size.device)
        places = (draws[:, :2] * (2 * self.padding + 1)).long()

        def shifted(pictures: Tensor, rows: Rows) -> Tensor:
            padded = pad_pictures(pictures, self.padding, fill=self.fill, mask_fill=self.mask_fill)
            return shift_pictures(padded, places[rows, 0], places[rows, 1], height=size.height, width=size.width)

        which = draws[:, 2] < self.probability
        return move_pictures(batch, size, lambda pictures: changed_where(which, pictures, shifted))
