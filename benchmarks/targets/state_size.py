"""How much an optimizer keeps beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.evidence import Finding

PROTOCOL = "Bytes of the moments after one step of the Fashion-MNIST convnet; the same for every seed, so one value."


def moment_bytes(optimizer: dict[str, Any]) -> int:
    """Bytes of every tensor of an optimizer's state that is as large as its parameter."""
    from stepwell.core.batch import Batch
    from stepwell.core.signature import Signature
    from stepwell.engine.train_step import TrainStep
    from stepwell.models.registry import build
    from stepwell.recipe.job import Recipe
    from stepwell.techniques import CrossEntropy

    model = build("convnet", Signature("image", (1, 28, 28), 10), {}, seed=0)
    step = TrainStep(model, objective=CrossEntropy(), optimizer=Recipe(optimizer=optimizer).optimizer)
    step(Batch(torch.zeros(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])))
    states = step.optimizer.state_dict()["state"].values()
    return sum(value.nbytes for state in states for value in state.values() if value.dim() > 0)


def lion_state(seeds: Sequence[int]) -> Finding:
    """Chen et al. 2023: one moment instead of two."""
    lion, adamw = moment_bytes({"name": "lion"}), moment_bytes({"name": "adamw"})
    beside = {"bytes of lion's state": [float(lion)], "bytes of adamw's state": [float(adamw)]}
    return Finding("lion's state / adamw's", [lion / adamw], "at most", 0.5, PROTOCOL, beside)
