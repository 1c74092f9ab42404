"""New head: a fresh last layer on a model that knows something already."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError, nearest
from stepwell.core.facts import DataFacts
from stepwell.core.modules.dropout_places import last_with_parameters
from stepwell.core.randomness import Rng

__all__ = ["NewHead", "fresh_linear"]


def fresh_linear(old: nn.Linear, num_outputs: int, rng: Rng) -> nn.Linear:
    """A linear layer for the same inputs, with a bias where the old one has one, drawn as torch draws them.

    Weights and biases are uniform with bound 1 / sqrt(in); drawn on the host, on whatever device the old layer is.

    >>> head = fresh_linear(nn.Linear(16, 1000), 3, Rng(0))
    >>> head, bool(head.weight.abs().max() <= 0.25)
    (Linear(in_features=16, out_features=3, bias=True), True)
    """
    # Made without numbers: torch would draw them from its own generator.
    made = nn.Linear(old.in_features, num_outputs, bias=old.bias is not None, dtype=old.weight.dtype, device="meta")
    made = made.to_empty(device="cpu").train(old.training)
    bound = 1 / math.sqrt(old.in_features)
    generator = rng.generator()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return made.to(old.weight.device)


@technique(id="new_head", slot="model", stage="head", paper="Yosinski et al. 2014, arXiv:1411.1792")
class NewHead:
    """Replace the last linear layer by a fresh one with the outputs that the data needs.

    What: the body keeps its weights, the head is drawn anew from the run's seed. Why: a model trained on one task
    starts on another (feature extraction with `freeze` on the body, fine-tuning without). When not: the classes are
    the same ones: keep the head. A model that stepwell builds for the data has the right head already.

    Args:
        module: name of the layer; None for the model's last one, where that is linear.
        num_outputs: width of the new one, from 1 up; None takes what the data needs.

    Shapes: (N, ..., in) -> (N, ..., num_outputs).

    Raises:
        JobError: no such layer, or none that is linear at the end; the number of outputs isn't known; a tied weight.

    Paper: Yosinski et al., "How transferable are features in deep neural networks?", NeurIPS 2014, arXiv:1411.1792.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1000))
    >>> NewHead(num_outputs=3)(model, Rng(0))[2]
    Linear(in_features=8, out_features=3, bias=True)
    """

    module: str | None = None
    num_outputs: int | None = None

    def __post_init__(self) -> None:
        fix = 'Write e.g. module: "head", or leave it out for the last layer'
        require(self.module is None or bool(self.module), "new_head.module", self.module, "the name of a layer", fix)
        good = self.num_outputs is None or (isinstance(self.num_outputs, int) and 1 <= self.num_outputs <= 10**8)
        require(good, "new_head.num_outputs", self.num_outputs, "a whole number of at least 1", "Leave it out: a job fills it in")

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The number of outputs, where it was left open."""
        if self.num_outputs is not None:
            return {}
        if facts.num_outputs is not None:
            return {"num_outputs": (facts.num_outputs, "the outputs that the data needs")}
        if facts.class_counts is not None:
            return {"num_outputs": (len(facts.class_counts), "the classes of the training data")}
        return {}

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        name, old = self._old(model)
        if self.num_outputs is None:
            raise JobError(
                "new_head.num_outputs is not set and the data doesn't tell",
                expected="the number of outputs",
                fix="Set it, e.g. NewHead(num_outputs=10)",
            )
        shared = [other for other, p in model.named_parameters(remove_duplicate=False) if p is old.weight]
        if len(shared) > 1:
            raise JobError(
                f"new_head would part {shared[0]} from {shared[1]}: they are one tensor",
                expected="a head with a weight of its own",
                fix="Build the model with separate embeddings",
            )
        head = fresh_linear(old, self.num_outputs, rng)
        if not name:
            return head
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, head)
        return model

    def _old(self, model: nn.Module) -> tuple[str, nn.Linear]:
        modules = dict(model.named_modules())
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        name = self.module if self.module is not None else last_with_parameters(model)
        found = modules.get(name) if name is not None else None
        if isinstance(found, nn.Linear):
            assert name is not None
            return name, found
        if self.module is not None and self.module not in modules:
            raise JobError(
                f"new_head.module is {self.module!r}, which is no module of the model",
                expected="the name of a linear layer",
                fix=nearest(self.module, linear),
            )
        raise JobError(
            f"new_head would replace {name or 'nothing'}, a {type(found).__name__}",
            expected="a linear layer",
            fix=f"Name it in new_head.module. {nearest('head', linear)}",
        )
