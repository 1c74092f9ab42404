"""Raw scores where the loss takes chances or their logarithms.

Rules: (1) the loss is not finite (or refuses) at the model's outputs, and is finite once they are brought to chances (to
positive numbers, of quantities). (2) A loss of class numbers that is linear in the outputs: doubled outputs double it and a
constant added to all scores of a row shifts it by as much, so it has no lowest value; that is a negative log-likelihood, which
needs log-softmax. Mechanical, so certain.
Source: torch.nn.NLLLoss and BCELoss on what they take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from stepwell.doctor.asking import Asked, asked
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.losses import Log, LogSoftmax, Softmax, YesOrNo, given, with_loss
from stepwell.doctor.remedies.modules import Change
from stepwell.doctor.setup import Setup

_FOLLOWS = (
    "unstable_loss",
    "exploding_gradient",
    "loss_sign_flipped",
    "wrong_loss",
    "lr_too_high",
    "dead_relu",
    "init_too_large",
)


def probe(bench: Bench) -> Iterator[Suspicion]:
    item = asked(bench)
    if item is None or not bool(torch.isfinite(item.outputs).all()):
        return
    own = item(item.outputs)
    if not math.isfinite(own):
        if not math.isfinite(item(_moderate(item))):  # else only large outputs fail it
            yield from _refused(item, own)
    elif item.task.kind == "classes" and not item.task.one_hot and item.domain == "scores" and _linear(item):
        dim = item.task.class_dim
        yield _missing(
            f"the loss is linear in the outputs: {own:.4g}, and {item(2 * item.outputs):.4g} of doubled ones",
            "it is made for logarithms of chances; of raw scores it falls without end",
            {"loss": own, "loss_of_doubled": item(2 * item.outputs), "sum_of_chances": float(item.outputs.exp().sum(dim).mean())},
            Remedy("End the model in log_softmax, or take CrossEntropyLoss", given(LogSoftmax(dim))),
        )
    elif item.task.kind == "classes" and not item.task.one_hot and item.domain == "probabilities" and _linear(item):
        yield Suspicion(
            "wrong_output_activation",
            "outputs are chances, and the loss is linear in them: it is made for their logarithms",
            "the gradient of a wrong row vanishes with its chance",
            {"loss": own, "loss_of_logarithms": item(Log()(item.outputs))},
            Remedy("End the model in log_softmax in place of softmax", given(Log())),
            proof="mechanism",
            weight=0.85,
            explains=("wrong_loss", "lr_too_low", "too_few_epochs", "vanishing_gradient", "underfitting"),
        )


def _moderate(item: Asked) -> Tensor:
    """Outputs of both signs and spread 1."""
    return torch.randn(item.outputs.shape, generator=torch.Generator().manual_seed(0))


def _linear(item: Asked) -> bool:
    scores = _moderate(item)
    once, twice, moved = item(scores), item(2 * scores), item(scores + 1.0)
    small = 1e-3 * max(abs(once), 1e-3)
    return (
        abs(twice - 2 * once) <= small
        and abs(once - moved) > 0.1
        and abs((once - item(scores + 2.0)) - 2 * (once - moved)) <= small
    )


def _refused(item: Asked, own: float) -> Iterator[Suspicion]:
    for name, of, change, words in _cures(item):
        value = item(of(item.outputs))
        if math.isfinite(value) and item(of(_far(item))) != value:
            yield _missing(
                f"the loss of the model's outputs ({float(item.outputs.min()):.3g} to {float(item.outputs.max()):.3g}) is {own}; "
                f"of their {name} it is {value:.4g}",
                "the loss is made for outputs that an activation has brought into its domain",
                {
                    "smallest_output": float(item.outputs.min()),
                    "largest_output": float(item.outputs.max()),
                    "loss": str(own),
                    "loss_then": value,
                },
                Remedy(words, change),
            )
            return


def _far(item: Asked) -> Tensor:
    return item.outputs + torch.linspace(0.5, 1.5, item.outputs.numel()).reshape(item.outputs.shape)


def _cures(item: Asked) -> list[tuple[str, Callable[[Tensor], Tensor], Change, str]]:
    if item.task.kind == "classes":
        of = Softmax(item.task.class_dim)
        return [("softmax", of, given(of), "End the model in softmax, or take a loss of scores")]
    if item.task.categorical:
        stable = with_loss(YesOrNo())
        return [("sigmoid", torch.sigmoid, stable, "Take BCEWithLogitsLoss, or end the model in sigmoid")]
    return [("softplus", nn.functional.softplus, _positive, "End the model in softplus or exp")]


def _positive(setup: Setup) -> Setup:
    copied = setup.copied()
    return copied.change(model=nn.Sequential(copied.model, nn.Softplus()))


def _missing(symptom: str, cause: str, evidence: dict[str, float | str], remedy: Remedy) -> Suspicion:
    return Suspicion(
        "missing_output_activation", symptom, cause, dict(evidence), remedy, proof="certain", weight=0.93, explains=_FOLLOWS
    )
