"""last_batch_of_one, batchnorm_small_batch, batch_too_small: batches that statistics or steps can't live on.

Rule: in training mode (and only there) the outputs of a row depend on the other rows of its batch. If then an epoch's last
batch is one row and the model raises on it, a crash is certain. Batches of up to 8 rows are suspected, told if larger ones at
as many steps help. Without such statistics, batches of up to 4 rows are suspected, told if larger ones at the same rate and
as many epochs help: with fewer steps, nothing but the steps' noise is less.
Source: Ioffe and Szegedy, ICML 2015; Wu and He, Group normalization, ECCV 2018, on batches of 8 and less.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.data import fitting_batch_size, fitting_batches, larger_batches, more_rows_a_batch
from stepwell.doctor.rows import Rows, tensors
from stepwell.doctor.setup import Setup

SMALL_FOR_STATISTICS = 8
SMALL_FOR_STEPS = 4
LARGER = 32


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask the arithmetic of batches, then the model."""
    setup = bench.setup
    num_rows, batch_size = setup.train.num_there, min(setup.batch_size, setup.train.num_there)
    last = num_rows % batch_size or batch_size
    if last > 1 and batch_size > SMALL_FOR_STATISTICS:
        return
    if last == 1 and _raises_on_one_row(setup):
        yield _crash(setup, num_rows, batch_size)
        return
    if num_rows <= LARGER or batch_size > SMALL_FOR_STATISTICS:
        return
    shared = has_batch_statistics(setup)
    if shared:
        yield Suspicion(
            "batchnorm_small_batch",
            f"batches of {batch_size} rows, whose statistics the model takes in training",
            "the mean and spread of so few rows are nearly chance: training sees other outputs than evaluation",
            {"batch_size": batch_size, "num_rows": num_rows},
            Remedy(
                f"Take batches of {LARGER} rows, or a norm that doesn't look at the batch",
                partial(larger_batches, batch_size=LARGER),
            ),
            proof="mechanism",
            weight=0.85 if batch_size <= 4 else 0.6,
            explains=("batch_too_small", "unstable_gradient", "lr_too_high"),
        )
    elif batch_size <= SMALL_FOR_STEPS:
        yield Suspicion(
            "batch_too_small",
            f"batches of {batch_size} rows",
            "each step follows the chance of a few rows, at a rate that would suit the mean of many",
            {"batch_size": batch_size, "num_rows": num_rows, "lr": setup.lr},
            Remedy(
                f"Take batches of {LARGER} rows, or a rate {LARGER // batch_size} times lower",
                partial(more_rows_a_batch, batch_size=LARGER),
            ),
            weight=0.65,
            explains=("lr_too_high", "unstable_gradient", "exploding_gradient", "momentum_too_high"),
        )


def _crash(setup: Setup, num_rows: int, batch_size: int) -> Suspicion:
    if batch_size == 1:
        return Suspicion(
            "batchnorm_small_batch",
            "batches of one row: the model can't take their statistics and raises",
            "one row has no spread",
            {"batch_size": 1, "num_rows": num_rows},
            Remedy(f"Take batches of {LARGER} rows", partial(larger_batches, batch_size=LARGER)),
            proof="certain",
            weight=1.0,
            explains=("batch_too_small", "last_batch_of_one"),
            blocks=True,
        )
    return Suspicion(
        "last_batch_of_one",
        f"{num_rows} rows in batches of {batch_size} leave a last batch of one row, on which a training step raises",
        "one row has no spread for batch norm, and squeeze() drops its dimension: the training ends in its first epoch",
        {"num_rows": num_rows, "batch_size": batch_size, "error": _error(setup.copied(), setup.train.take(slice(0, 1))) or ""},
        Remedy(
            f"Take batches of {fitting_batch_size(num_rows, batch_size)} rows, or leave the last out (drop_last)", fitting_batches
        ),
        proof="certain",
        weight=1.0,
        explains=("batchnorm_small_batch", "target_shape_mismatch"),
        blocks=True,
    )


def _raises_on_one_row(setup: Setup) -> bool:
    copied = setup.copied()
    return _error(copied, setup.train.take(slice(0, 1))) is not None and _error(copied, setup.train.take(slice(0, 2))) is None


def _error(copied: Setup, rows: Rows) -> str | None:
    with seeded_defaults(0), torch.enable_grad():
        try:
            loss = copied.loss(copied.model.train()(rows.inputs), rows.targets)
            loss.backward()  # type: ignore[no-untyped-call]  # some shapes are refused only here
        except Exception as error:
            return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return None


def has_batch_statistics(setup: Setup) -> bool:
    """Whether a row's outputs depend on the other rows of its batch in training mode, and don't in evaluation."""
    if len(setup.train) < 7:
        return False
    first, second = setup.train.take(torch.arange(4)), setup.train.take(torch.tensor([0, 4, 5, 6]))
    changes = []
    for mode in (True, False):
        seen = []
        for rows in (first, second):
            model = setup.copied().model.train(mode)
            with seeded_defaults(0), torch.no_grad():
                seen.append(tensors(model(rows.inputs))[0][0].float())
        changes.append(float((seen[1] - seen[0]).norm() / seen[0].norm().clamp(min=1e-12)))
    return changes[0] > 1e-3 and changes[1] <= 1e-3
