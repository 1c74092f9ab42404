"""Evaluation: the base objective and the task's metrics over clean data, leaving no trace on the model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.randomness import SeededDefaults
from stepwell.core.slots import Objective
from stepwell.engine.metrics.streaming import Accumulator, Metric
from stepwell.parallel.group import Group, sum_numbers
from stepwell.precision import Precision


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every module's own mode and torch's generators are put back after."""
    modes = [(module, module.training) for module in model.modules()]
    defaults = SeededDefaults(next((p.device for p in model.parameters()), torch.device("cpu")))
    defaults.hold()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        defaults.put_back()


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    objective: Objective,
    metrics: dict[str, Metric] | None = None,
    also: Iterable[Accumulator] = (),
    precision: Precision | None = None,
    group: Group = None,
) -> dict[str, float]:
    """The loss and the metrics over all batches, each example counted once.

    Args:
        objective: the base objective, without the modifiers of training, so that losses can be compared.
        metrics: fresh metrics, read at the end.
        also: other accumulators, fed with the same outputs; the caller reads them.

    Returns:
        "loss": sum over terms of weight * sum / count over all batches; each metric by name; "perplexity" where the
        loss is over the tokens of texts (targets (N, T)). Where samples have weights, each counts as much as its own,
        in the loss and in the metrics.
    """
    metrics, precision = metrics or {}, precision or Precision()
    fed: list[Accumulator] = [*metrics.values(), *also]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    units: dict[str, tuple[str, float]] = {}
    texts = True
    with evaluating(model):
        for batch in batches:
            batch = batch.to(device)
            texts = texts and is_text(batch.targets)
            with precision.forward(device):
                outputs = objective.forward(model, batch)
            outputs = precision.full(outputs)
            for name, term in objective.terms(outputs, batch).items():
                sums[name] = sums.get(name, 0.0) + float(term.sum.double().sum())
                units[name] = (term.unit, term.weight)
            for unit, count in objective.counts(batch).items():
                counts[unit] = counts.get(unit, 0.0) + float(count)
            for accumulator in fed:
                accumulator.update(outputs, batch)
    sums = {name: float(value) for name, value in sum_numbers(sums, group, device).items()}
    counts = {name: float(value) for name, value in sum_numbers(counts, group, device).items()}
    loss = sum(weight * sums[name] / counts[unit] if counts[unit] else math.nan for name, (unit, weight) in units.items())
    result = {"loss": loss} | {name: metric.compute() for name, metric in metrics.items()}
    if texts and {unit for unit, _ in units.values()} == {"tokens"}:
        result["perplexity"] = math.exp(min(loss, 700.0))
    return result


def is_text(targets: Tree) -> bool:
    """Whether targets are token numbers (N, T) or mass over them (N, T, K); masks (N, H, W) are counted in tokens too."""
    return isinstance(targets, Tensor) and targets.ndim == (3 if targets.is_floating_point() else 2)
