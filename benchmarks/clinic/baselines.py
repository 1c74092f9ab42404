"""The doctor beside simpler rule sets: `python -m benchmarks.clinic.baselines [rules_seen | held_out] [--doctor FILE ...]`.

Four of them, scored on the same cases by the same functions:

- always: "the learning rate is too high", whatever the setup.
- patterns: the six loss-curve patterns of seed 002 section 7.8.1 alone, each with its first cause.
- absolute: limits as UMLAUT (Schoop et al., CHI 2021) has them: inputs outside of [-1, 1], a rate above 0.01 or below 1e-7,
  dropout above one half, a validation loss that rose while the training loss fell, validation accuracy above 95 % or 5 points
  above training, outputs that aren't probabilities where the loss wants them, linear layers with nothing between them.
- symptoms: as AutoTrainer (Zhang et al., ICSE 2021) has them, for trainings below 0.6 of accuracy: first over last gradient
  norm below 1e-3 and first below 1e-4, above 70 or a loss from 1000 up, 70 % exact zeros in a gradient, accuracy that swings by
  0.03 in a fifth of the epochs, best gain of an epoch below 0.01, layer outputs of a mean size of 10.

Restated from the published thresholds, for PyTorch and in our own words; the originals answer in other words than ids.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import itertools

import torch
from torch import nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.score import Scored, bars, scored
from benchmarks.clinic.watched import Watched, optimizer_rate, watched
from stepwell.doctor import curves
from stepwell.doctor.rows import rows_of, tensors

Rules = Callable[[Setup, Watched], list[str]]
# The first cause that seed 002 section 7.8.1 names for each pattern.
CAUSES = {
    "flat": "lr_too_low",
    "diverging": "lr_too_high",
    "overfitting": "overfitting",
    "underfitting": "capacity_too_small",
    "oscillating": "lr_too_high",
    "memorised": "overfitting",
}


def always(setup: Setup, seen: Watched) -> list[str]:
    """The learning rate, whatever the setup."""
    return ["lr_too_high"]


def patterns(setup: Setup, seen: Watched) -> list[str]:
    """The pattern of the loss curves, and its first cause."""
    num = len(seen.losses)
    if num == 0:
        return []
    per_epoch = -(-len(setup["train"]) // setup["batch_size"])
    steps = [per_epoch * (place + 1) for place in range(len(seen.val_loss))]
    kept = [place for place, loss in enumerate(seen.val_loss) if math.isfinite(loss)]
    found = curves.verdict(
        curves.Logged(
            steps=list(range(1, num + 1)),
            losses=seen.losses,
            val_steps=[steps[place] for place in kept],
            val_losses=[seen.val_loss[place] for place in kept],
            bad_steps=[num] if not math.isfinite(seen.losses[-1]) else [],
        )
    )
    return [CAUSES[found.pattern]] if found.pattern in CAUSES else []


def absolute(setup: Setup, seen: Watched) -> list[str]:
    """Absolute limits on inputs, rate, dropout and accuracies."""
    said = []
    inputs = [part for part in tensors(rows_of(setup["train"], "train").inputs) if part.is_floating_point()]
    if any(bool(part.abs().nan_to_num(0.0, math.inf).max() > 1) for part in inputs):
        said.append("unnormalised_inputs")
    rate = optimizer_rate(setup)
    said += ["lr_too_high"] if rate > 0.01 else ["lr_too_low"] if rate < 1e-7 else []
    if any(part.p > 0.5 for part in setup["model"].modules() if isinstance(part, nn.modules.dropout._DropoutNd)):
        said.append("dropout_too_high")
    pairs = list(zip(seen.train_loss, seen.val_loss))
    if any(now[0] < before[0] and now[1] > before[1] for before, now in itertools.pairwise(pairs)):
        said.append("overfitting")
    if any(val > 0.95 or val > train + 0.05 for train, val in zip(seen.train_skill, seen.val_skill)):
        said.append("data_leakage")
    return said + _activations(setup)


def _activations(setup: Setup) -> list[str]:
    said = []
    layers = [part for part in setup["model"].modules() if next(part.children(), None) is None]
    layers = [part for part in layers if not isinstance(part, (nn.modules.dropout._DropoutNd, nn.Identity, nn.Flatten))]
    last = layers[-1] if layers else None
    if isinstance(setup["loss"], nn.BCELoss) and not isinstance(last, nn.Sigmoid):
        said.append("missing_output_activation")
    if isinstance(setup["loss"], nn.NLLLoss) and not isinstance(last, nn.LogSoftmax):
        said.append("missing_output_activation")
    if isinstance(setup["loss"], nn.CrossEntropyLoss) and isinstance(last, nn.Softmax):
        said.append("softmax_before_ce")
    if any(isinstance(one, nn.Linear) and isinstance(two, nn.Linear) for one, two in itertools.pairwise(layers)):
        said.append("missing_nonlinearity")
    return said


def symptoms(setup: Setup, seen: Watched) -> list[str]:
    """Thresholds on gradients and on accuracy, for trainings that do badly."""
    bad = [loss for loss in seen.losses if not math.isfinite(loss) or loss >= 1e3]
    if not bad and max(seen.val_skill, default=0.0) >= 0.6:
        return []
    said = []
    if seen.layer_output >= 10:
        said.append("unnormalised_inputs")
    pairs = list(zip(seen.first_norm, seen.last_norm))
    ratios = [first / last for first, last in pairs if last > 0]
    if bad or any(ratio > 70 for ratio in ratios):
        said.append("exploding_gradient")
    if any(first < 1e-4 and last > 0 and first / last < 1e-3 for first, last in pairs):
        said.append("vanishing_gradient")
    if any(share >= 0.7 for share in seen.zero_gradient):
        said.append("dead_relu")
    moves = [now - before for before, now in zip(seen.val_skill, seen.val_skill[1:])]
    swings = sum(one * two < 0 and min(abs(one), abs(two)) >= 0.03 for one, two in itertools.pairwise(moves))
    if moves and swings >= 0.2 * len(seen.val_skill):
        said.append("lr_too_high")
    elif moves and max(moves) < 0.01:
        said.append("lr_too_low")
    return said


RULES: dict[str, Rules] = {"always": always, "patterns": patterns, "absolute": absolute, "symptoms": symptoms}


def rows_of_case(case: Case) -> dict[str, Scored]:
    """What each rule set says of a case; all of them look at the same training."""
    setup = case.build(0)
    started = time.process_time()
    try:
        seen = watched(setup)
    except Exception:  # rows or a model that can't be taken at all
        seen = Watched(crashed=True)
    seconds = time.process_time() - started
    return {name: _scored(case, rules(setup, seen), seconds) for name, rules in RULES.items()}


def _scored(case: Case, said: Sequence[str], seconds: float) -> Scored:
    fair = {*case.accept, *case.tolerate}
    return Scored(case.name, case.accept, tuple(said), 0.0, tuple(one for one in said if one not in fair), None, seconds)


def table(results: dict[str, list[Scored]]) -> str:
    """One line for each rule set, by the measures of `score.bars`."""
    names = [bar.name for bar in bars(next(iter(results.values())))]
    lines = ["".join([f"{'rules':10s}", *(f"{name:>28s}" for name in names)])]
    for name, rows in results.items():
        values = [bar.value for bar in bars(rows)]
        lines.append("".join([f"{name:10s}", *(f"{math.nan if value is None else value:28.3f}" for value in values)]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score all rule sets on one half and print the table."""
    parser = argparse.ArgumentParser(description="The doctor beside simpler rule sets.")
    parser.add_argument("half", nargs="?", default="rules_seen", choices=["rules_seen", "held_out"])
    parser.add_argument("--part", default="0/1", help="of the cases, e.g. 0/2 for every other one")
    parser.add_argument("--doctor", type=Path, nargs="+", help="files of `benchmarks.clinic.score --json`, in place of asking")
    options: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases: Sequence[Case] = importlib.import_module(f"benchmarks.clinic.{options.half}").CASES
    number, of = (int(part) for part in options.part.split("/"))
    known = {one["case"]: Scored(**one) for file in options.doctor or () for one in json.loads(file.read_text())}
    results: dict[str, list[Scored]] = {name: [] for name in RULES}
    for case in cases[number::of]:
        for name, one in rows_of_case(case).items():
            results[name].append(one)
    if known:
        results["doctor"] = [known[case.name] for case in cases[number::of] if case.name in known]
    else:
        results["doctor"] = [scored(case, repairs=False) for case in cases[number::of]]
    sick = sum(bool(case.accept) for case in cases[number::of])
    print(f"{len(cases[number::of])} cases of {options.half}: {sick} sick")
    print(table(results))


if __name__ == "__main__":
    main()
