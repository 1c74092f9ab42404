"""nan_in_inputs, inf_in_inputs: cells of the inputs that aren't finite.

Rule: any such cell in the training or validation rows, unless the model's outputs over these rows are finite all the same (it
mends them itself). A mechanical proof: one such cell makes the loss, and after one step every weight, non-finite.
Source: IEEE 754 arithmetic; missing cells and log(0) are the usual origins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.data import filled, finite_rows, without_rows
from stepwell.doctor.rows import Rows, tensors
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import outputs_over

MOST_DROPPED = 0.2  # of the training rows: of more, cells are filled instead
NUM_NAMED = 5


def probe(bench: Bench) -> Iterator[Suspicion]:
    """Ask both splits."""
    setup = bench.setup
    splits = {"train": setup.train} | ({} if setup.val is None else {"val": setup.val})
    bad = {name: ~finite_rows(rows) for name, rows in splits.items()}
    if not any(bool(rows.any()) for rows in bad.values()):
        return
    if all(_finite_outputs(setup, rows.take(bad[name])) for name, rows in splits.items() if bool(bad[name].any())):
        return
    for word, test in (("nan", torch.isnan), ("inf", torch.isinf)):
        cells = {name: _cells(rows, test) for name, rows in splits.items()}
        if not any(cells[name]["num_cells"] for name in cells):
            continue
        yield _suspicion(word, cells, _remedy(bad))


def _suspicion(word: str, cells: dict[str, dict[str, Any]], remedy: Remedy) -> Suspicion:
    where = " and ".join(f"{found['num_cells']} cells of {name}" for name, found in cells.items() if found["num_cells"])
    kind = "NaN" if word == "nan" else "infinite"
    evidence = {f"{name}_{key}": value for name, found in cells.items() for key, value in found.items() if found["num_cells"]}
    return Suspicion(
        f"{word}_in_inputs",
        f"{where} are {kind}",
        "from the first batch with such a row on, the loss and then every weight are NaN",
        evidence,
        remedy,
        proof="certain",
        weight=1.0,
        explains=("lr_too_high", "exploding_gradient", "unstable_loss", "unnormalised_inputs"),
        blocks=True,
    )


def _remedy(bad: dict[str, Tensor]) -> Remedy:
    num_bad = int(bad["train"].sum())
    elsewhere = "val" in bad and bool(bad["val"].any())
    if num_bad and not elsewhere and num_bad <= MOST_DROPPED * len(bad["train"]):
        return Remedy(f"Drop the {num_bad} training rows with such cells", lambda setup: without_rows(setup, bad["train"]))
    return Remedy("Fill such cells with the mean of the training rows' same cell, before the model", filled)


def _finite_outputs(setup: Setup, rows: Rows) -> bool:
    try:
        outputs = outputs_over(setup.copied().model, rows.take(slice(0, 64)))
    except Exception:  # whatever a model does with such rows, it isn't an answer
        return False
    return all(bool(torch.isfinite(part).all()) for part in tensors(outputs))


def _cells(rows: Rows, test: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"num_cells": 0, "num_rows": 0, "rows": [], "columns": []}
    hit_rows = torch.zeros(len(rows), dtype=torch.bool)
    columns: list[int] = []
    for part in tensors(rows.inputs):
        if not part.is_floating_point() or part.dim() == 0:
            continue
        hits = test(part).reshape(len(part), -1)
        found["num_cells"] += int(hits.sum())
        hit_rows |= hits.any(1)
        columns += hits.any(0).nonzero().squeeze(1).tolist()
    found["num_rows"] = int(hit_rows.sum())
    found["rows"] = hit_rows.nonzero().squeeze(1)[:NUM_NAMED].tolist()
    found["columns"] = columns[:NUM_NAMED]
    return found
