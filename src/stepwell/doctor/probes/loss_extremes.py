"""A loss that isn't finite once outputs are far out.

Rule: the loss is finite at moderate outputs, and infinite or nan where its last weights give +-20 or +-100 (of quantities: 5 or
20 spreads of the targets, within the outputs' reach; that is, at outputs as a trained model may have them). The remedy (torch's
own loss where it says the same on moderate outputs, else outputs held in the range where the loss is finite) must help: a
training that never comes there is healthy. Source: GitHub aymericdamien/TensorFlow-Examples#383, mkocabas/focal-loss-keras#17:
exp overflows beyond 88 in float32, and 1 - sigmoid(17) rounds to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from stepwell.doctor.asking import Asked, asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import Between, Entropy, Given, YesOrNo, with_loss
from stepwell.doctor.setup import Loss

FAR = (20.0, 100.0)
FAR_SPREADS = (5.0, 20.0)  # of the targets


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or not math.isfinite(item(_moderate(item))):
        return
    for size in FAR_SPREADS if item.task.kind == "quantity" else FAR:
        bad = {name: value for name, value in _extremes(item, size).items() if not math.isfinite(value)}
        if bad:
            break
    else:
        return
    loss, words = _safer(item)
    if loss is None:
        return
    yield Suspicion(
        "unstable_loss",
        f"the loss is {next(iter(bad.values()))} where the last layer gives {next(iter(bad))}",
        "a logarithm of 0 or of a negative number, or an exponential that overflows: one such row makes all weights nan",
        {
            "loss_of_moderate": item(_moderate(item)),
            "last_layer_at": size,
            **{f"loss_at_{name}": str(value) for name, value in bad.items()},
        },
        Remedy(words, with_loss(loss)),
        proof="mechanism",
        weight=0.85,
        explains=("exploding_gradient", "lr_too_high", "unstable_gradient", "saturated_activation"),
    )


def _moderate(item: Asked) -> Tensor:
    """Of quantities the model's own, else what scores of spread 1 give."""
    if item.task.kind == "quantity":
        return item.outputs
    return item.in_domain(torch.randn(item.outputs.shape, generator=torch.Generator().manual_seed(0)))


def _extremes(item: Asked, size: float) -> dict[str, float]:
    """The loss of right and of wrong outputs at this height; of quantities on both sides of them."""
    if item.task.kind == "quantity":
        spread = max(float(item.targets.float().std()), 1e-6)
        low, high = (-math.inf, math.inf) if item.reach is None else (item.reach.low, item.reach.high)
        moved = {turn: (item.outputs + turn * spread).clamp(low, high) for turn in (-size, size)}
        return {f"{turn:+g} spreads": item(outputs) for turn, outputs in moved.items()}
    labels = item.labels
    wrong = (labels + 1) % item.num_classes
    return {f"+-{size:g}, right": item(item.raised(labels, size)), f"+-{size:g}, wrong": item(item.raised(wrong, size))}


def _safer(item: Asked) -> tuple[Loss | None, str]:
    moderate = _moderate(item)
    own = item(moderate)
    for loss, words in _known(item):
        try:
            same = abs(float(loss(moderate, item.targets)) - own) <= 1e-3 * max(abs(own), 1e-3)
        except Exception:
            continue
        if same:
            return loss, words
    if item.task.kind == "quantity":
        low, high = (_edge(item, turn) for turn in (-1.0, 1.0))
        return Given(item.loss, Between(low, high)), f"Hold outputs between {low:.3g} and {high:.3g} before the loss"
    if item.domain == "probabilities":
        return Given(item.loss, Between(1e-6, 1 - 1e-6)), "Hold chances between 1e-6 and 1 - 1e-6 before the logarithm"
    for size in (40.0, 20.0, 10.0):
        if all(math.isfinite(value) for value in _extremes(item, size).values()):
            return Given(item.loss, Between(-size, size)), f"Hold scores between -{size:g} and {size:g} before the loss"
    return None, ""


def _known(item: Asked) -> Iterator[tuple[Callable[[Tensor, Tensor], Tensor], str]]:
    if item.task.kind == "classes" and item.domain == "scores":
        yield Entropy(item.task.class_dim, one_hot=item.task.one_hot), "Take cross_entropy of the scores: it says the same"
    elif item.task.kind == "classes":
        yield nn.NLLLoss(), "Take the logarithm by log_softmax, and NLLLoss"
    else:
        chances = item.domain == "probabilities"
        words = "Take binary_cross_entropy: it says the same, and cuts the logarithm at -100"
        yield YesOrNo(chances=chances), words if chances else "Take binary_cross_entropy_with_logits: it says the same"


def _edge(item: Asked, turn: float) -> float:
    """How far all outputs can go to one side before the loss isn't finite, by halving."""
    spread = max(float(item.targets.float().std()), 1e-6)
    start = float(item.outputs.min() if turn < 0 else item.outputs.max())
    inside, outside = 0.0, 100.0 * spread
    if math.isfinite(item(item.outputs + turn * outside)):
        return turn * math.inf
    for _ in range(30):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if math.isfinite(item(item.outputs + turn * middle)) else (inside, middle)
    return start + turn * inside * 0.99
