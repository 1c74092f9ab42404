"""What is timed: four models with their data, the same for every contestant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LR = 1e-3
WEIGHT_DECAY = 0.01
MAX_NORM = 1.0


@dataclass(frozen=True)
class Workload:
    """A model, its data, and how long to train it for a reading.

    Args:
        name: how it is called on the command line.
        title: what it is.
        make_model: a fresh model; its weights are set by the caller's seed.
        make_data: inputs (N, ...) and targets (N, ...), N a multiple of the batch size, so that no contestant's
            way with a short last batch matters.
        objective: its loss by stepwell's name.
        loss: the same loss as a function of outputs and targets, a mean.
        batch_size: samples in a step.
        long: epochs of the longer of the two runs that are subtracted; the shorter has 1.
        slice_bar: stepwell's time over the slice loop's, at most.
    """

    name: str
    title: str
    make_model: Callable[[], nn.Module]
    make_data: Callable[[], tuple[Tensor, Tensor]]
    objective: str
    loss: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    long: int
    slice_bar: float


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    return torch.tensor(inputs[:1792] / 16, dtype=torch.float32), torch.tensor(targets[:1792])


def _rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8192, 128, generator=generator)
    targets = (inputs[:, :8].sum(1) + inputs[:, 8] * inputs[:, 9] > 0).float()
    return inputs, targets.unsqueeze(1)


def _images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (2560,), generator=generator)
    patterns = torch.randn(10, 1, 28, 28, generator=generator)
    return patterns[targets] + torch.randn(2560, 1, 28, 28, generator=generator), targets


def _text() -> tuple[Tensor, Tensor]:
    # The next character is the current one plus 1 or 7, modulo the vocabulary: something to learn.
    generator = torch.Generator().manual_seed(0)
    moves = torch.where(torch.rand(240, 65, generator=generator) < 0.7, 1, 7)
    tokens = moves.cumsum(1) % 65
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _digits_model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def _rows_model() -> nn.Module:
    layers: list[nn.Module] = []
    for width, size in ((128, 256), (256, 128), (128, 64)):
        layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(64, 1))


def _images_model() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )


class Transformer(nn.Module):
    """A decoder over 65 characters: 4 layers, 4 heads, width 128, at most 64 long. Shapes: (N, T) -> (N, T, 65)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(65, 128)
        self.places = nn.Embedding(64, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, norm=nn.LayerNorm(128), enable_nested_tensor=False)
        self.head = nn.Linear(128, 65)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(64), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        outputs: Tensor = self.head(self.layers(hidden, mask=self.mask, is_causal=True))
        return outputs


def _per_token(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


WORKLOADS: dict[str, Workload] = {
    work.name: work
    for work in (
        Workload(
            name="digits",
            title="MLP 64-64-10, batch 64",
            make_model=_digits_model,
            make_data=_digits,
            objective="cross_entropy",
            loss=F.cross_entropy,
            batch_size=64,
            long=31,
            slice_bar=0.60,
        ),
        Workload(
            name="rows",
            title="MLP 128-256-128-64-1, batch norm, dropout 0.3, batch 256",
            make_model=_rows_model,
            make_data=_rows,
            objective="bce",
            loss=F.binary_cross_entropy_with_logits,
            batch_size=256,
            long=5,
            slice_bar=1.0,
        ),
        Workload(
            name="cnn",
            title="2 convolutions on 28x28, batch 128",
            make_model=_images_model,
            make_data=_images,
            objective="cross_entropy",
            loss=F.cross_entropy,
            batch_size=128,
            long=4,
            slice_bar=1.0,
        ),
        Workload(
            name="transformer",
            title="4 layers of width 128, batch 12 x 64 characters",
            make_model=Transformer,
            make_data=_text,
            objective="cross_entropy",
            loss=_per_token,
            batch_size=12,
            long=4,
            slice_bar=1.0,
        ),
    )
}
