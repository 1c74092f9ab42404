"""Chances where the loss takes scores, and softmax along the wrong dimension.

Rules: (1) all rows of outputs are non-negative and sum to 1 while the loss applies log-softmax itself (a constant added to
all scores of a row changes nothing). (2) A softmax whose dimension has as many places as the batch has rows, for two sizes of
batch, or has a single place while others have more; or outputs that sum to 1 along their places and not along their classes.
Mechanical, so certain.
Source: torch.nn.CrossEntropyLoss takes "unnormalized logits"; its floor is log(1 + (C - 1) / e) for chances, 1.46 for ten
classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stepwell.doctor.asking import Asked, asked, sums_to_one, takes_scores
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import Call, calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import Log, given
from stepwell.doctor.remedies.modules import Change, along, rewired, untouched

NAMES = ("softmax", "log_softmax", "softmin", "gumbel_softmax")
_SLOW = ("lr_too_low", "too_few_epochs", "vanishing_gradient", "underfitting", "capacity_too_small", "dead_relu")


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    scores = item is not None and takes_scores(item)
    wrong = _wrong_dimension(bench)
    if wrong is not None:
        yield _wrong_dim(bench, *wrong, scores=scores)
        return
    if item is None:
        return
    if scores and item.domain == "probabilities":
        yield _twice(item)
    elif item.task.kind == "classes" and item.domain == "scores":
        shape = item.outputs.shape
        own = item.task.class_dim % len(shape)
        for dim in (place for place in range(1, len(shape)) if place != own and shape[place] > 1):
            if sums_to_one(item.outputs, dim) or sums_to_one(item.outputs.exp(), dim):
                yield _beside(bench, item, dim, scores=scores)


def _twice(item: Asked) -> Suspicion:
    floor = math.log(1 + (item.num_classes - 1) / math.e)
    return Suspicion(
        "softmax_before_ce",
        "all rows of outputs sum to 1, and the loss applies softmax to them once more",
        f"scores between 0 and 1 keep the loss above {floor:.3g} and its gradient small",
        {"share_of_rows": 1.0, "loss_floor": floor, "loss_right": item(item.raised(item.labels)), "classes": item.num_classes},
        Remedy("Leave softmax out of the model, or take NLLLoss of the logarithm of its outputs", given(Log())),
        proof="certain",
        weight=0.9,
        explains=_SLOW,
    )


def _beside(bench: Bench, item: Asked, dim: int, *, scores: bool) -> Suspicion:
    """A softmax over places, where classes lie along another dimension."""
    shape, own = item.outputs.shape, item.task.class_dim
    model = bench.setup.copied().model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        _, calls = calls_of(model, bench.some.take(slice(0, 11)).inputs)
    last = [call.key for call in calls if call.name in NAMES][-1:]
    change: Change | None = rewired(dict.fromkeys(last, untouched if scores else along(own))) if last else None
    return Suspicion(
        "softmax_wrong_dim",
        f"outputs {tuple(shape)} sum to 1 along dimension {dim}, where classes lie along dimension {own % len(shape)}",
        "places of one row compete with each other where classes should",
        {"dim": dim, "class_dim": own % len(shape), "shape": list(shape)},
        Remedy("Leave softmax out: the loss applies it, along the classes" if scores else f"Give softmax dim={own}", change),
        proof="certain",
        weight=0.94,
        explains=("missing_output_activation", "wrong_output_activation", "wrong_loss", *_SLOW),
    )


def _wrong_dimension(bench: Bench) -> tuple[Call, int, Any] | None:
    """A softmax along the rows of the batch, or along a single place; the dimension that it has, and the outputs."""
    model = bench.setup.copied().model.eval()
    rows = [bench.some.take(slice(0, size)).inputs for size in (11, 7)]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = [calls_of(model, inputs) for inputs in rows]
    longer, shorter = ([call for call in calls if call.name in NAMES] for _, calls in found)
    for one, other in zip(longer, shorter, strict=False):
        dim = _dim(one)
        if dim is None or not one.inputs or not isinstance(one.output, Tensor) or one.output.dim() == 0:
            continue
        sizes = (one.output.shape[dim], other.output.shape[dim])
        across_rows = sizes == (11, 7)
        single = sizes == (1, 1) and one.output.dim() == 3 and one.output.shape[1] > 1
        if across_rows or single:
            return one, dim, found[0][0]
    return None


def _dim(call: Call) -> int | None:
    """The dimension along which outputs sum to 1."""
    shares = call.output.exp() if call.name == "log_softmax" else call.output
    ones = [dim for dim in range(shares.dim()) if bool(((shares.sum(dim) - 1).abs() < 1e-3).all())]
    named = call.settings.get("dim")
    return named if isinstance(named, int) and shares.dim() else ones[0] if ones else None


def _wrong_dim(bench: Bench, call: Call, dim: int, outputs: Any, *, scores: bool) -> Suspicion:
    shape = tuple(call.output.shape)
    others = [place for place in range(len(shape)) if place != dim % len(shape) and place > 0 and shape[place] > 1]
    last = isinstance(outputs, Tensor) and outputs.shape == call.output.shape and torch.equal(outputs, call.output)
    change: Change | None = rewired({call.key: along(others[-1])}) if others else None
    text = f"Give {call.name} dim={others[-1] - len(shape)}" if others else "Normalise along the classes"
    if last and scores:
        change, text = rewired({call.key: untouched}), "Leave softmax out: the loss applies it, along the classes"
    what = "the rows of a batch" if shape[dim] > 1 else "a single place"
    return Suspicion(
        "softmax_wrong_dim",
        f"{call.name} of a tensor {shape} along dimension {dim}: that is {what}",
        "rows of a batch compete with each other" if shape[dim] > 1 else "the softmax of a single number is always 1",
        {"shape": list(shape), "dim": dim, "rows": 11, "is_output": last},
        Remedy(text, change),
        proof="certain",
        weight=0.95,
        explains=(
            *("softmax_before_ce", "batch_dependence", "missing_output_activation", "wrong_output_activation", "wrong_loss"),
            *_SLOW,
        ),
    )
