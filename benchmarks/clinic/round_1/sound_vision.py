"""Healthy networks on small images that look odd: tiny batches, held filters, deep branches from zero, faint pictures."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_1.sound import bars, blobs, cut, digits, normal, setup_of, sound, tokens, uniform

pictured = partial(sound, architecture="cnn", data="image")


@pictured("digits-fours-grouped", "batches of four under GroupNorm", skill="accuracy", floor=0.94)
def fours(seed: int) -> Setup:
    body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(body, nn.Conv2d(16, 24, 3), nn.GroupNorm(4, 24), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    settings = {"name": "sgd", "lr": 0.02}
    return setup_of(digits(seed, 800), model, nn.CrossEntropyLoss(), settings, batch_size=4, epochs=5)


@pictured("digits-batch-of-two", "batches of two under instance norm", skill="accuracy", floor=0.93)
def pairs(seed: int) -> Setup:
    first = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True), nn.SiLU(), nn.AvgPool2d(2))
    model = nn.Sequential(first, nn.Conv2d(12, 16, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(256, 10))
    settings = {"name": "adam", "lr": 7e-4}
    return setup_of(digits(seed, 700), model, nn.CrossEntropyLoss(), settings, batch_size=2, epochs=4)


class Bank(nn.Module):
    """Edges and waves in eight directions, held as a buffer; only the norm and the head are trained."""

    waves: Tensor

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(8) * torch.pi / 8
        reach = torch.arange(5.0) - 2
        along = torch.cos(angles)[:, None, None] * reach[None, None, :] + torch.sin(angles)[:, None, None] * reach[None, :, None]
        window = torch.exp(-(reach[:, None].square() + reach[None, :].square()) / 4)
        waves = torch.cat([torch.sin(1.3 * along), torch.cos(1.3 * along), -torch.sin(1.3 * along)]) * window
        self.register_buffer("waves", (waves / waves.flatten(1).norm(dim=1)[:, None, None])[:, None])
        self.norm = nn.BatchNorm2d(24)
        self.head = nn.Linear(24 * 16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = functional.max_pool2d(functional.relu(functional.conv2d(inputs, self.waves, padding=2)), 2)
        outputs: Tensor = self.head(self.norm(maps).flatten(1))
        return outputs


@pictured("digits-wavelet-bank", "filters are a buffer by design; norm and head learn", skill="accuracy", floor=0.94)
def bank(seed: int) -> Setup:
    settings = {"name": "sgd", "lr": 0.01, "momentum": 0.9}
    return setup_of(digits(seed, 960), Bank(), nn.CrossEntropyLoss(), settings, batch_size=32, epochs=8)


class Denoiser(nn.Module):
    """What is to be taken off the picture; begins as nothing."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU())
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        for tensor in self.last.parameters():
            nn.init.zeros_(tensor)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs - self.last(self.body(inputs))
        return outputs


@pictured("blobs-denoised", "the last layer begins at zero, so nothing below it has a gradient at first", skill="r2", floor=0.75)
def denoised(seed: int) -> Setup:
    clean, _, _ = blobs(seed, 1000, 4, noise=0.0)
    split = cut(600, clean + 0.3 * normal(seed, "grain", *clean.shape), clean)
    return setup_of(split, Denoiser(width=10), nn.MSELoss(), {"name": "adam", "lr": 5e-3}, batch_size=20, epochs=8)


class Pixels(nn.Module):
    """A label per pixel, classes last."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs))
        return outputs.permute(0, 2, 3, 1)


@pictured("blobs-outlined", "a label per pixel, nine in ten are background, unweighted", skill="balanced_accuracy", floor=0.86)
def outlined(seed: int) -> Setup:
    images, _, covered = blobs(seed, 900, 4, noise=0.2)
    settings = {"name": "adamw", "lr": 4e-3}
    return setup_of(
        cut(512, images, covered),
        Pixels(width=8),
        lambda outputs, labels: functional.cross_entropy(outputs.flatten(0, 2), labels.flatten()),
        settings,
        batch_size=32,
        epochs=10,
    )


class Counter(nn.Module):
    """Local finds, summed over the picture."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.Tanh(), nn.Conv2d(width, width, 3), nn.Tanh())
        self.each = nn.Conv2d(width, 1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        finds: Tensor = self.each(self.body(inputs))
        return finds.sum(dim=(1, 2, 3)) / 6


@pictured("blobs-counted", "counts as floats, spots overlap", skill="r2", floor=0.75)
def counted(seed: int) -> Setup:
    images, numbers, _ = blobs(seed, 1600, 5, noise=0.1)
    settings = {"name": "adam", "lr": 4e-3}
    return setup_of(cut(1000, images, numbers.float()), Counter(width=12), nn.SmoothL1Loss(), settings, batch_size=25, epochs=12)


class Aided(nn.Module):
    """While it trains, a second head on the first layer's maps speaks as well; afterwards one tensor comes out."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(width, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.head, self.aid = nn.Linear(16 * 16, 10), nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor | dict[str, Tensor]:
        maps = self.first(inputs)
        outputs = self.head(self.second(maps).flatten(1))
        return {"out": outputs, "aid": self.aid(maps.mean((2, 3)))} if self.training else outputs


def with_aid(outputs: Tensor | dict[str, Tensor], labels: Tensor) -> Tensor:
    """Cross entropy of the head, and three tenths of the aid's where there is one."""
    if isinstance(outputs, Tensor):
        return functional.cross_entropy(outputs, labels)
    return functional.cross_entropy(outputs["out"], labels) + 0.3 * functional.cross_entropy(outputs["aid"], labels)


@pictured(
    "digits-second-head",
    "a dict of two outputs in training, one tensor otherwise; training loss is the higher one by design",
    skill="accuracy",
    floor=0.95,
)
def second_head(seed: int) -> Setup:
    settings = {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05}
    return setup_of(digits(seed, 960), Aided(width=12), with_aid, settings, batch_size=32, epochs=6)


class Deep(nn.Module):
    """Eight residual blocks whose last gains begin at zero, each computed again in the backward pass."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList()
        for _ in range(8):
            norms = nn.GroupNorm(2, width), nn.GroupNorm(2, width)
            nn.init.zeros_(norms[1].weight)
            convs = [nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2)]
            self.blocks.append(nn.Sequential(convs[0], norms[0], nn.ReLU(), convs[1], norms[1]))
        self.head = nn.Linear(width * 16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.stem(inputs)
        for block in self.blocks:
            maps = maps + checkpoint(block, maps, use_reentrant=False)
        outputs: Tensor = self.head(maps.flatten(1))
        return outputs


@pictured(
    "digits-sixteen-deep-checkpointed", "eight blocks from zero, recomputed in the backward pass", skill="accuracy", floor=0.93
)
def deep(seed: int) -> Setup:
    settings = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}
    return setup_of(digits(seed, 640), Deep(width=8), nn.CrossEntropyLoss(), settings, batch_size=32, epochs=8)


class Twins(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """Two bars, and whether they have one direction."""

    def __init__(self, seed: int, purpose: str, num_rows: int) -> None:
        kinds, others = tokens(seed, purpose + "-left", 4, num_rows), tokens(seed, purpose + "-right", 4, num_rows)
        others = torch.where(uniform(seed, purpose, num_rows) < 0.35, kinds, others)
        self.left = bars(seed, purpose + "-left", kinds, strength=4.0)
        self.right = bars(seed, purpose + "-right", others, strength=4.0)
        self.same = (kinds == others).float()

    def __len__(self) -> int:
        return len(self.same)

    def __getitem__(self, place: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return (self.left[place], self.right[place]), self.same[place]


class Siamese(nn.Module):
    """One reader for both pictures; the logit is of the products and distances of what it reads."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        convs = nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.AdaptiveMaxPool2d(2)
        self.reader = nn.Sequential(*convs, nn.Flatten(), nn.Linear(4 * width, 12), nn.LayerNorm(12), nn.Tanh())
        self.judge = nn.Linear(24, 1)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        left, right = self.reader(inputs[0]), self.reader(inputs[1])
        outputs: Tensor = self.judge(torch.cat([left * right, (left - right).abs()], 1))
        return outputs.squeeze(1)


@pictured("bars-same-direction", "pairs as inputs, one module reads both", skill="accuracy", floor=0.9)
def same_direction(seed: int) -> Setup:
    split = Twins(seed, "train", 1500), Twins(seed, "val", 800)
    settings = {"name": "adam", "lr": 5e-3}
    return setup_of(split, Siamese(width=16), nn.BCEWithLogitsLoss(), settings, batch_size=32, epochs=12)


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, less of it for what is already sure."""
    each = functional.cross_entropy(outputs, labels, reduction="none")
    return ((1 - torch.exp(-each)).square() * each).mean()


@pictured("bars-faint-focal", "bars near the noise: a quarter can't be read, focal loss stays high", skill="accuracy", floor=0.6)
def faint(seed: int) -> Setup:
    kinds = tokens(seed, "kinds", 4, 2800)
    find = nn.Sequential(nn.Conv2d(1, 12, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    split = cut(2000, bars(seed, "bars", kinds, strength=1.1), kinds)
    settings = {"name": "adam", "lr": 6e-3}
    return setup_of(split, nn.Sequential(find, nn.Linear(12, 4)), focal, settings, batch_size=32, epochs=20)


CASES: tuple[Case, ...] = (fours, pairs, bank, denoised, outlined, counted, second_head, deep, same_direction, faint)
