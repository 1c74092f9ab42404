"""Rows of one split that stand in the other too, to the last digit or nearly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stepwell.doctor.reference import columns_of
from stepwell.doctor.rows import Rows, tensors

FINE_COLUMNS = 8
NEAR = 0.2  # of the median distance of a training row to the next
FEWEST_TRAIN = 30
CROWD = 20  # neighbours that tell how densely rows lie
REPEATED = 0.3  # of the training rows have near copies


@dataclass(frozen=True)
class Copies:
    """Validation rows that stand in the training rows too.

    Args:
        of: (num_val,) the training row, -1 where there is none.
        dropped: (num_train,) training rows that validation has.
        within: share of the training rows that have a copy among themselves.
        fine: whether two rows are the same by chance as good as never.
    """

    of: Tensor
    dropped: Tensor
    within: float
    fine: bool


def equal(train: Rows, val: Rows) -> Copies | None:
    """Validation rows that equal a training row to 1e-5 of each column's spread."""
    mine, theirs = _rounded(train, train), _rounded(val, train)
    if mine is None or theirs is None or mine.shape[1] != theirs.shape[1]:
        return None
    places = torch.unique(torch.cat([mine, theirs]), dim=0, return_inverse=True)[1]
    here, there = places[: len(mine)], places[len(mine) :]
    num_kinds = int(places.max()) + 1
    if num_kinds < FEWEST_TRAIN:
        return None
    one_of = torch.full((num_kinds,), -1).scatter_(0, here, torch.arange(len(here)))
    within = float((torch.bincount(here, minlength=num_kinds)[here] > 1).float().mean())
    return Copies(one_of[there], torch.isin(here, there), within, _is_fine(mine))


def nearly_equal(train: Rows, val: Rows) -> Copies | None:
    """By the distance to the nearest training row, against what training rows have among themselves."""
    if any(not part.is_floating_point() for part in tensors(train.inputs)):
        return None
    x, y = columns_of(train.inputs), columns_of(val.inputs)
    if x is None or y is None or x.shape[1] != y.shape[1] or x.shape[1] < 2:
        return None
    center, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    x, y = (x - center) / scale, (y - center) / scale
    among = torch.cdist(x, x).fill_diagonal_(float("inf")).min(1).values
    across = torch.cdist(y, x)
    close = NEAR * float(among.median())
    nearest = across.min(1)
    return Copies(
        torch.where(nearest.values < close, nearest.indices, -1),
        (across < close).any(0),
        float((among < close).float().mean()),
        fine=False,
    )


def clustered(train: Rows, val: Rows) -> tuple[Copies, Tensor] | None:
    """Where training rows have near copies among themselves too, nearer by far than the density of other rows explains; with
    (num_val,) the nearest training row that is no such copy. None where training rows have hardly any."""
    if any(not part.is_floating_point() for part in tensors(train.inputs)):
        return None
    x, y = columns_of(train.inputs), columns_of(val.inputs)
    if x is None or y is None or x.shape[1] != y.shape[1] or x.shape[1] < 2 or len(x) <= 2 * CROWD:
        return None
    rounded = _rounded(train, train)
    if rounded is None or not _is_fine(rounded):
        return None  # among few values rows are alike by chance
    center, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    x, y = (x - center) / scale, (y - center) / scale
    among, across = torch.cdist(x, x).fill_diagonal_(float("inf")), torch.cdist(y, x)
    # In d dimensions the k-th neighbour is k^(1/d) times as far as the first.
    expected = float(among.kthvalue(CROWD, dim=1).values.median()) / CROWD ** (1.0 / x.shape[1])
    close = NEAR * expected
    within = float((among.min(1).values < close).float().mean())
    if within < REPEATED:
        return None
    nearest = across.min(1)
    others = torch.where(across < 3 * close, float("inf"), across).argmin(1)
    of = torch.where(nearest.values < close, nearest.indices, -1)
    return Copies(of, (across < close).any(0), within, fine=True), others


def _rounded(rows: Rows, scale_from: Rows) -> Tensor | None:
    """Rows as whole numbers, in steps of 1e-5 of each column's spread over the training rows."""
    found = []
    for part, base in zip(tensors(rows.inputs), tensors(scale_from.inputs), strict=True):
        if part.dim() == 0:
            return None
        flat, wide = part.reshape(len(part), -1), base.reshape(len(base), -1)
        if flat.is_floating_point():
            step = 1e-5 * wide.double().std(0, correction=0)
            flat = (flat.double() / torch.where(step > 0, step, 1e-9)).nan_to_num().round()
        found.append(flat.long())
    return torch.cat(found, 1) if found else None


def _is_fine(rows: Tensor) -> bool:
    """Whether two rows are the same by chance as good as never."""
    rows = torch.unique(rows, dim=0)
    rows = rows[:, (rows != rows[:1]).any(0)]
    if rows.shape[1] == 0 or len(rows) < 8:
        return False
    if any(len(torch.unique(rows[:, place])) >= 0.8 * len(rows) for place in range(min(rows.shape[1], 64))):
        return True
    some = rows[torch.linspace(0, len(rows) - 1, min(len(rows), 64)).long()]
    differing = torch.stack([(rows != row).sum(1).topk(2, largest=False).values[1] for row in some]).float()
    return bool(differing.median() >= max(FINE_COLUMNS, 0.5 * rows.shape[1]))
