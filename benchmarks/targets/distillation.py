"""A small student of the convnet: does it learn more from the teacher's softened answers than from labels alone?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import real_data
from benchmarks.evidence import Finding
from benchmarks.targets.fashion import scaled
from benchmarks.targets.fitting import outputs, trained
from benchmarks.targets.schedules import accuracy, convnet

NUM_TRAIN = 6_000
PROTOCOL = (
    f"Student: MLP 64-32 on {NUM_TRAIN:,} images, 30 epochs of AdamW 2e-3, one_cycle. Teacher: the convnet after five epochs "
    "on all 60,000, trained without label smoothing; temperature 4, weight 0.9. Paired: same images, same seed."
)


class Images(nn.Module):
    """The teacher for students that take pixels in a row."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.model(pixels.view(-1, 1, 28, 28))
        return scores


def student(seed: int, techniques: list[dict[str, Any]]) -> float:
    """Train one from one seed; its accuracy on the test images."""
    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    train, test = real_data.fashion_mnist("train"), real_data.fashion_mnist("t10k")
    part = torch.randperm(len(train.targets), generator=torch.Generator().manual_seed(seed))[:NUM_TRAIN]
    recipe = {
        "objective": "cross_entropy",
        "optimizer": {"name": "adamw", "lr": 2e-3},
        "schedule": "one_cycle",
        "techniques": techniques,
        "batch_size": 64,
    }
    model = build("mlp", Signature("vector", (784,), 10), {"hidden": [64, 32]}, seed=seed)
    model = trained(
        model, (scaled(train.pixels[part]).flatten(1), train.targets[part]), recipe=recipe, budget="30 epochs", seed=seed
    )
    logits = outputs(model, scaled(test.pixels).flatten(1))
    return float((logits.argmax(1) == test.targets).float().mean())


def distilled(seeds: Sequence[int]) -> Finding:
    """Hinton et al. 2015 halved the errors of a small net on MNIST."""
    teachers = [convnet("one cycle", "5 epochs", seed) for seed in seeds]
    plain = [student(seed, []) for seed in seeds]
    taught = [
        student(seed, [{"name": "distillation", "teacher": Images(teacher), "temperature": 4.0, "weight": 0.9}])
        for seed, teacher in zip(seeds, teachers, strict=True)
    ]
    differences = [100 * (ours - theirs) for ours, theirs in zip(taught, plain, strict=True)]
    beside = {"student": plain, "distilled student": taught, "teacher": [accuracy(teacher) for teacher in teachers]}
    return Finding("distilled student minus plain student, points", differences, "at least", 0.0, PROTOCOL, beside)
