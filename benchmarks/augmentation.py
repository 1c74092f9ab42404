"""Augmentation: whole batches at once beside a loop over samples, the same operations, in turns, in one process.

Run `python -m benchmarks.augmentation [--rounds N]`. One thread; times by the processor, as ratios with quartiles. The
loop draws from a torch generator, number by number, as torchvision's transforms do; a row beside says what it costs with
Python's cheaper generator instead.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bars import Bar, summary
from benchmarks.timing import Spread, ratios, read
from stepwell.core.batch import Batch
from stepwell.core.randomness import Rng
from stepwell.techniques import Affine, ColorJitter, Erasing, Flip, RandomCrop, ResizedCrop, Rotation

BATCH, BAR = 128, 5.0
SHAPES = {"3x32x32": (3, 32, 32), "1x28x28": (1, 28, 28)}
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


class TorchDraws:
    """What `random.Random` gives, drawn by torch."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def random(self) -> float:
        """In [0, 1)."""
        return torch.rand((), generator=self.generator).item()

    def uniform(self, low: float, high: float) -> float:
        """In [low, high)."""
        return low + (high - low) * self.random()

    def randint(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator).item())


Draws = TorchDraws | random.Random


def crop_one(image: Tensor, draw: Draws) -> Tensor:
    """Padded by 4, cut at a random place."""
    padded = F.pad(image, (4, 4, 4, 4))
    top, left = draw.randint(0, 8), draw.randint(0, 8)
    return padded[:, top : top + image.shape[1], left : left + image.shape[2]]


def flip_one(image: Tensor, draw: Draws) -> Tensor:
    """Mirrored one time in two."""
    return image.flip(2) if draw.random() < 0.5 else image


def warp_one(image: Tensor, matrix: list[list[float]], padding: str = "zeros") -> Tensor:
    """Read at the places of an affine grid."""
    grid = F.affine_grid(torch.tensor([matrix]), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode=padding, align_corners=False)[0]


def rotate_one(image: Tensor, draw: Draws) -> Tensor:
    """Turned by up to 15 degrees."""
    angle = math.radians(draw.uniform(-15, 15))
    return warp_one(image, [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])


def move_one(image: Tensor, draw: Draws) -> Tensor:
    """Turned by up to 10 degrees, scaled by up to a tenth, moved by up to a tenth."""
    angle, factor = math.radians(draw.uniform(-10, 10)), draw.uniform(0.9, 1.1)
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    return warp_one(image, [[cosine, -sine, draw.uniform(-0.2, 0.2)], [sine, cosine, draw.uniform(-0.2, 0.2)]])


def resize_one(image: Tensor, draw: Draws) -> Tensor:
    """A part of 80 % to all of the area, enlarged."""
    height, width = image.shape[1:]
    area, ratio = draw.uniform(0.8, 1.0) * height * width, math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
    rows, columns = min(round(math.sqrt(area / ratio)), height), min(round(math.sqrt(area * ratio)), width)
    top, left = draw.randint(0, height - rows), draw.randint(0, width - columns)
    part = image[None, :, top : top + rows, left : left + columns]
    return F.interpolate(part, (height, width), mode="bilinear", align_corners=False)[0]


def jitter_one(image: Tensor, draw: Draws) -> Tensor:
    """Brightness and contrast; of colours, saturation and a turn of the chroma as one 3 x 3 map too."""
    image = image * draw.uniform(0.8, 1.2)
    grey = (image * LUMA).sum(0, keepdim=True) if len(image) == 3 else image
    image = torch.lerp(grey.mean(), image, draw.uniform(0.8, 1.2))
    if len(image) == 1:
        return image
    image = torch.lerp((image * LUMA).sum(0, keepdim=True), image, draw.uniform(0.8, 1.2))
    angle = draw.uniform(-0.1, 0.1) * 2 * math.pi
    turn = TURNS[0] + math.cos(angle) * TURNS[1] + math.sin(angle) * TURNS[2]
    return (turn @ image.flatten(1)).view(image.shape)


def _turns() -> tuple[Tensor, Tensor, Tensor]:
    weights = LUMA.flatten()
    luma = weights.expand(3, 3)
    chroma = torch.eye(3) - luma
    blue, red = -chroma[0] * (0.877283 / 0.492111), chroma[2] * (0.492111 / 0.877283)
    return luma, chroma, torch.stack([red, -(weights[0] * red + weights[2] * blue) / weights[1], blue])


TURNS = _turns()


def erase_one(image: Tensor, draw: Draws) -> Tensor:
    """One time in two, a rectangle of 2 % to 40 % set to zero."""
    if draw.random() >= 0.5:
        return image
    height, width = image.shape[1:]
    area, ratio = draw.uniform(0.02, 0.4) * height * width, math.exp(draw.uniform(math.log(0.3), -math.log(0.3)))
    rows, columns = min(round(math.sqrt(area / ratio)), height), min(round(math.sqrt(area * ratio)), width)
    top, left = draw.randint(0, height - rows), draw.randint(0, width - columns)
    image = image.clone()
    image[:, top : top + rows, left : left + columns] = 0
    return image


@dataclass(frozen=True)
class Pair:
    """The same operations on a batch at once, and on one sample."""

    batched: tuple[Callable[[Batch, Rng], Batch], ...]
    single: tuple[Callable[[Tensor, Draws], Tensor], ...]

    def __add__(self, other: Pair) -> Pair:
        return Pair(self.batched + other.batched, self.single + other.single)


PAIRS = {
    "random_crop": Pair((RandomCrop(padding=4),), (crop_one,)),
    "flip": Pair((Flip(),), (flip_one,)),
    "rotation": Pair((Rotation(degrees=15.0),), (rotate_one,)),
    "affine": Pair((Affine(degrees=10.0, scale=(0.9, 1.1)),), (move_one,)),
    "resized_crop": Pair((ResizedCrop(),), (resize_one,)),
    "color_jitter": Pair((ColorJitter(),), (jitter_one,)),
    "erasing": Pair((Erasing(probability=0.5),), (erase_one,)),
}
# A usual stack for small pictures; the bar is about it.
STACK = ("random_crop", "flip", "rotation", "color_jitter", "erasing")
PAIRS["together"] = sum((PAIRS[name] for name in STACK), Pair((), ()))


def at_once(pair: Pair, batch: Batch, seed: int) -> Batch:
    """Our way."""
    for number, technique in enumerate(pair.batched):
        batch = technique(batch, Rng(seed * 100 + number))
    return batch


def one_by_one(pair: Pair, batch: Batch, draw: Draws) -> Tensor:
    """The loop."""
    made = []
    for image in batch.inputs:
        for change in pair.single:
            image = change(image, draw)
        made.append(image)
    return torch.stack(made)


@dataclass(frozen=True)
class Measured:
    """Processor seconds per batch of the loop and of ours, one entry a round."""

    loop: list[float]
    ours: list[float]


def least(call: Callable[[int], object], num_repeats: int) -> float:
    """The least of several readings: what other work on the machine adds is neither side's."""
    return min(read(lambda seed=seed: call(seed)).cpu for seed in range(num_repeats))  # type: ignore[misc]


def measure(
    pair: Pair,
    shape: tuple[int, int, int],
    draws: Callable[[int], Draws],
    *,
    num_rounds: int,
    num_batches: int = 5,
    num_repeats: int = 3,
) -> Measured:
    """The loop, ours, the loop, ours, ..."""
    batch = Batch(torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(0)))
    # A training process has freed large tensors before; the allocator then keeps what is freed, for both sides.
    torch.zeros(7 * 2**20)
    made = Measured([], [])
    one_by_one(pair, batch, draws(0)), at_once(pair, batch, 0)  # lazy set-up, unmeasured
    for _ in range(num_rounds):
        made.loop.append(least(lambda seed: one_by_one(pair, batch, draws(seed)), num_repeats))
        several = least(lambda seed: [at_once(pair, batch, seed * num_batches + k) for k in range(num_batches)], num_repeats)
        made.ours.append(several / num_batches)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    num_rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    contests = {name: (pair, TorchDraws) for name, pair in PAIRS.items()} | {"in Python": (PAIRS["together"], random.Random)}
    bars = []
    print(f"batches of {BATCH:4d} {'technique':14s} {'loop ms':>8s} {'ours ms':>8s} {'ratio':>6s}  quartiles, by processor time")
    for name, shape in SHAPES.items():
        for technique, (pair, draws) in contests.items():
            made = measure(pair, shape, draws, num_rounds=num_rounds)
            loop, ours = Spread.of(made.loop).median * 1e3, Spread.of(made.ours).median * 1e3
            spread = Spread.of(ratios(made.loop, made.ours))
            row = f"{name:15s} {technique:14s} {loop:8.2f} {ours:8.2f} {spread.median:6.1f}"
            print(f"{row}  {spread.lower:.1f} - {spread.upper:.1f}", flush=True)
            if technique == "together":
                bars.append(Bar(f"batched augmentation, {name}, times a loop over samples", "at least", BAR, spread.median))
    print("\n" + summary(bars))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
