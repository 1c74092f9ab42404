"""Segmentation: scores of pixels against masks in every shape they come in, and the Dice overlap of the two.

Outputs of one score per pixel, (N, P), (N, H, W) or (N, 1, H, W), take masks of the same shape, with or without the 1, in
0 and 1, bools, or numbers between; or the mass of both classes, (N, H, W, 2), as mixing leaves it. Outputs of a score per
class, (N, C, H, W) with C > 1, take class numbers (N, H, W) or (N, 1, H, W), or mass (N, C, H, W) or, as mixing leaves it,
(N, H, W, C). A pixel's mass adds up to what the pixel counts: 1, or 0 where it is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError
from stepwell.core.objectives.loss_shapes import as_scores, over_elements
from stepwell.core.objectives.soft_targets import class_targets, soft_targets
from stepwell.core.slots import Counts

__all__ = ["Masks", "aligned_masks", "batch_dice_loss", "dice_losses", "mask_counts"]


@dataclass(frozen=True, slots=True)
class Masks:
    """Scores and masks of one shape (N, C, P), P pixels in a row; C is 1 for one score per pixel.

    Args:
        logits: (N, C, P).
        masks: (N, C, P) in [0, 1], in the logits' dtype; 0 at pixels that don't count.
        kept: (N, 1, P), what each pixel counts; None where all count 1.
    """

    logits: Tensor
    masks: Tensor
    kept: Tensor | None


def aligned_masks(outputs: Tree, batch: Batch, name: str, *, ignored: int) -> Masks:
    """Outputs and masks of a batch as (N, C, P).

    Args:
        name: of the objective, for errors.
        ignored: number of pixels, in masks of integers, that don't count.

    Raises:
        DataError: shapes that don't fit; class numbers outside 0..C-1; a mask of 0 and 255.

    >>> aligned_masks(torch.zeros(2, 3, 4, 4), Batch(None, torch.zeros(2, 4, 4).long()), "dice", ignored=-100).masks.shape
    torch.Size([2, 3, 16])
    """
    scores, masks = as_scores(outputs, name), class_targets(batch, name)
    if not 2 <= scores.ndim <= 4:
        raise _misfit(name, scores, masks, "Return logits (N, H, W), (N, 1, H, W) or (N, C, H, W)")
    single = scores.ndim < 4 or scores.shape[1] == 1
    pixels = (scores.shape[0], *scores.shape[2 if scores.ndim == 4 else 1 :])
    logits = scores.flatten(2) if scores.ndim == 4 else scores.flatten(1).unsqueeze(1)
    if _is_mass(masks):
        mass = _class_mass(scores, masks, pixels, name).to(logits.dtype)
        return Masks(logits, mass[:, 1:] if single else mass, mass.sum(1, keepdim=True))
    plain = masks.squeeze(1) if masks.ndim == len(pixels) + 1 and masks.shape[1] == 1 else masks
    soft = masks.is_floating_point() or masks.dtype == torch.bool
    if plain.shape != pixels or (soft and not single):
        raise _misfit(name, scores, masks, "Give masks (N, H, W) of the outputs' own height and width")
    if soft:
        return Masks(logits, plain.flatten(1).unsqueeze(1).to(logits.dtype), None)
    kept = (plain != ignored).flatten(1).unsqueeze(1)
    if single:
        truth = _checked_binary(plain.flatten(1).unsqueeze(1) * kept, name)
    else:
        truth = soft_targets(plain.flatten(1), scores.shape[1], ignored=ignored, dtype=logits.dtype).transpose(1, 2)
    return Masks(logits, truth.to(logits.dtype), kept.to(logits.dtype))


def dice_losses(logits: Tensor, masks: Tensor, *, smooth: float = 1.0, kept: Tensor | None = None) -> Tensor:
    """1 - (2 |p m| + smooth) / (|p| + |m| + smooth) of every sample, (N,); the mean over classes where there are several.

    p is the sigmoid of one score per pixel, or the softmax over C > 1 scores.

    Args:
        logits: (N, C, ...).
        masks: same shape, in [0, 1].
        smooth: added to both sides, > 0, in pixels; an empty mask answered with an empty prediction costs nothing.
        kept: (N, 1, ...), what each pixel counts; None where all count 1.

    >>> sure = torch.tensor([[[99.0, 99.0, -99.0]]])
    >>> dice_losses(sure, torch.tensor([[[1.0, 0.0, 0.0]]])).tolist()  # 1 - (2 * 1 + 1) / (2 + 1 + 1)
    [0.25]
    """
    found = _overlap(logits, masks, kept)
    return (1 - (2 * found.shared + smooth) / (found.total + smooth)).mean(-1)


def batch_dice_loss(
    logits: Tensor, masks: Tensor, *, smooth: float = 1.0, kept: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """The Dice loss of all samples' pixels taken together, a scalar; arguments as in `dice_losses`.

    Args:
        weights: of samples, (N,): how often each one's pixels count; None for ones.

    >>> logits, masks = torch.full((2, 1, 1), 99.0), torch.tensor([[[1.0]], [[0.0]]])
    >>> float(batch_dice_loss(logits, masks))  # 1 - (2 * 1 + 1) / (3 + 1)
    0.25
    """
    found = _overlap(logits, masks, kept)
    each = 1.0 if weights is None else over_elements(weights, found.shared)
    shared, total = (found.shared * each).sum(0), (found.total * each).sum(0)
    return (1 - (2 * shared + smooth) / (total + smooth)).mean()


def mask_counts(batch: Batch, name: str, *, ignored: int) -> Counts:
    """{"samples": those with a pixel that counts, "pixels": those that count}, each times its sample's weight.

    >>> mask_counts(Batch(torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3)), "dice", ignored=-100)
    {'samples': 2, 'pixels': 18}
    """
    masks, weights = class_targets(batch, name), batch.weights
    if not _is_mass(masks) and (masks.is_floating_point() or masks.dtype == torch.bool):
        whole: float | Tensor = masks.shape[0] if weights is None else weights.sum()
        return {"samples": whole, "pixels": whole * masks.shape[1:].numel()}
    pixels = masks.flatten(1).sum(1) if _is_mass(masks) else (masks.flatten(1) != ignored).sum(1)
    found = pixels > 0
    if weights is None:
        return {"samples": found.sum(), "pixels": pixels.sum()}
    return {"samples": (found * weights).sum(), "pixels": (pixels * weights).sum()}


@dataclass(frozen=True, slots=True)
class _Overlap:
    """|p m| and |p| + |m| of every sample and class, each (N, C)."""

    shared: Tensor
    total: Tensor


def _overlap(logits: Tensor, masks: Tensor, kept: Tensor | None) -> _Overlap:
    guess = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
    guess = guess if kept is None else guess * kept
    return _Overlap((guess * masks).flatten(2).sum(-1), guess.flatten(2).sum(-1) + masks.flatten(2).sum(-1))


def _is_mass(masks: Tensor) -> bool:
    return masks.is_floating_point() and masks.ndim == 4 and masks.shape[1] > 1


def _class_mass(scores: Tensor, masks: Tensor, pixels: tuple[int, ...], name: str) -> Tensor:
    """Mass as (N, C, P), from the shape with classes first or that with classes last."""
    single = scores.ndim < 4 or scores.shape[1] == 1
    first = not single and masks.shape == scores.shape
    last = tuple(masks.shape) == (*pixels, 2 if single else scores.shape[1])
    # Mass of shape (N, C, C, C) could be read both ways.
    if first == last:
        fix = "Give class numbers (N, H, W), or mass (N, C, H, W) or (N, H, W, C) where C, H and W are not all the same"
        raise _misfit(name, scores, masks, fix)
    return masks.flatten(2) if first else masks.movedim(-1, 1).flatten(2)


def _checked_binary(masks: Tensor, name: str) -> Tensor:
    # On the host a look costs next to nothing; preflight looks before any device sees a mask.
    if masks.device.type == "cpu" and masks.numel() and bool(((masks < 0) | (masks > 1)).any()):
        raise DataError(
            f"{name} got a mask with the value {int(masks.max()) if bool((masks > 1).any()) else int(masks.min())}",
            expected="0 and 1 where the model has one score per pixel",
            fix="Divide a mask of 0 and 255 by 255, give the model one score per class, or set ignore_index",
        )
    return masks


def _misfit(name: str, scores: Tensor, masks: Tensor, fix: str) -> DataError:
    return DataError(
        f"{name} got outputs {tuple(scores.shape)} and {masks.dtype} masks {tuple(masks.shape)}",
        expected="one score per pixel with masks (N, H, W), or (N, C, H, W) scores with class numbers (N, H, W) or probabilities",
        fix=fix,
    )
