"""Colour jitter: brightness, contrast, saturation and hue changed at random, as one linear map of each pixel's colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Rows, changed_where, map_pictures, pictures_of, unit_range
from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.errors import DataError
from stepwell.core.objectives.soft_targets import wide_dtype
from stepwell.core.randomness import Rng

__all__ = ["ColorJitter", "jitter_colors"]

# Rec. ITU-R BT.601: how much red, green and blue add to the luma of a pixel, and the scales of its chroma axes.
LUMA = (0.299, 0.587, 0.114)
U_SCALE, V_SCALE = 0.492111, 0.877283


Matrix = list[list[float]]


def _color_maps() -> tuple[Matrix, Matrix, Matrix]:
    """Luma, chroma, and chroma turned by a quarter: each a 3 x 3 map of red, green and blue."""
    luma = [list(LUMA) for _ in range(3)]
    chroma = [[(row == column) - LUMA[column] for column in range(3)] for row in range(3)]
    # U is blue - luma, V is red - luma, scaled; a quarter turn takes (U, V) to (-V, U): from red over yellow to green,
    # as hue angles are counted.
    red = [value * (U_SCALE / V_SCALE) for value in chroma[2]]
    blue = [-value * (V_SCALE / U_SCALE) for value in chroma[0]]
    green = [-(LUMA[0] * of_red + LUMA[2] * of_blue) / LUMA[1] for of_red, of_blue in zip(red, blue)]  # no luma
    return luma, chroma, [red, green, blue]


COLOR_MAPS = _color_maps()


def jitter_colors(pictures: Tensor, *, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Pictures (N, C, H, W), each with its own brightness, contrast, saturation and hue changed.

    Brightness multiplies; contrast stretches around the picture's mean luma; saturation stretches around each pixel's
    luma; hue turns the chroma of YIQ, which keeps the luma of every pixel. All four are linear in a pixel's colour and
    they commute. With one channel only brightness and contrast do something.

    Args:
        pictures: with 3 channels (red, green, blue) or 1.
        brightness, contrast, saturation: (N,) factors; 1 changes nothing.
        hue: (N,) in turns; 0 changes nothing, 1/3 takes red towards green.

    >>> one, none = torch.ones(1), torch.zeros(1)
    >>> grey = torch.tensor([[[[0.2, 0.6]]]])
    >>> darker = jitter_colors(grey, brightness=one / 2, contrast=one, saturation=one, hue=none)
    >>> [round(value, 4) for value in darker.flatten().tolist()]
    [0.1, 0.3]
    """
    wide, device, channels = wide_dtype(pictures.device), pictures.device, pictures.shape[1]
    dtype = torch.promote_types(pictures.dtype, torch.float32)
    brightness, contrast = brightness.to(wide)[:, None], contrast.to(wide)[:, None]
    pictures, given = pictures.to(dtype), pictures.dtype
    # Columns first, then their sums in fp64: however the last sum is taken, rounding loses the difference again.
    means = pictures.sum(2).to(wide).mean(2) / pictures.shape[2]
    weights = torch.tensor(LUMA if channels == 3 else (1.0,), dtype=wide, device=device)
    offset = (brightness * (1 - contrast) * (means * weights).sum(1, keepdim=True)).to(dtype)[:, :, None, None]
    gain = brightness * contrast
    if channels == 1:
        return (pictures * gain.to(dtype)[:, :, None, None] + offset).to(given)
    luma, chroma, turned = torch.tensor(COLOR_MAPS, dtype=wide, device=device).unbind()
    angle = hue.to(wide)[:, None, None] * (2 * math.pi)
    stretched = saturation.to(wide)[:, None, None]
    maps = gain[:, :, None] * (luma + stretched * (angle.cos() * chroma + angle.sin() * turned))
    entries = maps.to(dtype)[:, :, :, None, None]
    red, green, blue = pictures.unsqueeze(1).unbind(2)
    # Product by product: a matrix product, or a fused one, could round differently for another number of samples.
    made = (entries[:, :, 0] * red).add_(entries[:, :, 1] * green).add_(entries[:, :, 2] * blue).add_(offset)
    return made.to(given)


@technique(
    id="color_jitter",
    slot="batch",
    paper="Howard 2013, arXiv:1312.5402",
    search={
        "brightness": (0.0, 0.5, "linear"),
        "contrast": (0.0, 0.5, "linear"),
        "saturation": (0.0, 0.5, "linear"),
        "hue": (0.0, 0.2, "linear"),
        "probability": (0.25, 1.0, "linear"),
    },
)
class ColorJitter:
    """Change brightness, contrast, saturation and hue of each image by random amounts.

    What: factors for brightness, contrast and saturation are uniform in 1 - amount to 1 + amount, the hue turns by up
    to its amount, each image by its own draws, and all are applied in one linear map of each pixel's colour. Hue turns
    in YIQ, which keeps the luma (hue in HSV does not). Why: the class doesn't depend on light, camera or film. When
    not: colour is the signal (ripeness, stains), or images whose channels are no colours.

    Images are taken as 0 to 1 (or 0 to 255: every change is linear). Where they are standardised, give mean and std of
    the channels: without them only contrast means what it says.

    Args:
        brightness: largest change of the factor, no unit, in [0, 1].
        contrast: likewise, around the image's mean luma.
        saturation: likewise, around each pixel's luma.
        hue: largest turn, in turns of the colour circle, in [0, 0.5].
        mean: per channel, what was subtracted from the images; None where nothing was.
        std: per channel, what they were divided by, > 0; None where by nothing.
        limits: least and largest value of the (plain) image afterwards, e.g. (0.0, 1.0); None cuts nothing off.
        probability: share of the images that are changed, in [0, 1].

    Shapes: floating images (N, 3, H, W), or (N, 1, H, W), of which only brightness and contrast change -> same.

    Raises:
        JobError: a setting out of range. DataError: no images, or images of other channels.

    Paper: Howard, "Some Improvements on Deep Convolutional Neural Network Based Image Classification", 2013,
    arXiv:1312.5402 (section 3).

    >>> ColorJitter(brightness=0.2)(Batch(torch.rand(2, 3, 4, 4)), Rng(0)).inputs.shape
    torch.Size([2, 3, 4, 4])
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    limits: tuple[float, float] | None = None
    probability: float = 1.0

    def __post_init__(self) -> None:
        for field in ("brightness", "contrast", "saturation"):
            require_between(f"color_jitter.{field}", getattr(self, field), 0, 1, "The default is 0.2")
        require_between("color_jitter.hue", self.hue, 0, 0.5, "Half a turn is the most that colours can differ")
        fix = "Give what the images were standardised with, or neither of mean and std"
        good = (self.mean is None) == (self.std is None)
        require(good, "color_jitter.mean", self.mean, "mean and std together", fix)
        if self.mean is not None and self.std is not None:
            good = len(self.mean) in (1, 3) and all(math.isfinite(value) for value in self.mean)
            require(good, "color_jitter.mean", self.mean, "one number per channel", fix)
            good = len(self.std) == len(self.mean) and all(0 < value < math.inf for value in self.std)
            require(good, "color_jitter.std", self.std, "one number above 0 per channel, as many as of mean", fix)
        good = self.limits is None or (len(self.limits) == 2 and self.limits[0] < self.limits[1])
        require(good, "color_jitter.limits", self.limits, "two numbers, the least first", "Write e.g. (0.0, 1.0)")
        require_between("color_jitter.probability", self.probability, 0, 1, "The default is 1.0: every image")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        size = pictures_of(batch, "color_jitter")
        if self.probability == 0 or self.brightness == self.contrast == self.saturation == self.hue == 0:
            return batch
        draws = rng.uniform(batch.position, size.num, 5, size.device)
        amounts = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (unit_range(draws[:, k], 1 - amount, 1 + amount) for k, amount in enumerate(amounts))
        hue = unit_range(draws[:, 3], -self.hue, self.hue)

        def changed(pictures: Tensor, rows: Rows) -> Tensor:
            self._check_channels(pictures.shape[1])
            made = jitter_colors(
                self._plain(pictures),
                brightness=brightness[rows],
                contrast=contrast[rows],
                saturation=saturation[rows],
                hue=hue[rows],
            )
            return self._standardised(made).to(pictures.dtype)

        which = draws[:, 4] < self.probability
        return map_pictures(batch, lambda pictures: changed_where(which, pictures, changed))

    def _check_channels(self, channels: int) -> None:
        if channels not in (1, 3):
            raise DataError(
                f"color_jitter got images of {channels} channels",
                expected="3 channels (red, green, blue) or 1 (grey)",
                fix="Leave color_jitter out: these channels are no colours",
            )
        if self.mean is not None and len(self.mean) != channels:
            raise DataError(
                f"color_jitter.mean has {len(self.mean)} numbers, but images have {channels} channels",
                expected="one number per channel",
                fix="Give mean and std of every channel",
            )

    def _constants(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(pictures.dtype, torch.float32)
        mean, std = (torch.tensor(values, dtype=dtype, device=pictures.device) for values in (self.mean, self.std))
        return mean[:, None, None], std[:, None, None]

    def _plain(self, pictures: Tensor) -> Tensor:
        if self.mean is None:
            return pictures
        mean, std = self._constants(pictures)
        return pictures * std + mean

    def _standardised(self, plain: Tensor) -> Tensor:
        if self.limits is not None:
            plain = plain.clamp(*self.limits)
        if self.mean is None:
            return plain
        mean, std = self._constants(plain)
        return (plain - mean) / std
