"""Rows of a batch that change each other's outputs.

Rule: in evaluation mode, the outputs of a row in the same place of two batches, the rows beside it being others, differ by more
than 1e-3 of the outputs' spread (asked of the first and of the last place: a recurrence over the rows only looks back); or
all rows get the same outputs, and don't once the batch lies along the other dimension. Models
that draw in evaluation and batch norm without running statistics are exempt: there it is meant. Certain. Source: Karpathy's
recipe ("use backprop to chart dependencies"); GitHub threads on batch_first and view for permute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import torch
from torch import Tensor, nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import Call, calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.modules import Action, Change, rewired
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup

NUM_ROWS = 11  # a prime that few other sizes are equal to
_FOLLOWS = ("underfitting", "capacity_too_small", "too_few_epochs", "lr_too_low", "overfitting", "train_val_mismatch")


def probe(bench: Bench) -> Iterator[Suspicion]:
    model = bench.setup.copied().model.eval()
    if len(bench.some) < 2 * NUM_ROWS:
        return
    change, alike = mixing(model, bench.some), _all_alike(model, bench.some)
    if not alike and (change is None or change <= 1e-3 or _statistics_meant(model, bench.some)):
        return
    remedy, words = _remedy(bench)
    if alike and remedy is None:
        return  # weights that start at zero do it too, on purpose
    yield Suspicion(
        "batch_dependence",
        "all rows get the same outputs, and would get different ones if rows weren't taken for moments"
        if alike
        else f"the outputs of a row change by {change:.2g} of their spread with the rows beside it",
        "a dimension that isn't the batch is taken for it, or the other way round: rows are mixed",
        {"relative_change": change, "num_rows": NUM_ROWS},
        Remedy(words, remedy),
        proof="certain",
        weight=0.9,
        explains=_FOLLOWS,
    )


def mixing(model: nn.Module, rows: Rows) -> float | None:
    """How far a row's outputs differ between two batches, over the spread of outputs; None for a model that draws."""
    ends = torch.tensor([0, NUM_ROWS - 1])
    batch = torch.arange(NUM_ROWS)
    exchanged = batch + NUM_ROWS
    exchanged[ends] = ends
    batches = [batch, batch, exchanged]
    found = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for index in batches:
            outputs = model(rows.take(index).inputs)
            if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != NUM_ROWS:
                return None
            found.append(outputs.float())
    once, again, other = found
    if not torch.equal(once, again) or not bool(torch.isfinite(once).all()):
        return None
    spread = float(torch.cat([once, other]).std())
    return float((once[ends] - other[ends]).abs().max()) / spread if spread > 1e-12 else None


def _all_alike(model: nn.Module, rows: Rows) -> bool:
    """Whether rows that differ all get the same outputs."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = model(rows.take(slice(0, 2 * NUM_ROWS)).inputs)
    if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != 2 * NUM_ROWS:
        return False
    return bool(torch.isfinite(outputs).all()) and float(outputs.float().std(0, correction=0).max()) <= 1e-6 * float(
        outputs.abs().max()
    )


def _statistics_meant(model: nn.Module, rows: Rows) -> bool:
    """Whether a batch norm takes the batch's statistics in evaluation."""
    _, calls = calls_of(model, rows.take(slice(0, NUM_ROWS)).inputs)
    return any(call.name == "batch_norm" and True in (*call.values[5:6], call.settings.get("training")) for call in calls)


def _remedy(bench: Bench) -> tuple[Change | None, str]:
    """The first change that parts the rows again."""
    cures: list[tuple[Callable[[Setup], Setup], str]] = [(_batch_first, "Give recurrent and attention layers batch_first=True")]
    model = bench.setup.copied().model.eval()
    with torch.no_grad():
        _, calls = calls_of(model, bench.some.take(slice(0, NUM_ROWS)).inputs)
    actions: dict[tuple[str, int | None], Action] = {
        call.key: permuted(order) for call in calls if (order := _order(call)) is not None
    }
    if actions:
        cures.append(
            (rewired(actions), "Bring dimensions into another order with permute or transpose, not with view or reshape")
        )
    for change, words in cures:
        mended = change(bench.setup).model.eval()
        try:
            left = mixing(mended, bench.some)
            fits = mended(bench.first_batch.inputs).shape == model(bench.first_batch.inputs).shape
        except Exception:
            continue
        if fits and left is not None and left <= 1e-3 and not _all_alike(mended, bench.some):
            return change, words
    return (
        None,
        "Look where the batch's dimension is moved: batch_first=True for recurrent and attention layers, permute instead of view",
    )


def _batch_first(setup: Setup) -> Setup:
    copied = setup.copied()
    for part in copied.model.modules():
        if isinstance(part, (nn.RNNBase, nn.MultiheadAttention)):
            part.batch_first = True
    return copied


def _order(call: Call) -> tuple[int, ...] | None:
    """How a view would have to permute instead, where it only moves sizes and moves the batch's."""
    if call.name not in ("view", "reshape") or not call.inputs or not isinstance(call.output, Tensor):
        return None
    before, after = tuple(call.inputs[0].shape), tuple(call.output.shape)
    if before == after or sorted(before) != sorted(after) or len(before) > 5 or before[0] != NUM_ROWS:
        return None
    return next(order for order in permutations(range(len(before))) if tuple(before[place] for place in order) == after)


def permuted(order: tuple[int, ...]) -> Action:
    """The call's first tensor in another order of dimensions."""
    return lambda func, args, kwargs: args[0].permute(order)
