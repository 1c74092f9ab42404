"""Examples that are windows of something longer, read without copying it: texts and time series."""

from __future__ import annotations

import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError

__all__ = ["TokenExamples", "WindowExamples"]


class TokenExamples:
    """Windows of a long text for next-token prediction, at every offset: one gather per tensor, no copy of the text.

    Args:
        tokens: the text, (L,) of any integer type.
        length: T, tokens per window, >= 1.
        stride: tokens between the starts of neighbouring windows, >= 1. `stride=length` covers each token once, for
            evaluation; what is left at the end and fills no window is not read.

    Shapes: inputs (N, T) int64, the tokens i..i+T-1; targets (N, T) int64, the tokens i+1..i+T.

    Raises:
        DataError: the text is not longer than one window.

    >>> batch = TokenExamples(torch.arange(10), length=3).batch(torch.tensor([4]))
    >>> batch.inputs.tolist(), batch.targets.tolist()
    ([[4, 5, 6]], [[5, 6, 7]])
    """

    work_per_sample = False

    def __init__(self, tokens: Tensor, *, length: int, stride: int = 1) -> None:
        if len(tokens) <= length:
            raise DataError(
                f"the text has {len(tokens)} tokens, which is no more than one window of {length}",
                expected="at least one token more than the window's length",
                fix=f"Take a longer text, or a length below {max(len(tokens), 2)}",
            )
        self.tokens, self.length, self.stride = tokens, length, stride
        self._inputs = tokens[:-1].unfold(0, length, stride)
        self._targets = tokens[1:].unfold(0, length, stride)

    def __len__(self) -> int:
        return int(self._inputs.shape[0])

    def batch(self, index: Tensor) -> Batch:
        # index_select copies as it gathers, so the overlapping view is never written out.
        index = index.to(self.tokens.device)
        return Batch(self._inputs.index_select(0, index).long(), self._targets.index_select(0, index).long())


class WindowExamples:
    """Windows of a time series, each with the target that follows it; the series is not copied.

    Args:
        series: (R, D), one row per time, oldest first.
        targets: (R, ...), one per time, or None.
        length: T, rows per window, >= 1.
        horizon: how many rows after a window's last row its target lies, >= 1.
        rows: which rows of `targets` are predicted, int64, each >= length + horizon - 1; all that have a full window
            where None.
        weights: (R,), or None.

    Shapes: inputs (N, T, D), targets (N, ...).

    Raises:
        DataError: the series is too short for one window.

    >>> examples = WindowExamples(torch.arange(6.0).view(6, 1), torch.arange(6.0), length=2)
    >>> batch = examples.batch(torch.tensor([1]))
    >>> batch.inputs.flatten().tolist(), batch.targets.tolist()
    ([1.0, 2.0], [3.0])
    """

    work_per_sample = False

    def __init__(
        self,
        series: Tensor,
        targets: Tensor | None,
        *,
        length: int,
        horizon: int = 1,
        rows: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        first = length + horizon - 1
        if len(series) <= first or (rows is not None and len(rows) == 0):
            raise DataError(
                f"the series has {len(series)} rows, too few for one window of {length} with its target {horizon} later",
                expected=f"at least {first + 1} rows",
                fix="Take a longer series or a smaller length",
            )
        rows = torch.arange(first, len(series)) if rows is None else rows
        if int(rows.min()) < first:
            raise DataError(
                f"row {int(rows.min())} of the series has no full window of {length} before it",
                expected=f"target rows from {first} on",
                fix="Leave the first rows out of the targets",
            )
        self.series, self.targets, self.weights, self.rows = series, targets, weights, rows
        self.length, self.horizon = length, horizon
        self._windows = series.unfold(0, length, 1).movedim(-1, 1)
        self._starts = rows - first

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor) -> Batch:
        rows = self.rows.index_select(0, index)
        weights = None if self.weights is None else self.weights.index_select(0, rows)
        inputs = self._windows.index_select(0, self._starts.index_select(0, index)).contiguous()
        targets = None if self.targets is None else self.targets.index_select(0, rows)
        return Batch(inputs, targets, weights)
