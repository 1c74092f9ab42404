"""A small world that every technique can act in: one model with every kind of layer, and data for every kind of target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.models.parts import Residual

NUM_SAMPLES = 36
NUM_CLASSES = 3
VOCABULARY = ["", "?", "big", "large", "small", "little", "fast", "quick", "good", "fine", "begin", "start"]
SPLIT = 24  # samples that are trained on; the rest validates


@dataclass(frozen=True)
class World:
    """What a pair is tried on.

    Args:
        task: of the job, which says what targets and outputs are.
        inputs: "image", or "both" for images and token ids.
        norm: in the residual branches: "batch", "group" where micro-batches must give the very gradients of the whole
            batch, or "none".
        entry: the norm before them, "batch" or "group".
        dropout: probability of the model's own dropout layer.
        dtype: of weights and data.
    """

    task: str
    inputs: str = "image"
    norm: str = "batch"
    entry: str = "batch"
    dropout: float = 0.1
    dtype: torch.dtype = torch.float32

    @property
    def num_outputs(self) -> int:
        """Width of the model's head."""
        return {"regression": 2, "segmentation": 1, "multi_task": 5}.get(self.task, NUM_CLASSES)

    def model(self) -> Universal:
        """Always the same weights."""
        with seeded_defaults(0):
            return Universal(self).to(self.dtype)

    def data(self) -> tuple[Any, Any]:
        """Training and validation data, (inputs, targets) each; always the same."""
        draw = torch.Generator().manual_seed(1)
        inputs, targets = self._inputs(draw, self.dtype), self._targets(draw, self.dtype)
        train, validation = (_cut((inputs, targets), part) for part in (slice(0, SPLIT), slice(SPLIT, None)))
        if self.task == "classification":  # labels that contradict the training ones: the better the fit, the worse the loss
            validation = (_cut(inputs, slice(0, NUM_SAMPLES - SPLIT)), (targets[: NUM_SAMPLES - SPLIT] + 1) % NUM_CLASSES)
        return train, validation

    def _inputs(self, draw: torch.Generator, dtype: torch.dtype) -> Any:
        def one() -> Any:
            # The brightest channel tells the class: there is something to learn.
            marks = 0.5 * torch.eye(3)[torch.arange(NUM_SAMPLES) % NUM_CLASSES][:, :, None, None]
            image = (0.5 * torch.rand(NUM_SAMPLES, 3, 8, 8, generator=draw) + marks).to(dtype)
            if self.inputs == "image":
                return image
            tokens = torch.randint(2, len(VOCABULARY), (NUM_SAMPLES, 6), generator=draw)
            tokens[::3, 4:] = 0
            return {"image": image, "tokens": tokens}

        num = {"pairs": 2, "triplets": 3}.get(self.task, 1)
        return one() if num == 1 else tuple(one() for _ in range(num))

    def _targets(self, draw: torch.Generator, dtype: torch.dtype) -> Any:
        classes = torch.arange(NUM_SAMPLES) % NUM_CLASSES
        if self.task == "classification":
            return classes
        if self.task == "regression":
            return torch.randn(NUM_SAMPLES, 2, generator=draw).to(dtype)
        if self.task == "multilabel":
            return (torch.rand(NUM_SAMPLES, NUM_CLASSES, generator=draw) > 0.5).to(dtype)
        if self.task == "segmentation":
            return (torch.rand(NUM_SAMPLES, 8, 8, generator=draw) > 0.5).long()
        if self.task == "pairs":
            return (classes == 0).long()
        if self.task == "multi_task":
            return {"kind": classes, "size": torch.randn(NUM_SAMPLES, 2, generator=draw).to(dtype)}
        assert self.task == "triplets", self.task
        return None


def _cut(tree: Any, part: slice) -> Any:
    if isinstance(tree, dict):
        return {key: _cut(value, part) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_cut(value, part) for value in tree)
    return None if tree is None else tree[part]


class Counted(nn.Module):
    """Passes on what it gets, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.num_calls += 1
        return inputs


class Universal(nn.Module):
    """Convolutions in residual blocks, an embedding, a recurrent layer, norms, dropout, activations, a linear head."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.task = world.task
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.entry = nn.BatchNorm2d(4) if world.entry == "batch" else nn.GroupNorm(2, 4)
        self.blocks = nn.Sequential(*(Residual(self._branch(world), activation=nn.ReLU()) for _ in range(2)))
        self.embedding = nn.Embedding(len(VOCABULARY), 4)  # of words, and of the columns of an image
        self.recurrent = nn.LSTM(4, 4, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.hidden = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(world.dropout), nn.Linear(8, 8), nn.Tanh())
        self.map = nn.Conv2d(4, 1, 1) if world.task == "segmentation" else None
        # A bias would cancel out of distances, and its gradient would be rounding noise alone.
        bias = world.task not in ("pairs", "triplets")
        self.head = nn.Linear(8, world.num_outputs, bias=bias)

    def _branch(self, world: World) -> nn.Sequential:
        def norm() -> nn.Module:
            return {"batch": nn.BatchNorm2d(4), "group": nn.GroupNorm(2, 4), "none": nn.Identity()}[world.norm]

        return nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            norm(),
            nn.Sequential(nn.ReLU(), Counted()),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            norm(),
        )

    @property
    def num_calls(self) -> int:
        """How often the residual branches were run, recomputation included."""
        return sum(module.num_calls for module in self.modules() if isinstance(module, Counted))

    def forward(self, image: Tensor, tokens: Tensor | None = None) -> Any:
        places = self.blocks(self.entry(self.stem(image)))
        columns = places.mean(dim=2).transpose(1, 2)  # an image is read from left to right
        sequence = columns + self.embedding(torch.arange(columns.shape[1]) % len(VOCABULARY))
        if tokens is not None:
            sequence = torch.cat([sequence, self.embedding(tokens)], dim=1)
        states, _ = self.recurrent(sequence)
        features = torch.cat([places.mean(dim=(2, 3)), states[:, -1]], dim=1)
        outputs: Tensor = self.head(self.hidden(self.norm(features)))
        if self.map is not None:
            return (self.map(places) + outputs[:, :, None, None]).squeeze(1)
        return {"kind": outputs[:, :3], "size": outputs[:, 3:]} if self.task == "multi_task" else outputs
