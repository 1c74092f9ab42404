"""Whether targets have to do with the inputs of their rows: leave-one-out guesses of simple methods, against permuted targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stepwell.doctor.reference import NEIGHBOURS, columns_of, free_of_place
from stepwell.doctor.rows import Rows
from stepwell.doctor.task import Task

MOST_ROWS = 800
NUM_FEATURES = 256
NUM_PERMUTED = 40
MOST_WANTED = 32


@dataclass(frozen=True)
class Agreement:
    """How well targets follow from the inputs of their rows.

    Args:
        z: by how many standard deviations the best method beats permuted targets.
        shares: share of the targets' variance that its guesses follow.
    """

    z: float
    share: float


class Smoothers:
    """Guesses of each row's target as weighted means of other rows' targets.

    Args:
        rows: the first `MOST_ROWS` are taken, for their order matters to shifts; of sorted rows as many from all over.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        if len(rows) > MOST_ROWS:
            first = rows.take(slice(0, MOST_ROWS))
            self.rows = first if _alike(first.targets, rows.targets) else rows.take(_spread(len(rows)))
        raw = columns_of(self.rows.inputs)
        self.matrices = [] if raw is None else _matrices(raw, free_of_place(self.rows.inputs))

    def agreements(self, wanted: Tensor, orders: list[Tensor]) -> list[Agreement]:
        """For targets in each of several orders; wanted is (num_rows, num_columns)."""
        centred = wanted.float() - wanted.float().mean(0)
        centred = centred / centred.square().sum().sqrt().clamp(min=1e-12)
        draw = torch.Generator().manual_seed(0)
        permuted = [torch.randperm(len(centred), generator=draw) for _ in range(NUM_PERMUTED)]
        targets = torch.stack([centred[order] for order in (*orders, *permuted)], 1)
        best = [Agreement(0.0, 0.0) for _ in orders]
        for matrix in self.matrices:
            guesses = (matrix @ targets.reshape(len(centred), -1)).reshape(targets.shape)
            shares = (guesses * targets).sum((0, 2))
            null = shares[len(orders) :]
            for place, share in enumerate(shares[: len(orders)].tolist()):
                z = (share - float(null.mean())) / max(float(null.std()), 1e-9)
                if z > best[place].z:
                    best[place] = Agreement(z, share)
        return best


def _spread(num_rows: int) -> Tensor:
    return torch.linspace(0, num_rows - 1, MOST_ROWS).long()


def _alike(some: object, targets: object) -> bool:
    """Whether some of the targets have about the mean and the spread of all."""
    if not isinstance(some, Tensor) or not isinstance(targets, Tensor):
        return True
    part, whole = (one.reshape(len(one), -1).double() for one in (some, targets))
    spread = whole.std(0, correction=0)
    near = (part.mean(0) - whole.mean(0)).abs() <= spread
    return bool((near & (part.std(0, correction=0) >= 0.3 * spread)).all())


def wanted_of(targets: Tensor, task: Task) -> Tensor:
    """Targets as columns of numbers, at most `MOST_WANTED`: indicators of classes, or ranks of quantities."""
    flat = targets.reshape(len(targets), -1)
    if task.one_hot or (targets.is_floating_point() and task.kind != "classes"):
        few = flat[:, torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], MOST_WANTED)).long()]
        return few.argsort(0).argsort(0).float() if task.kind == "quantity" else few.float()
    _, places = torch.unique(flat, return_inverse=True)
    num_kinds = int(places.max()) + 1
    if num_kinds > MOST_WANTED:
        return flat[:, :MOST_WANTED].float()
    most = max(1, MOST_WANTED // num_kinds)
    few = places[:, torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], most)).long()]
    return torch.nn.functional.one_hot(few, num_kinds).reshape(len(targets), -1).float()


def shifted_order(num_rows: int, shift: int) -> Tensor:
    """Row i gets the target of row i + shift, around the end."""
    return (torch.arange(num_rows) + shift) % num_rows


def _matrices(raw: Tensor, free: Tensor | None) -> list[Tensor]:
    raw = _standard(raw)
    draw = torch.Generator().manual_seed(1)
    weights = torch.randn(raw.shape[1], NUM_FEATURES, generator=draw) / max(raw.shape[1], 1) ** 0.5
    rectified = (raw @ weights + torch.randn(NUM_FEATURES, generator=draw)).relu()
    found = [_near(raw), _ridge(raw), _ridge(_standard(rectified))]
    if free is not None:
        free = _standard(free)
        found += [_near(free), _ridge(free)]
    return found


def _standard(x: Tensor) -> Tensor:
    return ((x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-6)).clamp(-10, 10)


def _near(x: Tensor) -> Tensor:
    """The mean of the nearest others."""
    distance = torch.cdist(x, x)
    distance.fill_diagonal_(float("inf"))
    near = distance.topk(min(NEIGHBOURS, len(x) - 1), largest=False).indices
    return torch.zeros(len(x), len(x)).scatter_(1, near, 1.0 / near.shape[1])


def _ridge(x: Tensor) -> Tensor:
    """Leave-one-out guesses of a ridge in closed form: (hat - its diagonal) / (1 - its diagonal)."""
    kernel = (x @ x.T).double()
    damped = kernel + torch.eye(len(x), dtype=torch.float64) * max(float(kernel.diagonal().mean()), 1e-6)
    hat: Tensor = torch.linalg.solve(damped, kernel)
    own = hat.diagonal().clone()
    hat.fill_diagonal_(0.0)
    return (hat / (1.0 - own).clamp(min=1e-6).unsqueeze(1)).float()
