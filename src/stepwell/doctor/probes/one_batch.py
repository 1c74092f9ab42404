"""Step 2 of the checklist: can one batch be learnt by heart, dropout and decay off, at the setup's rate or another one?

Rule: where the whole training leaves its own rows as badly judged as one answer for all, at most 64 of them are trained on
alone, in 150 steps that three rates race for. That nothing of them is learnt at any rate although gradients flow, while one
hidden layer on the flattened inputs learns them in closed form, is told as underfitting where no cause was found: the network
or the loss, as they are put together, can't carry the rows. A batch that is learnt proves the way from inputs to loss sound.
Source: seed 002 section 7.8.5 step 2; Karpathy, "A recipe for training neural networks", 2019: overfit one batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from stepwell.doctor.batch_fit import FITS, MOST_STEPS, NOTHING, learnt_share
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.reference import reference_of
from stepwell.doctor.rows import Rows
from stepwell.doctor.trials import outputs_over


def probe(bench: Bench) -> Iterator[Suspicion]:
    own = bench.own
    if own.crash is not None or not bench.unfit or not bench.complete:
        return
    if not own.failed and _learnt(bench) >= NOTHING:
        return
    fit = bench.one_batch
    if fit.verdict == "stuck" and fit.num_steps < MOST_STEPS:
        return  # steps are slow here, and too few were made to tell
    if fit.verdict not in ("stuck", "fails"):
        return
    gradient = max(one.grad_norm for one in fit.attempts)
    simple = _simple(bench, fit.rows)
    if not gradient > 0 or simple is None or simple < FITS:
        return
    best = fit.best.learnt
    yield Suspicion(
        "underfitting",
        f"{len(fit.rows)} rows alone, trained on again and again, are not learnt at any of {len(fit.attempts)} rates",
        "gradients reach the weights, yet the network and the loss, as they are put together, can't carry what the rows hold: "
        "look for a fault in either",
        {
            "num_rows": len(fit.rows),
            "num_steps": fit.num_steps,
            "rates": [fit.lr * one.factor for one in fit.attempts],
            "learnt": [None if one.learnt is None else round(one.learnt, 4) for one in fit.attempts],
            "learnt_at_best": None if best is None else round(best, 4),
            "learnt_by_one_hidden_layer": round(simple, 4),
            "gradient_to_weights": gradient if math.isfinite(gradient) else "not finite",
        },
        Remedy("Look at the network's forward pass and at the loss: between them what the rows hold is lost"),
        proof="mechanism",
        weight=0.15,
    )


def _learnt(bench: Bench) -> float:
    """What the whole training has learnt of some of its own rows."""
    try:
        found = learnt_share(bench.task, outputs_over(bench.own.model, bench.some), bench.some.targets)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return 0.0
    return 0.0 if found is None else found


def _simple(bench: Bench, rows: Rows) -> float | None:
    """The skill of a ridge over random rectified features, judged on the rows that it was fitted to."""
    found = reference_of(rows, rows, bench.task)
    return None if found is None else found.features
