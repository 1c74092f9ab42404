"""Outputs that can't come where the loss wants them.

Rule: push what the last weights give by 1,000 times its scale to either side; outputs then show their whole range. If right
outputs, cut to that range, cost more than 5 % of the way from right to the best constant, an activation at the end holds them
back. Certain for quantities; of scores of classes only where that is more than 40 %, or where the cut turns the answer (a
sigmoid's score is never below 0). And: outputs of several independent labels that sum to 1.
Source: DeepFD's ground truths (ICSE 2022): 25 of 58 programs had a wrong activation; NeuraLint (TOSEM 2021) on output layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from stepwell.doctor.asking import HEIGHT, Asked, asked, sums_to_one, takes_scores
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import Reach
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import YesOrNo
from stepwell.doctor.remedies.modules import Action, Change, instead, rewired, untouched
from stepwell.doctor.setup import Setup

SHARE = 0.05
MUCH = 0.4  # a softmax before cross-entropy of two classes keeps 0.45
ACTIVATIONS = (
    *("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "softmax", "log_softmax", "hardtanh", "hardsigmoid", "softsign"),
    *(
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "relu6",
        "clamp",
        "clip",
        "clamp_min",
        "clamp_max",
    ),
    *("logsigmoid", "exp", "abs", "square", "hardswish", "rrelu", "threshold", "maximum", "minimum"),
)
_FOLLOWS = ("underfitting", "dead_relu", "saturated_activation", "unscaled_targets", "vanishing_gradient", "lr_too_low")


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or item.reach is None or len(torch.unique(item.targets)) < 2:
        return
    reach = item.reach
    if item.task.kind == "multi_label" and sums_to_one(item.outputs, -1):
        yield _rivals(item, reach)
        return
    if item.task.kind == "quantity" and _of_one_length(item.outputs):
        return  # brought to a length, as directions are: how far single numbers reach says nothing
    if reach.low == reach.high:
        yield _constant(item, reach)
        return
    if (reach.low == -math.inf and reach.high == math.inf) or (item.task.kind == "classes" and item.domain != "scores"):
        return
    if item.task.kind == "classes" and not takes_scores(item):
        return
    wanted = _wanted(item)
    cut = wanted.clamp(reach.low, reach.high)
    right, held, constant = item(wanted), item(cut), item(item.constant().clamp(reach.low, reach.high))
    if not all(math.isfinite(value) for value in (right, held, constant)) or constant <= right:
        return
    share = (held - right) / (constant - right)
    if share <= SHARE:
        return
    turned = share > MUCH or item.task.kind == "quantity" or (item.task.kind != "classes" and reach.low >= 0)
    yield Suspicion(
        "wrong_output_activation",
        f"outputs can be brought to {reach.low:.3g} to {reach.high:.3g} only, whatever the last weights are; {_needs(item)}",
        f"the loss can't come nearer than {share:.0%} of the way from right answers to the best constant",
        {"low": reach.low, "high": reach.high, "loss_right": right, "loss_in_range": held, "loss_constant": constant},
        Remedy("Leave the activation after the last layer out", stripped(reach)),
        proof="certain" if turned else "symptom",
        weight=0.9 if turned else 0.6,
        explains=_FOLLOWS,
    )


def _wanted(item: Asked) -> Tensor:
    """Right outputs; of yes-or-no outputs that are chances, the scores beyond them where the loss falls towards 0."""
    if item.task.kind == "quantity":
        return item.targets.float().reshape(item.outputs.shape)
    wanted = item.raised(item.labels)
    if item.task.kind == "classes" or item.domain == "scores":
        return wanted
    turns = (2.0 * item.labels.float() - 1.0).reshape(item.outputs.shape)
    low, high, far = (item(height * turns) for height in (1.0, HEIGHT, 4 * HEIGHT))
    settles = -1e-6 <= far <= high < low and high < item(wanted) and high - far < 0.01 * low
    return HEIGHT * turns if settles else wanted


def _needs(item: Asked) -> str:
    if item.task.kind == "quantity":
        return f"targets lie between {float(item.targets.min()):.3g} and {float(item.targets.max()):.3g}"
    return "the loss takes scores of both signs"


def _of_one_length(outputs: Tensor) -> bool:
    """Whether all rows of several numbers have the same norm."""
    if outputs.dim() < 2 or outputs.shape[-1] < 2:
        return False
    norms = outputs.detach().float().norm(dim=-1)
    return bool(norms.mean() > 0) and float((norms - norms.mean()).abs().max()) <= 1e-3 * float(norms.mean())


def _rivals(item: Asked, reach: Reach) -> Suspicion:
    """A softmax over labels of which several may be true."""
    takes_chances = not math.isfinite(item(torch.full_like(item.outputs, 2.0)))
    softmax = [call.key for call in reach.after if call.name == "softmax"][-1:]
    action = instead(torch.sigmoid) if takes_chances else untouched
    sizes = item.targets.float().sum(-1)
    return Suspicion(
        "wrong_output_activation",
        f"outputs of a row sum to 1, and rows have {float(sizes.min()):g} to {float(sizes.max()):g} true labels",
        "labels that are true together compete for one sum: none of them can come near 1",
        {"least_labels": float(sizes.min()), "most_labels": float(sizes.max()), "labels": item.outputs.shape[-1]},
        Remedy(
            "End the model in sigmoid in place of softmax" if takes_chances else "Leave softmax out of the model",
            rewired(dict.fromkeys(softmax, action)) if softmax else None,
        ),
        proof="certain",
        weight=0.93,
        explains=(*_FOLLOWS, "softmax_before_ce", "wrong_loss", "too_few_epochs", "capacity_too_small"),
    )


def _constant(item: Asked, reach: Reach) -> Suspicion:
    binary = item.task.kind in ("binary", "multi_label")
    return Suspicion(
        "wrong_output_activation",
        f"every output is {reach.low:.4g}, whatever the last weights are",
        "a softmax over a single output is always 1; nothing can be learnt",
        {"low": reach.low, "high": reach.high},
        Remedy(
            "Leave the activation after the last layer out" + (", and take BCEWithLogitsLoss" if binary else ""),
            _with_scores(reach) if binary else stripped(reach),
        ),
        proof="certain",
        weight=0.95,
        explains=(*_FOLLOWS, "wrong_loss", "softmax_wrong_dim", "wrong_num_outputs", "detached_graph"),
    )


def stripped(reach: Reach) -> Change | None:
    """The model without the activations after its last weights; None where there is none of a known kind."""
    actions: Mapping[tuple[str, int | None], Action] = {call.key: untouched for call in reach.after if call.name in ACTIVATIONS}
    return rewired(actions) if actions else None


def _with_scores(reach: Reach) -> Change | None:
    strip = stripped(reach)
    if strip is None:
        return None

    def change(setup: Setup) -> Setup:
        return strip(setup).change(loss=YesOrNo())

    return change
