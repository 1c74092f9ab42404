"""Images in a batch: which tensors are pictures, which targets lie on them, and how both are moved alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch, tree_leaves, tree_map
from stepwell.core.check import require
from stepwell.core.errors import DataError
from stepwell.core.objectives.soft_targets import wide_dtype

__all__ = [
    "FILLS",
    "Boxes",
    "Fill",
    "Pictures",
    "Rows",
    "changed_where",
    "draw_boxes",
    "map_pictures",
    "move_pictures",
    "pictures_of",
    "require_fill",
    "require_range",
    "spread",
    "unit_range",
    "warp",
]

# The places of some samples of a batch, or slice(None) for all.
Rows = Tensor | slice

# What is outside a picture: zeros, its outermost pixels, or the picture mirrored at its edge (the edge pixel twice).
Fill = Literal["zeros", "border", "reflection"]
FILLS = ("zeros", "border", "reflection")


@dataclass(frozen=True, slots=True)
class Pictures:
    """How many pictures a batch holds, and how large they are in pixels."""

    num: int
    height: int
    width: int
    device: torch.device


@dataclass(frozen=True, slots=True)
class Boxes:
    """One box per sample, each (N,), in pixels: its upper left corner, its height and its width."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def of(self, rows: Rows) -> Boxes:
        """The boxes of some samples."""
        return Boxes(self.top[rows], self.left[rows], self.height[rows], self.width[rows])


def is_picture(tensor: Tensor) -> bool:
    """Whether a tensor holds pictures: floating, (N, C, H, W)."""
    return tensor.ndim == 4 and tensor.is_floating_point()


def _channels_last(images: Tensor) -> bool:
    """Whether (N, C, H, W) reads like (N, H, W, C): 1, 3 or 4 columns, and more rows and channels than such a picture has."""
    return images.shape[3] in (1, 3, 4) and images.shape[1] > 4 and images.shape[2] > 4


def pictures_of(batch: Batch, name: str) -> Pictures:
    """The pictures among the inputs.

    Args:
        name: the technique that asks, for messages.

    Raises:
        DataError: there are none, they have several sizes, or their channels come last.

    >>> pictures = pictures_of(Batch({"image": torch.zeros(2, 3, 4, 5), "age": torch.zeros(2)}), "flip")
    >>> pictures.num, pictures.height, pictures.width
    (2, 4, 5)
    """
    leaves = tree_leaves(batch.inputs)
    found = [leaf for leaf in leaves if is_picture(leaf)]
    if not found:
        kinds = ", ".join(f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in leaves)
        raise DataError(
            f"{name} found no images among the inputs ({kinds or 'none'})",
            expected="floating-point images (N, C, H, W)",
            fix=f"Convert whole numbers with .float() / 255; leave {name} out for other data",
        )
    first = next((leaf for leaf in found if _channels_last(leaf)), found[0])
    if _channels_last(first):
        raise DataError(
            f"{name} got images of shape {tuple(first.shape)}, whose channels seem to come last",
            expected="images (N, C, H, W)",
            fix="Give inputs.permute(0, 3, 1, 2); where they really are so narrow, lay them on their side: transpose(2, 3)",
        )
    if any(leaf.shape[2:] != first.shape[2:] for leaf in found):
        raise DataError(
            f"{name} got images of several sizes: {', '.join(str(tuple(leaf.shape[2:])) for leaf in found)}",
            expected="one height and width",
            fix="Resize them beforehand",
        )
    return Pictures(first.shape[0], first.shape[2], first.shape[3], first.device)


def map_pictures(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with `function` applied to its images; targets stay as they are."""
    return replace(batch, inputs=tree_map(lambda leaf: function(leaf) if is_picture(leaf) else leaf, batch.inputs))


def move_pictures(batch: Batch, pictures: Pictures, move: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its images moved, and with them every target that lies on them.

    A target (N, H, W) or (N, C, H, W) of the images' height and width is a map of them: a mask where it holds whole
    numbers.

    Args:
        move: (N, C, H, W) of any dtype -> the same shape and dtype.
    """

    def moved_target(target: Tensor) -> Tensor:
        if target.ndim not in (3, 4) or target.shape[-2:] != (pictures.height, pictures.width):
            return target
        return move(target) if target.ndim == 4 else move(target.unsqueeze(1)).squeeze(1)

    return replace(map_pictures(batch, move), targets=tree_map(moved_target, batch.targets))


def spread(values: Tensor, ndim: int = 4) -> Tensor:
    """One value per sample, shaped to meet (N, C, H, W).

    >>> spread(torch.zeros(5)).shape
    torch.Size([5, 1, 1, 1])
    """
    return values.view(-1, *(1,) * (ndim - 1))


def changed_where(which: Tensor, pictures: Tensor, change: Callable[[Tensor, Rows], Tensor]) -> Tensor:
    """Pictures with some of them changed, each on its own; the others keep their bits.

    Args:
        which: (N,) bool.
        pictures: (N, C, H, W).
        change: (pictures, rows) -> the same shape; parameters (N, ...) of these pictures are `parameter[rows]`.

    >>> pictures = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    >>> changed_where(torch.tensor([False, True]), pictures, lambda some, rows: some + 5).flatten().tolist()
    [1.0, 7.0]
    """
    if which.device.type != "cpu":  # where counting them would wait for the device
        return torch.where(spread(which), change(pictures, slice(None)), pictures)
    rows = which.nonzero()[:, 0]
    if len(rows) == len(pictures):
        return change(pictures, slice(None))
    return pictures.index_copy(0, rows, change(pictures.index_select(0, rows), rows)) if len(rows) else pictures


def unit_range(draws: Tensor, low: float, high: float) -> Tensor:
    """Draws in [0, 1) as numbers in [low, high), in fp64, so that they don't depend on how a batch is cut.

    Vector units compute sines and roots of a row's last elements in another way: in fp64 the difference is lost again
    when the result is rounded to the images' precision.

    >>> unit_range(torch.tensor([0.0, 0.5]), -15.0, 15.0).tolist()
    [-15.0, 0.0]
    """
    return draws.to(wide_dtype(draws.device)) * (high - low) + low


def draw_boxes(
    draws: Tensor,
    pictures: Pictures,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    edges: Literal["anywhere", "on pixels"] = "anywhere",
) -> Boxes:
    """Boxes that lie inside the picture: area uniform, aspect log-uniform (as far as it fits), place uniform.

    Args:
        draws: (N, 4) in [0, 1).
        area: least and largest share of the picture's area, in [0, 1].
        aspect: least and largest width / height, > 0.
        edges: "on pixels" rounds the sides to whole pixels, one at least; every place is then as likely.

    >>> pictures = Pictures(1, 8, 8, torch.device("cpu"))
    >>> box = draw_boxes(torch.tensor([[0.5, 0.5, 0.5, 0.0]]), pictures, area=(0.0, 0.5), aspect=(1.0, 1.0))
    >>> [float(value) for value in (box.top, box.left, box.height, box.width)]
    [2.0, 0.0, 4.0, 4.0]
    """
    height, width = pictures.height, pictures.width
    share = unit_range(draws[:, 0], *area)
    ratio = unit_range(draws[:, 1], math.log(aspect[0]), math.log(aspect[1])).exp()
    # A box of this area fits for ratios in this interval only; it is never empty, since the share is at most 1.
    ratio = ratio.maximum(share * (width / height)).minimum((width / height) / share)
    pixels = share * (height * width)
    box_height = (pixels / ratio).sqrt().clamp(max=height)
    box_width = (pixels * ratio).sqrt().clamp(max=width)
    down, across = unit_range(draws[:, 2], 0, 1), unit_range(draws[:, 3], 0, 1)
    if edges == "anywhere":
        return Boxes(down * (height - box_height), across * (width - box_width), box_height, box_width)
    box_height, box_width = box_height.round().clamp(min=1), box_width.round().clamp(min=1)
    top, left = (down * (height - box_height + 1)).floor(), (across * (width - box_width + 1)).floor()
    return Boxes(top, left, box_height, box_width)


def warp(pictures: Tensor, matrices: Tensor, *, fill: Fill = "zeros", mask_fill: int = 0) -> Tensor:
    """Pictures read at other places: bilinear for floats, the nearest pixel for whole numbers.

    Args:
        pictures: (N, C, H, W).
        matrices: (N, 2, 3), from a place (x, y, 1) in the result to (x, y) in the picture, both in half widths and half
            heights from its centre: the picture spans -1 to 1.
        fill: what is outside a picture.
        mask_fill: what is outside a picture of whole numbers under "zeros".

    >>> halves = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # reads one pixel of four to the right
    >>> warp(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), halves, fill="border").tolist()
    [[[[2.0, 3.0, 4.0, 4.0]]]]
    """
    floating, size = pictures.is_floating_point(), pictures.shape[2:]
    # fp64 holds every whole number of a mask exactly; half precision can't hold the places.
    dtype = torch.promote_types(pictures.dtype, torch.float32) if floating else wide_dtype(pictures.device)
    values = pictures.to(dtype)
    if not floating:
        values = values - mask_fill
    elif fill == "zeros":
        # A ring of zeros as the border is the same, and on CPU nearly twice as fast with several channels.
        values, fill = F.pad(values, (1, 1, 1, 1)), "border"
        ring = [[size[1] / (size[1] + 2)], [size[0] / (size[0] + 2)]]
        matrices = matrices * torch.tensor(ring, dtype=matrices.dtype, device=matrices.device)
    entries = matrices.to(dtype)[:, :, :, None, None]
    columns = _centres(size[1], dtype, pictures.device)
    rows = _centres(size[0], dtype, pictures.device)[:, None]
    # Products and sums element by element: a matrix product could round differently for another number of samples.
    grid = (entries[:, :, 1] * rows + entries[:, :, 2]) + entries[:, :, 0] * columns
    kind = "bilinear" if floating else "nearest"
    moved = F.grid_sample(values, grid.movedim(1, -1), mode=kind, padding_mode=fill, align_corners=False)
    return (moved if floating else moved + mask_fill).to(pictures.dtype)


def _centres(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return (torch.arange(size, dtype=dtype, device=device) * 2 + (1 - size)) / size


def require_range(name: str, value: tuple[float, float], low: float, high: float, fix: str) -> None:
    """Refuse a pair that is no range (least, largest) inside [low, high].

    Raises:
        JobError: it is none.
    """
    good = isinstance(value, (list, tuple)) and len(value) == 2 and low <= value[0] <= value[1] <= high
    require(good and math.isfinite(value[1]), name, value, f"two numbers, the least first, in [{low:g}, {high:g}]", fix)


def require_fill(name: str, value: str) -> None:
    """Refuse an unknown fill."""
    require(value in FILLS, name, value, "one of zeros, border, reflection", 'The default is "zeros"')
