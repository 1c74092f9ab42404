"""The over-confident regime: few images, many epochs. How much do smoothing, mixup and a temperature lower the ECE?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import real_data
from benchmarks.evidence import Finding
from benchmarks.targets.fashion import scaled
from benchmarks.targets.fitting import outputs, trained

NUM_TRAIN, NUM_TUNE, NUM_BINS = 6_000, 5_000, 15
RECIPE: dict[str, Any] = {
    "objective": "cross_entropy",
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
    "batch_size": 128,
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "label smoothing 0.05": [{"name": "label_smoothing", "epsilon": 0.05}],
    "mixup 0.2": [{"name": "mixup", "alpha": 0.2}],
}
PROTOCOL = (
    f"MLP 256-128 on {NUM_TRAIN:,} Fashion-MNIST images, 40 epochs of AdamW 1e-3, batch 128; ECE over {NUM_BINS} equal bins of "
    f"the largest probability on 10,000 test images; the temperature is fitted on {NUM_TUNE:,} other training images. "
    "Ratios are paired: the same images and seed."
)


def calibration_error(logits: Tensor, targets: Tensor, *, num_bins: int = NUM_BINS) -> float:
    """Expected calibration error: the mean over samples of |accuracy - confidence| of their bin (Guo et al. 2017, eq. 3)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == targets).double()
    bins = (confidence * num_bins).long().clamp(max=num_bins - 1)
    gaps = torch.zeros(num_bins, dtype=torch.float64).index_add_(0, bins, right - confidence)
    return float(gaps.abs().sum() / len(targets))


def best_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature of the lowest cross-entropy, by golden-section search over its logarithm."""

    def loss(log: float) -> float:
        return float(F.cross_entropy(logits.double() / torch.tensor(log).exp(), targets))

    low, high, ratio = -1.5, 2.0, (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(torch.tensor((low + high) / 2).exp())


@dataclass(frozen=True)
class Calibration:
    """Of one trained model: error and accuracy on the test images, and the temperature that fits best."""

    error: float
    accuracy: float
    temperature: float
    error_with_temperature: float


@cache
def measured(variant: str, seed: int) -> Calibration:
    """Train one variant from one seed and measure it; each once."""
    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    train, test = real_data.fashion_mnist("train"), real_data.fashion_mnist("t10k")
    order = torch.randperm(len(train.targets), generator=torch.Generator().manual_seed(seed))
    inputs = scaled(train.pixels).flatten(1)
    part, tune = order[:NUM_TRAIN], order[NUM_TRAIN : NUM_TRAIN + NUM_TUNE]
    model = build("mlp", Signature("vector", (784,), 10), {"hidden": [256, 128]}, seed=seed)
    recipe = RECIPE | {"techniques": VARIANTS[variant]}
    model = trained(model, (inputs[part], train.targets[part]), recipe=recipe, budget="40 epochs", seed=seed)
    logits = outputs(model, scaled(test.pixels).flatten(1))
    temperature = best_temperature(outputs(model, inputs[tune]), train.targets[tune])
    accuracy = float((logits.argmax(1) == test.targets).float().mean())
    error, scaled_error = (calibration_error(values, test.targets) for values in (logits, logits / temperature))
    return Calibration(error, accuracy, temperature, scaled_error)


def _compared(name: str, variant: str, seeds: Sequence[int]) -> Finding:
    plain, other = ([measured(kind, seed) for seed in seeds] for kind in ("plain", variant))
    errors = [its.error if variant != "plain" else its.error_with_temperature for its in other]
    ratios = [error / its.error for error, its in zip(errors, plain, strict=True)]
    beside = {
        "ECE of plain cross-entropy": [its.error for its in plain],
        f"ECE of {name}": errors,
        "accuracy of plain cross-entropy": [its.accuracy for its in plain],
        f"accuracy of {name}": [its.accuracy for its in other],
        "best temperature of plain cross-entropy": [its.temperature for its in plain],
    }
    return Finding(f"over-confident regime, ECE of {name} / plain", ratios, "at most", 0.5, PROTOCOL, beside)


def calibration_smoothing(seeds: Sequence[int]) -> Finding:
    """Label smoothing 0.05 (Müller et al. 2019, table 3, has 0.150 -> 0.024 on CIFAR-100)."""
    return _compared("label smoothing 0.05", "label smoothing 0.05", seeds)


def calibration_mixup(seeds: Sequence[int]) -> Finding:
    """Mixup with alpha 0.2 (Thulasidasan et al. 2019)."""
    return _compared("mixup 0.2", "mixup 0.2", seeds)


def calibration_temperature(seeds: Sequence[int]) -> Finding:
    """A temperature fitted after training (Guo et al. 2017, table 1)."""
    return _compared("a temperature", "plain", seeds)
