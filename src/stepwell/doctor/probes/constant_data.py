"""constant_features, constant_labels: nothing to tell rows apart by, or nothing to tell.

Rule for features: all training rows are the same; or nine in ten are, though their targets differ; or four fifths of the
columns, or one of several inputs, are constant and simple methods find no more in the rest than in nothing. Rule for labels:
one single target, unless the loss doesn't look at targets, or rows are pairs that are ranked (exchanging the two turns the
outputs around): there the order of a pair is its target. Mechanical proofs: the best that can be learnt is then one constant
output.
Source: the data checks of seed 002, section 7.8.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.rows import Rows, tensors, tree
from stepwell.doctor.trials import outputs_over

MOST_SAME = 0.9
MOST_CONSTANT = 0.8
LITTLE = 0.1  # of what is missing to a perfect skill
FEWEST_ROWS = 8


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask features, then labels."""
    if len(bench.setup.train) < FEWEST_ROWS:
        return
    yield from _features(bench)
    yield from _labels(bench)


def _features(bench: Bench) -> Iterator[Suspicion]:
    rows = bench.setup.train
    flat = _flat(rows)
    if flat is None or _one_target(bench.setup.train.targets):
        return
    _, counts = torch.unique(flat, dim=0, return_counts=True)
    constant = float((flat == flat[:1]).all(0).float().mean())
    same = float(counts.max()) / len(flat)
    known = bench.reference
    parts = [part.reshape(len(part), -1) for part in tensors(rows.inputs) if part.dim() > 0 and part.is_floating_point()]
    empty = sum(bool((part == part[:1]).all()) for part in parts)  # of several inputs
    blind = (
        (constant >= MOST_CONSTANT or empty > 0)
        and known is not None
        and known.best <= known.trivial + LITTLE * (1.0 - known.trivial)
        and bool(parts)
    )
    if same < MOST_SAME and not blind:
        return
    evidence = {
        "num_rows": len(flat),
        "num_distinct_rows": len(counts),
        "share_of_same_rows": round(same, 4),
        "share_of_constant_columns": round(constant, 4),
        "value": float(flat[0, 0]),
    }
    symptom = "all training rows have the same inputs" if len(counts) == 1 else f"{same:.0%} of the training rows are the same"
    yield Suspicion(
        "constant_features",
        symptom
        if same >= MOST_SAME
        else f"{constant:.0%} of the columns never change, in {empty} of {len(parts)} inputs all, and the rest tells nothing",
        "rows that look the same get the same answer: one constant is the best that can be learnt",
        evidence,
        Remedy("Mend the code that reads or scales the inputs (whole-number division, an index that is ignored, a wrong mask)"),
        proof="certain",
        weight=1.0 if len(counts) == 1 else 0.8,
        explains=("labels_misaligned", "underfitting", "capacity_too_small", "unnormalised_inputs", "data_leakage"),
        blocks=True,
    )


def _labels(bench: Bench) -> Iterator[Suspicion]:
    targets = bench.setup.train.targets
    if not isinstance(targets, Tensor) or not _one_target(targets) or not _looks_at_targets(bench) or _ranks_pairs(bench):
        return
    yield Suspicion(
        "constant_labels",
        "all training rows have the same target",
        "one constant output fits every row: the loss goes to its floor and nothing is learnt from the inputs",
        {"num_rows": len(targets), "value": float(targets.reshape(-1)[0])},
        Remedy("Mend the code that makes the targets (rounding, a wrong column, a filter that keeps one class)"),
        proof="certain",
        weight=1.0,
        explains=(
            *("class_imbalance", "underfitting", "label_out_of_range", "unscaled_targets", "data_leakage"),
            *("labels_misaligned", "wrong_loss"),
        ),
        blocks=True,
    )


def _flat(rows: Rows) -> Tensor | None:
    parts = [part.reshape(len(part), -1).float() for part in tensors(rows.inputs) if part.dim() > 0]
    return torch.nan_to_num(torch.cat(parts, 1)) if parts and sum(part.shape[1] for part in parts) else None


def _one_target(targets: object) -> bool:
    if not isinstance(targets, Tensor):
        return False
    flat = targets.reshape(len(targets), -1).double()
    spread = (flat.max(0).values - flat.min(0).values).abs()
    return bool((spread <= 1e-7 * flat.abs().max().clamp(min=1e-12)).all())


def _ranks_pairs(bench: Bench) -> bool:
    """Whether there are two parts of the inputs whose exchange turns the outputs' sign, or exchanges two outputs."""
    inputs, before = bench.some.inputs, tensors(bench.outputs)
    parts = tensors(inputs)
    pairs = [(at, to) for to in range(len(parts)) for at in range(to) if parts[at].shape == parts[to].shape]
    exchanged = [_exchanged(inputs, *pair) for pair in pairs]
    if isinstance(inputs, Tensor) and inputs.dim() >= 3 and inputs.shape[1] == 2:
        exchanged.append(inputs.flip(1))
    return any(_turned(before, _answers(bench, other)) for other in exchanged)


def _answers(bench: Bench, inputs: Any) -> list[Tensor]:
    try:
        return tensors(outputs_over(bench.setup.copied().model, replace(bench.some, inputs=inputs)))
    except Exception:  # numbers of the one aren't numbers of the other
        return []


def _exchanged(inputs: Any, at: int, to: int) -> Any:
    parts = tensors(inputs)
    parts[at], parts[to] = parts[to], parts[at]
    number = iter(parts)
    return tree(inputs, lambda part: next(number))


def _turned(before: list[Tensor], after: list[Tensor]) -> bool:
    if len(before) == len(after) == 1:
        size = float(before[0].abs().max())
        return size > 0 and bool(torch.allclose(after[0], -before[0], rtol=0, atol=1e-4 * size))
    return len(before) == len(after) == 2 and torch.allclose(after[0], before[1]) and torch.allclose(after[1], before[0])


def _looks_at_targets(bench: Bench) -> bool:
    """Whether the loss changes with the targets; one that raises does."""
    targets = bench.some.targets
    try:
        before = bench.setup.loss(bench.outputs, targets)
        other = torch.where(targets > 0.5, 0.0, 1.0) if targets.is_floating_point() else (targets == 0).to(targets.dtype)
        return not bool(torch.isclose(before, bench.setup.loss(bench.outputs, other)))
    except Exception:
        return True
