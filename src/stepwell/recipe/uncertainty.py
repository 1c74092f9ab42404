"""Monte-Carlo dropout: predictions with dropout left on, many times over, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError
from stepwell.core.modules.dropout_places import switch_on_
from stepwell.core.randomness import derive, seeded_defaults
from stepwell.core.slots import call_model
from stepwell.engine.evaluate import evaluating

__all__ = ["Uncertainty", "predict_uncertainty", "uncertainty_columns"]

OutputKind = Literal["classes", "labels", "values"]
# What a task's outputs stand for; others have no probabilities to average.
KIND_OF_TASK: dict[str, OutputKind] = {
    "classification": "classes",
    "binary": "labels",
    "multilabel": "labels",
    "regression": "values",
}


@dataclass(frozen=True)
class Uncertainty:
    """Predictions over several passes.

    Args:
        mean: of the passes: probabilities of classes (N, K), chances of labels (N, ...), or values (N, ...).
        std: of the passes around it, of the same shape, with the divisor passes - 1.
        entropy: of the mean probabilities, in nats: (N,) of classes, the shape of the mean for labels, None for values.
    """

    mean: Tensor
    std: Tensor
    entropy: Tensor | None


def predict_uncertainty(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    kind: OutputKind,
    samples: int = 20,
    seed: int = 0,
    call: Callable[[nn.Module, Tree], Tree] = call_model,
) -> Uncertainty:
    """Predict with every dropout of the model switched on, `samples` times; everything else is as in evaluation.

    Args:
        model: with dropout somewhere; left as it was.
        batches: inputs, in order; targets aren't looked at.
        kind: what outputs are: "classes" (N, K) scores, "labels" scores of one chance each, "values".
        samples: passes, from 2 up; 20 to 100 are usual.
        seed: each pass over each batch has masks derived from it.

    Raises:
        JobError: fewer than 2 passes; no dropout with a rate above 0.

    Paper: Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, arXiv:1506.02142.

    >>> model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))
    >>> found = predict_uncertainty(model, [Batch(torch.ones(3, 4))], kind="values", samples=50)
    >>> found.mean.shape, bool((found.std > 0).all()), model.training
    (torch.Size([3, 1]), True, True)
    """
    require(samples >= 2, "samples", samples, "2 passes or more", "20 is a good start")
    require_one_of("kind", kind, ("classes", "labels", "values"))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    means, stds = [], []
    with evaluating(model):
        if not switch_on_(model):
            raise JobError(
                "the model has no dropout that could be switched on, so its predictions would not differ",
                expected="dropout with a rate above 0, in the model's settings or from the dropout technique",
                fix="Train it with dropout, or predict without samples",
            )
        for number, batch in enumerate(batches):
            batch = batch.to(device)
            passes = []
            for place in range(samples):
                with seeded_defaults(derive(seed, "monte_carlo", number, place), device):
                    passes.append(_probabilities(call(model, batch.inputs), kind))
            stacked = torch.stack(passes)
            means.append(stacked.mean(dim=0).cpu())
            stds.append(stacked.std(dim=0).cpu())
    mean = torch.cat(means)
    return Uncertainty(mean, torch.cat(stds), _entropy(mean, kind))


def _probabilities(outputs: Tree, kind: OutputKind) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise JobError("the model's outputs are several tensors", expected="one tensor", fix="Predict without samples")
    scores: Tensor = outputs.double()
    return scores.softmax(dim=-1) if kind == "classes" else scores.sigmoid() if kind == "labels" else scores


def _entropy(mean: Tensor, kind: OutputKind) -> Tensor | None:
    if kind == "values":
        return None
    if kind == "classes":
        return -torch.xlogy(mean, mean).sum(dim=-1)
    return -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean))


def uncertainty_columns(preparation: Any, found: Uncertainty) -> dict[str, Any]:
    """Columns of `stepwell predict --samples`: the answers of the mean, then std and entropy.

    `std` is that of the predicted class's probability, or of the value in its own units; several labels or values
    have one column each.

    Args:
        preparation: of the run, see `stepwell.data.preparation`.
    """
    kind, target = KIND_OF_TASK[preparation.task], preparation.target
    mean, std = found.mean, found.std
    # What is decoded is scores, so the mean of probabilities goes back to them.
    scores = mean.log() if kind == "classes" else mean.logit() if kind == "labels" else mean
    columns: dict[str, Any] = preparation.decode(scores)
    if kind == "values":
        spread = std * torch.tensor(preparation.target_scale, dtype=torch.float64)
        if isinstance(preparation.target_scale, tuple):
            return columns | {f"std_{name}": spread[:, place].numpy() for place, name in enumerate(target.names)}
        return columns | {"std": spread.reshape(len(spread)).numpy()}
    assert found.entropy is not None
    if preparation.task == "multilabel":
        for name, part in (("std", std), ("entropy", found.entropy)):
            columns |= {f"{name}_{label}": part[:, place].numpy() for place, label in enumerate(preparation.classes)}
        return columns
    if kind == "labels":
        spread, entropy = std.reshape(len(std)), found.entropy.reshape(len(std))
        return columns | {"std": spread.numpy(), "entropy": entropy.numpy()}
    spread = std.gather(1, mean.argmax(dim=1, keepdim=True)).squeeze(1)
    return columns | {"std": spread.numpy(), "entropy": found.entropy.numpy()}


def kind_of(task: str) -> OutputKind:
    """What the outputs of a task stand for.

    Raises:
        JobError: a task whose outputs have no mean that could be read.
    """
    if task not in KIND_OF_TASK:
        raise JobError(
            f"--samples was given for the task {task}",
            expected=f"one of {', '.join(KIND_OF_TASK)}",
            fix="Predict without samples",
        )
    return KIND_OF_TASK[task]
