"""Random resized crops: a random part of each image, enlarged to the image's size."""

from __future__ import annotations

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Boxes, changed_where, draw_boxes, move_pictures, pictures_of, require_range, warp
from stepwell.core.catalog import technique
from stepwell.core.check import require_between
from stepwell.core.randomness import Rng

__all__ = ["ResizedCrop", "resize_boxes"]


def resize_boxes(pictures: Tensor, boxes: Boxes) -> Tensor:
    """What each box holds, enlarged to the size of the picture, (N, C, H, W).

    Bilinear for floats, the nearest pixel for whole numbers; boxes need not lie on whole pixels.

    >>> left_half = Boxes(*(torch.tensor([value]) for value in (0.0, 0.0, 1.0, 2.0)))
    >>> resize_boxes(torch.tensor([[[[0.0, 4.0, 8.0, 12.0]]]]), left_half).tolist()
    [[[[0.0, 1.0, 3.0, 5.0]]]]
    """
    height, width = pictures.shape[2:]
    none = torch.zeros_like(boxes.top)
    across, along = boxes.width / width, boxes.height / height
    centre_x, centre_y = (2 * boxes.left + boxes.width) / width - 1, (2 * boxes.top + boxes.height) / height - 1
    matrices = torch.stack([across, none, centre_x, none, along, centre_y], -1).view(-1, 2, 3)
    return warp(pictures, matrices, fill="border")


@technique(
    id="resized_crop",
    slot="batch",
    paper="Szegedy et al. 2015, arXiv:1409.4842",
    search={"probability": (0.25, 1.0, "linear")},
)
class ResizedCrop:
    """Cut a random part out of each image and enlarge it to the image's size.

    What: the part's share of the area is uniform, its proportions log-uniform (as far as they fit), its place uniform,
    each image by its own draws; pixels are interpolated between their four neighbours, which is exact enough since
    parts are only enlarged. Masks move with it by the nearest pixel. Why: objects come in all sizes and are often seen
    in part. When not: sizes or proportions are the signal, or small objects that a crop can lose.

    Args:
        scale: least and largest share of the area, in [0.01, 1]. Paper: 0.08 to 1.
        ratio: least and largest width / height of the part, in pixels, in [0.1, 10]. Paper: 3/4 to 4/3.
        probability: share of the images that are cropped, in [0, 1].

    Shapes: floating images (N, C, H, W) -> same; targets (N, H, W) or (N, C, H, W) -> same.

    Raises:
        JobError: a setting out of range. DataError: no images among the inputs.

    Paper: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842 (section 6).

    >>> ResizedCrop(scale=(0.5, 1.0))(Batch(torch.ones(2, 1, 8, 8)), Rng(0)).inputs.shape
    torch.Size([2, 1, 8, 8])
    """

    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    probability: float = 1.0

    def __post_init__(self) -> None:
        require_range("resized_crop.scale", self.scale, 0.01, 1.0, "The default is (0.8, 1.0)")
        require_range("resized_crop.ratio", self.ratio, 0.1, 10.0, "The default is (3/4, 4/3)")
        require_between("resized_crop.probability", self.probability, 0, 1, "The default is 1.0: every image")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "resized_crop")
        if self.probability == 0:
            return batch
        draws = rng.uniform(batch.position, size.num, 5, size.device)
        boxes = draw_boxes(draws[:, :4], size, area=self.scale, aspect=self.ratio)
        which = draws[:, 4] < self.probability
        resized = lambda pictures, rows: resize_boxes(pictures, boxes.of(rows))  # noqa: E731
        return move_pictures(batch, size, lambda pictures: changed_where(which, pictures, resized))
