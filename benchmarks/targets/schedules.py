"""What schedules and large-batch optimizers do on Fashion-MNIST: each beside the same convnet trained in the plain way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from torch import nn

from benchmarks import real_data
from benchmarks.evidence import Finding
from benchmarks.targets.fashion import RECIPE, scaled
from benchmarks.targets.fitting import outputs, trained

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
# A moderate rate for a run without any decay; not tuned.
CONSTANT: dict[str, Any] = {"objective": "cross_entropy", "optimizer": SGD | {"lr": 0.02}, "batch_size": 128}
RISE_AND_FALL = {"name": "warmup_cosine", "warmup": "20%", "floor": 0.0}
SMALL: dict[str, Any] = {
    "optimizer": SGD | {"lr": 0.0125},
    "schedule": RISE_AND_FALL,
    "techniques": [{"name": "decay_groups"}],
    "batch_size": 128,
}
LARGE: dict[str, dict[str, Any]] = {
    # The very recipe of batch 128, its rate times 16 (Goyal et al. 2017).
    "scaled rate and warmup": SMALL | {"techniques": [*SMALL["techniques"], {"name": "lr_scaling", "base_batch_size": 128}]},
    "LAMB": SMALL | {"optimizer": {"name": "lamb", "lr": 0.02, "weight_decay": 0.01}},
    "LARS": SMALL | {"optimizer": {"name": "lars", "lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "trust_coefficient": 0.1}},
}
ABOUT = "Convnet of fewer than 100,000 parameters, 60,000 training images, 10,000 test images, no augmentation; paired seeds. "
LARGE_ABOUT = (
    "MLP 256-128 on 60,000 Fashion-MNIST images, 20 epochs each, so batch 128 takes 9,380 steps and batch 2048 takes 600; "
    "10,000 test images; paired seeds. Rates were chosen among two to five on seed 100. Batch 128 has the recipe of the scaled "
    "rate; its best one, one_cycle up to 0.05, is beside it."
)
MLP: dict[str, Any] = {"optimizer": SGD | {"lr": 0.05}, "schedule": "one_cycle", "batch_size": 128}


@cache
def convnet(name: str, budget: str, seed: int) -> nn.Module:
    """A trained convnet, each once: "one cycle" or "constant"."""
    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    train = real_data.fashion_mnist("train")
    model = build("convnet", Signature("image", (1, 28, 28), 10), {}, seed=seed)
    recipe: Mapping[str, Any] = {"one cycle": RECIPE, "constant": CONSTANT}[name]
    return trained(model, (scaled(train.pixels), train.targets), recipe=recipe, budget=budget, seed=seed)


@cache
def mlp_accuracy(name: str, seed: int) -> float:
    """Test accuracy of an MLP, each once: "batch 128", or one of the large-batch recipes."""
    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    train, test = real_data.fashion_mnist("train"), real_data.fashion_mnist("t10k")
    recipes = {"batch 128": SMALL, "batch 128, one_cycle": MLP}
    recipe = recipes.get(name) or LARGE[name] | {"batch_size": 2048}
    model = build("mlp", Signature("vector", (784,), 10), {"hidden": [256, 128]}, seed=seed)
    data = (scaled(train.pixels).flatten(1), train.targets)
    model = trained(model, data, recipe=recipe, budget="20 epochs", seed=seed)
    logits = outputs(model, scaled(test.pixels).flatten(1))
    return float((logits.argmax(1) == test.targets).float().mean())


def accuracy(model: nn.Module) -> float:
    """On the test images."""
    test = real_data.fashion_mnist("t10k")
    return float((outputs(model, scaled(test.pixels)).argmax(1) == test.targets).float().mean())


def one_cycle(seeds: Sequence[int]) -> Finding:
    """Smith & Topin 2019: the accuracy of a long run at a constant rate, in a quarter of its epochs."""
    short = [accuracy(convnet("one cycle", "5 epochs", seed)) for seed in seeds]
    long = [accuracy(convnet("constant", "20 epochs", seed)) for seed in seeds]
    differences = [100 * (ours - theirs) for ours, theirs in zip(short, long, strict=True)]
    beside = {"one cycle, 5 epochs": short, "constant rate, 20 epochs": long}
    return Finding(
        "5 epochs of one_cycle minus 20 epochs at a constant rate, points", differences, "at least", -0.3, ABOUT, beside
    )


def _large(name: str, seeds: Sequence[int]) -> Finding:
    small = [mlp_accuracy("batch 128", seed) for seed in seeds]
    large = [mlp_accuracy(name, seed) for seed in seeds]
    differences = [100 * (ours - theirs) for ours, theirs in zip(large, small, strict=True)]
    best = [mlp_accuracy("batch 128, one_cycle", seed) for seed in seeds]
    beside = {"batch 128": small, f"batch 2048, {name}": large, "batch 128 with one_cycle": best}
    return Finding(f"batch 2048 with {name} minus batch 128, points", differences, "at least", -0.5, LARGE_ABOUT, beside)


def large_batch(seeds: Sequence[int]) -> Finding:
    """Goyal et al. 2017: a scaled rate and a warmup carry to large batches."""
    return _large("scaled rate and warmup", seeds)


def large_batch_lamb(seeds: Sequence[int]) -> Finding:
    """You et al. 2020; Nado et al. 2021 found no gain over well-tuned standard optimizers, so none is claimed."""
    return _large("LAMB", seeds)


def large_batch_lars(seeds: Sequence[int]) -> Finding:
    """You et al. 2017."""
    return _large("LARS", seeds)
