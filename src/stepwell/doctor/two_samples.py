"""Whether two sets of rows come from the same source: the classifier two-sample test of Lopez-Paz and Oquab, ICLR 2017."""

from __future__ import annotations

import torch

from stepwell.doctor.reference import columns_of
from stepwell.doctor.rows import Rows

MOST_ROWS = 400
TOLD_APART = 0.8  # area under the curve, from which on two sets of rows come from different sources


def told_apart(train: Rows, val: Rows) -> tuple[float, int]:
    """Area under the curve of a ridge that tells the splits apart, each half judged by the other; and the number of columns."""
    x, y = columns_of(train.inputs), columns_of(val.inputs)
    if x is None or y is None or x.shape[1] != y.shape[1]:
        return 0.0, 0
    x, y = (part[torch.linspace(0, len(part) - 1, min(len(part), MOST_ROWS)).long()] for part in (x, y))
    draw = torch.Generator().manual_seed(0)
    rows = torch.cat([x, y])
    label = torch.cat([torch.zeros(len(x)), torch.ones(len(y))]).double()
    rows = ((rows - rows.mean(0)) / rows.std(0, correction=0).clamp(min=1e-8)).clamp(-10, 10)
    rows = torch.cat([rows, rows.square(), rows.square().mean(1, keepdim=True).log1p()], 1)
    rows = (rows - rows.mean(0)) / rows.std(0, correction=0).clamp(min=1e-6)
    half = torch.randperm(len(rows), generator=draw) < len(rows) // 2
    scores = torch.zeros(len(rows), dtype=torch.float64)
    for part in (half, ~half):
        known, wanted = rows[part].double(), label[part] - label[part].mean()
        kernel = known @ known.T
        kernel.diagonal().add_(max(float(kernel.diagonal().mean()), 1e-6))
        scores[~part] = rows[~part].double() @ (known.T @ torch.linalg.solve(kernel, wanted))
    areas = []
    for part in (half, ~half):
        first, second = scores[part & (label == 0)], scores[part & (label == 1)]
        areas.append(float((second[:, None] > first[None, :]).double().mean()))
    return sum(areas) / 2, x.shape[1]
