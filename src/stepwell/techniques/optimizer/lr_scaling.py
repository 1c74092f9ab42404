"""Learning-rate scaling: a rate that was found at one batch size, carried over to another."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts

__all__ = ["LrScaling", "lr_scaling"]

Rule = Literal["linear", "sqrt"]


def lr_scaling(batch_size: int, *, base_batch_size: int, rule: Rule = "linear") -> float:
    """The factor on a rate that was found at `base_batch_size`: the quotient of the sizes, or its square root.

    Args:
        batch_size: samples per optimizer step, over all micro-batches and ranks, >= 1.
        base_batch_size: the batch size at which the rate was found, >= 1.
        rule: "linear" (Goyal et al. 2017, SGD) or "sqrt" (Krizhevsky 2014; adaptive optimizers).

    >>> lr_scaling(1024, base_batch_size=256), lr_scaling(1024, base_batch_size=256, rule="sqrt")
    (4.0, 2.0)
    """
    quotient = batch_size / base_batch_size
    return quotient if rule == "linear" else math.sqrt(quotient)


@technique(
    id="lr_scaling",
    slot="optimizer",
    role="groups",
    paper="Goyal et al. 2017, arXiv:1706.02677; Krizhevsky 2014, arXiv:1404.5997 (sqrt)",
    search={"rule": ("linear", "sqrt")},
)
class LrScaling:
    """Scale the learning rate with the batch size.

    What: the configured rate holds for `base_batch_size`; it is multiplied by batch_size / base_batch_size, or by the root
    of that. Why: a larger batch averages more gradients and takes fewer steps, so each may be longer: one recipe then
    serves several batch sizes. When not: very large batches (beyond some 8k images the linear rule breaks down; use LARS
    or LAMB), or a rate that was tuned at the batch size in use. Scaled rates want a warmup. What counts is the batch of a
    whole optimizer step: how it is cut into micro-batches or spread over ranks never enters.

    Args:
        base_batch_size: the batch size at which the rate was found, an int >= 1; 256 is the paper's.
        batch_size: samples per optimizer step, an int >= 1; None is filled in with the job's.
        rule: "linear" for SGD, "sqrt" for adaptive optimizers.

    Raises:
        JobError: a value outside its range; no batch size, outside of a job.

    Paper: Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, section 2.1; the root: Krizhevsky, "One
    weird trick", 2014, arXiv:1404.5997, section 5.

    >>> LrScaling(batch_size=512)(nn.Linear(2, 1))
    {'weight': {'lr': 2.0}, 'bias': {'lr': 2.0}}
    """

    base_batch_size: int = 256
    batch_size: int | None = None
    rule: Rule = "linear"

    def __post_init__(self) -> None:
        for name in ("base_batch_size", "batch_size"):
            value = getattr(self, name)
            good = (isinstance(value, int) and value >= 1) or (name == "batch_size" and value is None)
            require(good, f"lr_scaling.{name}", value, "a whole number of samples, at least 1", "Write e.g. 256")
        require_one_of("lr_scaling.rule", self.rule, ("linear", "sqrt"))

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The batch size, from the job."""
        if self.batch_size is not None or facts.batch_size is None:
            return {}
        return {"batch_size": (facts.batch_size, "samples per optimizer step")}

    def __call__(self, model: nn.Module) -> dict[str, dict[str, float]]:
        if self.batch_size is None:
            raise JobError(
                "lr_scaling.batch_size is not known",
                expected="the number of samples per optimizer step",
                fix="Write e.g. batch_size: 1024",
            )
        factor = lr_scaling(self.batch_size, base_batch_size=self.base_batch_size, rule=self.rule)
        return {name: {"lr": factor} for name, _ in model.named_parameters()}
