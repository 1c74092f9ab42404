"""unshuffled_data: rows of like targets follow each other, and the loader keeps them so.

Rule: without shuffling, fewer runs of like targets than in permuted rows by 5 standard deviations, with more than one batch an
epoch. Measured directly; told only if shuffling helps.
Source: the runs test of Wald and Wolfowitz, 1940, against permutations.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.data import shuffled
from stepwell.doctor.rows import tensors
from stepwell.doctor.task import FEW

FEWEST_RUNS = -5.0
NUM_PERMUTED = 40


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask only where the loader keeps the order."""
    setup = bench.setup
    if setup.shuffle or setup.steps_per_epoch < 2 or len(setup.train) < 16:
        return
    num_runs, expected, z = runs(tensors(setup.train.targets)[0])
    if z > FEWEST_RUNS:
        return
    yield Suspicion(
        "unshuffled_data",
        f"like targets follow each other: {num_runs} runs in {len(setup.train)} rows, where {expected:.0f} are expected",
        "each batch pulls towards its own few targets, and the last ones of an epoch win",
        {"num_runs": num_runs, "num_expected": round(expected, 1), "z": round(z, 1), "num_rows": len(setup.train)},
        Remedy("Shuffle the training rows: shuffle=True", shuffled),
        proof="mechanism",
        weight=0.95,
        explains=("unstable_gradient", "lr_too_high", "overfitting", "batch_dependence", "underfitting", "too_few_epochs"),
    )


def runs(targets: Tensor) -> tuple[int, float, float]:
    """Number of runs of like targets in the order given, of permuted ones, and by how many deviations they differ.

    Classes are alike where they are equal, quantities where they lie on the same side of the median.
    """
    flat = targets.reshape(len(targets), -1).double()
    kinds = flat if flat.shape[1] == 1 or not targets.is_floating_point() else flat.mean(1, keepdim=True)
    if targets.is_floating_point() and len(torch.unique(kinds)) > FEW:
        kinds = (kinds > kinds.median()).double()
    places = torch.unique(kinds, dim=0, return_inverse=True)[1]
    draw = torch.Generator().manual_seed(0)
    null = torch.tensor([_num_runs(places[torch.randperm(len(places), generator=draw)]) for _ in range(NUM_PERMUTED)]).double()
    found = _num_runs(places)
    return found, float(null.mean()), (found - float(null.mean())) / max(float(null.std()), 0.5)


def _num_runs(places: Tensor) -> int:
    return 1 + int((places[1:] != places[:-1]).sum())
