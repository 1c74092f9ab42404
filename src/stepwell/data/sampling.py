"""How often an epoch draws each example: once, each class equally often, or in proportion to the sample weights."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor

from stepwell.core.check import require_one_of
from stepwell.core.errors import DataError
from stepwell.core.randomness import derive
from stepwell.data.order import Shuffle

__all__ = ["SampledOrder", "Sampling", "column_of", "sampled_order"]

Sampling = Literal["once", "balanced", "weighted"]


@final
class SampledOrder:
    """Which example stands at which place of an epoch that draws some more often than others: a function of (seed, epoch).

    Args:
        seed: the run's seed.
        classes: balanced: the class number of each example, (N,) int64. An epoch of N places has N / K of each of the K
            classes that occur (the remainder goes to classes drawn anew each epoch); within a class every example
            comes equally often, to within one.
        weights: weighted: a weight >= 0 for each example, (N,). Example i comes floor or ceil of N w_i / sum(w) times
            (systematic resampling).

    >>> order = SampledOrder(seed=0, classes=torch.tensor([0, 0, 0, 0, 0, 1]))
    >>> torch.bincount(torch.tensor([0, 0, 0, 0, 0, 1])[order.whole(epoch=3)]).tolist()
    [3, 3]
    """

    shuffle: Shuffle = "epoch"

    def __init__(self, *, seed: int, classes: Tensor | None = None, weights: Tensor | None = None) -> None:
        self.seed = seed
        self._weights = None if weights is None else weights.double().cpu()
        self._members: list[Tensor] = []
        if classes is not None:
            classes = classes.cpu()
            self._members = [torch.nonzero(classes == label).flatten() for label in _labels(classes)]
        self.num = len(weights) if weights is not None else sum(map(len, self._members))
        self._epoch = -1
        self._held: Tensor | None = None

    def take(self, epoch: int, start: int, stop: int) -> Tensor:
        """The examples at places `start` to `stop` of an epoch, int64."""
        if epoch != self._epoch or self._held is None:
            self._held, self._epoch = self.whole(epoch), epoch
        return self._held[start:stop]

    def whole(self, epoch: int) -> Tensor:
        """All places of an epoch, (N,) int64; not kept."""
        draw = torch.Generator().manual_seed(derive(self.seed, "sampling", epoch))
        drawn = self._balanced(draw) if self._weights is None else self._systematic(self._weights, draw)
        return drawn[torch.randperm(self.num, generator=draw)]

    def _balanced(self, draw: torch.Generator) -> Tensor:
        num_classes = len(self._members)
        each, left = divmod(self.num, num_classes)
        more = torch.randperm(num_classes, generator=draw)[:left].tolist()
        parts = []
        for place, members in enumerate(self._members):
            wanted = each + (place in more)
            turns = [members[torch.randperm(len(members), generator=draw)] for _ in range(-(-wanted // len(members)))]
            parts += [torch.cat(turns)[:wanted]] if turns else []
        return torch.cat(parts)

    def _systematic(self, weights: Tensor, draw: torch.Generator) -> Tensor:
        # One uniform number shifts N evenly spaced pointers over the cumulated weights.
        ends = weights.cumsum(0)
        start = torch.rand(1, generator=draw, dtype=torch.float64)
        pointers = (start + torch.arange(self.num, dtype=torch.float64)) / self.num * ends[-1]
        # A pointer on an example of no weight belongs to the next one that has some.
        return torch.searchsorted(ends, pointers, right=True).clamp(max=int(torch.nonzero(weights).max()))


def sampled_order(examples: Any, sampling: Sampling, *, seed: int) -> SampledOrder | None:
    """The order of examples under a way of sampling; None for "once".

    Raises:
        DataError: balanced without classes, weighted without weights.
        JobError: an unknown way.
    """
    require_one_of("sampling", sampling, ("once", "balanced", "weighted"))
    if sampling == "once":
        return None
    if sampling == "weighted":
        weights = column_of(examples, "weights")
        if weights is None:
            raise DataError(
                "sampling is weighted but the data has no sample weights",
                expected="a weight for each example",
                fix="Name them (data.weights, or fit(..., weights=...)), or leave sampling out",
            )
        return SampledOrder(seed=seed, weights=weights)
    return SampledOrder(seed=seed, classes=_classes(column_of(examples, "targets")))


def column_of(examples: Any, name: str) -> Tensor | None:
    """The "targets" or "weights" of all examples where they lie in memory as one tensor, else None."""
    inner, index = getattr(examples, "examples", None), getattr(examples, "index", None)
    if inner is not None and isinstance(index, Tensor):
        whole = column_of(inner, name)
        return None if whole is None else whole[index.to(whole.device)]
    found = getattr(examples, name, None)
    found = getattr(getattr(examples, "dataset", None), name, None) if found is None else found
    return found if isinstance(found, Tensor) and found.ndim > 0 and len(found) == len(examples) else None


def _labels(classes: Tensor) -> list[int]:
    found: list[int] = torch.unique(classes).tolist()  # type: ignore[no-untyped-call]
    return found


def _classes(targets: Tensor | None) -> Tensor:
    found: Tensor | None = None
    if targets is not None and (targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1)):
        flat = targets.reshape(-1)
        whole = not flat.is_floating_point() or bool(((flat == 0) | (flat == 1)).all())
        found = flat.long() if whole else None
    if found is None:
        raise DataError(
            "sampling is balanced but the targets are not one class per example, in memory",
            expected="class numbers (classification), or 0 and 1 (binary)",
            fix='Leave sampling out; to draw some examples more often, give weights and set sampling to "weighted"',
        )
    if len(_labels(found)) < 2:
        raise DataError(
            "sampling is balanced but all training examples are of one class",
            expected="two classes or more",
            fix="Check the split",
        )
    return found
