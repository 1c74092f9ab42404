"""Mixup: train on mixtures of pairs of examples, targets mixed alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from stepwell.core.batch import Batch, Tree, tree_map
from stepwell.core.batches.pairing import (
    MIXED_TOKENS,
    classes_known,
    drawn_share,
    lerp_tree,
    mass_of,
    partners,
    partners_in,
    require_mixing,
)
from stepwell.core.catalog import technique
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng

__all__ = ["Mixup", "mixup", "partners"]


def mixup(tree: Tree, partner: Tensor, lam: float) -> Tree:
    """lam * tree + (1 - lam) * tree[partner], for every floating tensor of a tree.

    >>> import torch
    >>> mixup(torch.tensor([0.0, 4.0]), torch.tensor([1, 0]), 0.75).tolist()
    [1.0, 3.0]
    """
    return lerp_tree(tree, partner, lam)


@technique(
    id="mixup",
    slot="batch",
    paper="Zhang et al. 2018, arXiv:1710.09412",
    needs=("soft_targets",),
    conflicts={"token_inputs": MIXED_TOKENS},
    search={"alpha": (0.05, 1.0, "log"), "probability": (0.25, 1.0, "linear")},
)
class Mixup:
    """Replace each batch by mixtures of its own examples, targets mixed alike.

    What: x' = lam x_i + (1 - lam) x_j and the same for the targets, with one lam ~ Beta(alpha, alpha) per step, drawn
    from (seed, cursor). Why: fewer over-confident predictions, and less memorising of noisy labels. When not: inputs
    that mean nothing when averaged (token ids, category codes: see `hidden_mixup`), tiny tables; evaluation never sees
    a mixed batch.

    Args:
        alpha: Beta concentration, no unit, > 0. Paper: 0.1-0.4 on ImageNet, 1.0 on CIFAR-10.
        probability: share of the steps that are mixed, in [0, 1]; the others are left as they are.
        num_classes: K, where targets are class numbers; filled in from the data by a job.

    Shapes: inputs (N, ...) float -> same; targets (N,) int64 -> (N, K) float; float targets keep their shape.

    Raises:
        JobError: alpha is not positive; class numbers without num_classes; inputs that can't be averaged.

    Paper: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412.

    >>> import torch
    >>> from stepwell.core.randomness import Rng
    >>> batch = Batch(torch.eye(2), torch.tensor([0, 1]))
    >>> mixed = Mixup(alpha=0.2, num_classes=2)(batch, Rng(0))
    >>> torch.equal(mixed.inputs, mixed.targets)
    True
    """

    alpha: float = 0.2
    probability: float = 1.0
    num_classes: int | None = None

    def __post_init__(self) -> None:
        require_mixing("mixup", self.alpha, self.probability, self.num_classes)

    def completed(self, facts: DataFacts) -> dict[str, tuple[Any, str]]:
        """The number of classes, from the model or the data."""
        return classes_known(self.num_classes, facts)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        inputs = tree_map(_averageable, batch.inputs)
        lam = drawn_share(rng, self.alpha, self.probability)
        if lam is None:
            return batch
        partner = partners_in(batch)
        mass = tree_map(lambda targets: mass_of(targets, self.num_classes, "mixup"), batch.targets)
        return replace(batch, inputs=mixup(inputs, partner, lam), targets=mixup(mass, partner, lam))


def _averageable(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise JobError(
            f"mixup got inputs of type {tensor.dtype}",
            expected="floating-point inputs",
            fix="Leave mixup out for token ids and category codes; hidden_mixup mixes what the model makes of them",
        )
    return tensor
