"""A loss that doesn't want what is to be learnt.

The loss is asked: of right outputs, of outputs that are right for another row, of the best constant. Rule: right outputs beat
both, or else outputs moved freely down the loss's gradient must come near the targets. If the same holds for the negative loss,
its sign is flipped; if right and wrong outputs cost the same, it is blind to the targets; if it wants right chances of classes
and not right scores, an activation is missing. Mechanical, so certain. A loss with a
link (Poisson, a law's likelihood, logarithms) passes by the second way. Thresholds: blind: equal to 1e-4 of the loss's range.
Near: 90 % of the labels, or rank correlation 0.9. Source: 16 of 58 programs of DeepFD's benchmark (ICSE 2022) had a wrong loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stepwell.doctor.asking import Asked, asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.descent import NEAR, near
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import Entropy, Softmax, Squares, YesOrNo, given, negated, with_loss
from stepwell.doctor.setup import Loss

FOLLOWS = ("underfitting", "capacity_too_small", "lr_too_low", "too_few_epochs", "unstable_loss", "exploding_gradient")


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or len(torch.unique(item.targets)) < 2:
        return
    wrong = wrong_of(item)
    right_loss, wrong_loss, constant_loss = item(right_of(item)), item(wrong), item(item.constant())
    if math.isnan(right_loss) or math.isnan(wrong_loss):
        return
    evidence: dict[str, float | None] = {"loss_right": right_loss, "loss_wrong": wrong_loss, "loss_constant": constant_loss}
    small = 1e-4 * max(abs(right_loss), abs(wrong_loss), abs(constant_loss), 1e-6)
    other = other_loss(item)
    if right_loss < wrong_loss - small and right_loss < constant_loss - small:
        yield from _unpunished(item, right_loss, small, other)
        return
    if abs(right_loss - wrong_loss) <= small and _blind(item):
        yield Suspicion(
            "wrong_loss",
            f"outputs that are right and outputs that are right for other rows cost the same: {right_loss:.4g}",
            _blind_cause(item),
            evidence,
            Remedy(words_of(item), with_loss(other)),
            proof="certain",
            weight=0.9,
            explains=(*FOLLOWS, "loss_sign_flipped"),
        )
        return
    wanted, refused = near(item), near(item, sign=-1.0)
    evidence["wants_targets"], evidence["negative_wants_targets"] = wanted, refused
    if wanted is None:
        return
    if wanted >= NEAR:
        return
    if item.task.categorical and item.domain == "scores" and _takes_chances(item):
        yield _bare(item, evidence)
        return
    if refused is not None and refused >= 0.6 and wanted < 0.3 and right_loss > wrong_loss + small:
        yield Suspicion(
            "loss_sign_flipped",
            f"right outputs cost {right_loss:.4g}, wrong ones {wrong_loss:.4g}: the more wrong, the lower the loss",
            "what should fall grows: the loss has the wrong sign",
            evidence,
            Remedy("Return the negative of it", negated),
            proof="certain",
            weight=0.95,
            explains=(*FOLLOWS, "wrong_loss", "lr_too_high", "unstable_gradient", "missing_output_activation"),
        )
    elif wanted < 0.5:
        yield Suspicion(
            "wrong_loss",
            f"the loss's gradient leads outputs away from the targets (agreement {wanted:.2f} of 1)",
            "the lowest loss isn't where outputs are right",
            evidence,
            Remedy(words_of(item), with_loss(other)),
            proof="mechanism",
            weight=0.8,
            explains=FOLLOWS,
        )


def _takes_chances(item: Asked) -> bool:
    """Whether the loss wants right answers once scores are brought to chances."""
    chances = replace(item, domain="probabilities")
    wanted = near(chances)
    right, others = chances(right_of(chances)), (chances(wrong_of(chances)), chances(chances.constant()))
    return wanted is not None and wanted >= NEAR and right < min(others)


def _bare(item: Asked, evidence: dict[str, float | None]) -> Suspicion:
    classes = item.task.kind == "classes"
    name, of = ("softmax", Softmax(item.task.class_dim)) if classes else ("sigmoid", torch.sigmoid)
    return Suspicion(
        "missing_output_activation",
        f"of raw scores the loss doesn't want right answers, of their {name} it does",
        "the loss is made for chances, and the model gives raw scores: past 1 it leads them astray",
        dict(evidence),
        Remedy(f"End the model in {name}", given(of)),
        proof="certain",
        weight=0.94,
        explains=(*FOLLOWS, "loss_sign_flipped", "wrong_loss", "lr_too_high", "unstable_gradient"),
    )


def _unpunished(item: Asked, right_loss: float, small: float, other: Loss) -> Iterator[Suspicion]:
    """A class that may always be said at no cost: rows of the others aren't seen by the loss."""
    if item.task.kind == "quantity" or item.num_classes > 64:
        return
    for label in torch.unique(item.labels).tolist():
        always = item(item.raised(torch.full_like(item.labels, label)))
        if always <= right_loss + small:
            yield Suspicion(
                "wrong_loss",
                f"always saying class {label} costs {always:.4g}, as little as right answers ({right_loss:.4g})",
                "rows of the other classes add nothing to the loss",
                {"loss_right": right_loss, "loss_always": always, "class": label},
                Remedy(words_of(item), with_loss(other)),
                proof="mechanism",
                weight=0.8,
                explains=FOLLOWS,
            )
            return


def right_of(item: Asked) -> Tensor:
    """Outputs that are right."""
    if item.task.kind == "quantity":
        return item.targets.float().reshape(item.outputs.shape)
    return item.raised(item.labels)


def wrong_of(item: Asked) -> Tensor:
    """Right for another class; of quantities mirrored at their mean."""
    if item.task.kind == "quantity":
        return 2 * item.constant() - right_of(item)
    return item.raised((item.labels + 1) % max(item.num_classes, 1))


def _blind(item: Asked) -> bool:
    """Whether other outputs cost the same, too: of another class at another height, or any at all."""
    if item.task.kind == "quantity":
        draw = torch.Generator().manual_seed(0)
        any_cost = [item(torch.randn(item.outputs.shape, generator=draw) * item.targets.float().std()) for _ in range(3)]
        return max(any_cost) - min(any_cost) <= 1e-6 * max(abs(any_cost[0]), 1e-6)
    low = [item(item.raised((item.labels + by) % max(item.num_classes, 1), 0.7)) for by in (0, 1)]
    return abs(low[0] - low[1]) <= 1e-4 * max(abs(low[0]), 1e-6)


def _blind_cause(item: Asked) -> str:
    if item.num_classes == 1 or item.outputs.shape[-1] == 1:
        return "with a single output a softmax has nothing to choose from: the loss is the same for every output"
    return "the loss doesn't see which class is raised, so its gradient can't teach it"


def other_loss(item: Asked) -> Loss:
    """The usual loss of such a task."""
    if item.task.kind == "quantity":
        return Squares()
    if item.task.kind == "classes":
        return Entropy(item.task.class_dim, one_hot=item.task.one_hot)
    return YesOrNo(chances=item.domain == "probabilities")


def words_of(item: Asked) -> str:
    """That loss in words."""
    if item.task.kind == "quantity":
        return "Take mean squared error of outputs and targets"
    if item.task.kind == "classes":
        return "Take cross-entropy of the scores and the class numbers"
    return "Take binary cross-entropy of the score and the label"
