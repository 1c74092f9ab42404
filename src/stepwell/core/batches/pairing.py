"""Who is mixed with whom, and how targets are mixed: what mixup, cutmix and hidden mixup have in common."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import BLOCK, Batch, Tree, tree_leaves, tree_map
from stepwell.core.check import require, require_between
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts
from stepwell.core.objectives.soft_targets import soft_targets
from stepwell.core.randomness import Rng

__all__ = ["MIXED_TOKENS", "classes_known", "drawn_share", "lerp_tree", "mass_of", "partners", "partners_in", "require_mixing"]

# The class number that cross_entropy leaves out of sequences unless told otherwise: it becomes a row without mass.
_IGNORED = -100

MIXED_TOKENS = (
    "the mixture of two token ids is another, unrelated token; use hidden_mixup at the embedding instead, "
    "which mixes their vectors (Guo et al. 2019, arXiv:1905.08941)"
)


def partners(size: int, device: torch.device) -> Tensor:
    """Who is mixed with whom: each block of 8 reversed, so no pair crosses a block, (size,) int64.

    In shuffled data a fixed pairing is as random as a drawn one, and it doesn't depend on how a batch is cut.

    >>> partners(10, torch.device("cpu")).tolist()
    [7, 6, 5, 4, 3, 2, 1, 0, 9, 8]
    """
    index = torch.arange(size, device=device)
    start = index - index % BLOCK
    stop = (start + BLOCK).clamp(max=size)
    return start + stop - 1 - index


def partners_in(batch: Batch) -> Tensor:
    """`partners` of a batch, on its device."""
    leaves = tree_leaves(batch.inputs)
    return partners(len(batch), leaves[0].device if leaves else torch.device("cpu"))


def lerp_tree(tree: Tree, partner: Tensor, lam: float) -> Tree:
    """lam * tree + (1 - lam) * tree[partner], for every floating tensor of a tree."""
    return tree_map(lambda tensor: torch.lerp(tensor[partner], tensor, lam), tree)


def drawn_share(rng: Rng, alpha: float, probability: float) -> float | None:
    """lam ~ Beta(alpha, alpha) of this step, or None where the step is left as it is."""
    lam = rng.host.betavariate(alpha, alpha)
    # Drawn after lam: a probability doesn't change what a step that is mixed is mixed with.
    return lam if rng.host.random() < probability else None


def mass_of(targets: Tensor, num_classes: int | None, name: str) -> Tensor:
    """Targets that can be mixed: floats as they are, class numbers as mass over the classes.

    Args:
        name: the technique that asks, for messages.

    Raises:
        JobError: class numbers without num_classes.
        DataError: a class number outside 0..K-1; ignored pixels in masks of one class.

    >>> mass_of(torch.tensor([1, 0]), 2, "mixup").tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if targets.is_floating_point():
        return targets
    if num_classes is None:
        raise JobError(
            f"{name} got integer labels but {name}.num_classes is not set",
            expected="the number of classes",
            fix=f"Set it, e.g. {name}: num_classes 10",
        )
    if num_classes == 1:  # masks of one thing and its background, scored by one number per pixel
        if bool((targets < 0).any()):
            raise DataError(
                f"{name} got masks with ignored pixels",
                expected="every pixel to be 0 or 1, since a mixture of an ignored pixel has no value",
                fix=f"Leave {name} out, or score background and object apart, with two outputs per pixel",
            )
        return targets.to(torch.get_default_dtype())
    return soft_targets(targets, num_classes, ignored=_IGNORED if targets.ndim > 1 else None)


def require_mixing(name: str, alpha: float, probability: float, num_classes: int | None) -> None:
    """Refuse settings that no mixing technique can take.

    Raises:
        JobError: alpha not positive; probability outside [0, 1]; no class at all.
    """
    require(
        0 < alpha < math.inf, f"{name}.alpha", alpha, "a number above 0", f"To train without {name}, leave it out of the recipe"
    )
    require_between(f"{name}.probability", probability, 0, 1, "The default is 1.0: every step")
    known = num_classes is None or num_classes >= 1
    require(known, f"{name}.num_classes", num_classes, "a whole number of at least 1", "Leave it out: a job fills it in")


def classes_known(num_classes: int | None, facts: DataFacts) -> dict[str, tuple[Any, str]]:
    """What `completed` answers: the number of classes, where it is open and the data or the model tell it."""
    found = facts.num_outputs or len(facts.class_counts or ())
    return {"num_classes": (found, "the width of the model's output")} if num_classes is None and found else {}
