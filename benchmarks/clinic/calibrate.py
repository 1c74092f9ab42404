"""How sure the doctor may be: `python -m benchmarks.clinic.calibrate [rules_seen | round_1 ...] [--seed 1]`.

Diagnoses the cases of a part, counts in how many of each bin of `stepwell.doctor.confidence` a finding was right, prints that
table as the module holds it, and the reliability: what was said beside what came true, the Brier score and the expected
calibration error. The module's own table was counted over the seven rounds, each as the rules stood before it was seen.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import itertools

import torch

import stepwell
from benchmarks.clinic import SETS
from benchmarks.clinic.case import Case
from stepwell.doctor.confidence import BINS, COUNTS, Bin, Standing, bin_of, confidence, counted

EDGES = (0.0, 0.6, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Told:
    """One finding of one case.

    Args:
        case, id: names.
        standing: what it rests on.
        right: whether it names the cause; what is true as well, without being the cause, isn't counted.
    """

    case: str
    id: str
    standing: Standing
    right: bool


def told_of(case: Case, seed: int) -> list[Told]:
    """What the doctor says of a case, without what is neither right nor wrong."""
    found = stepwell.diagnose(**case.build(seed)).findings
    return [
        Told(case.name, one.id, one.standing, one.id in case.accept)
        for one in found
        if one.severity != "note" and one.standing is not None and one.id not in case.tolerate
    ]


def table(counts: dict[Bin, tuple[int, int]]) -> str:
    """The counts as `confidence.COUNTS` holds them."""
    lines = [f'    "{name}": {counts[name]},' for name in BINS if name in counts]
    return "\n".join(["COUNTS: Mapping[Bin, tuple[int, int]] = {", *lines, "}"])


def reliability(pairs: Sequence[tuple[float, bool]]) -> str:
    """What was said beside what came true."""
    lines = [f"{'said':>12s} {'cases':>6s} {'mean':>6s} {'right':>6s}"]
    error = 0.0
    for low, high in itertools.pairwise(EDGES):
        here = [(said, good) for said, good in pairs if low <= said < high or (high == 1.0 and said == 1.0)]
        if not here:
            continue
        mean, right = sum(said for said, _ in here) / len(here), sum(good for _, good in here) / len(here)
        error += abs(mean - right) * len(here) / len(pairs)
        lines.append(f"{low:5.2f} - {high:4.2f} {len(here):6d} {mean:6.3f} {right:6.3f}")
    brier = sum((said - good) ** 2 for said, good in pairs) / max(len(pairs), 1)
    return "\n".join([*lines, f"Brier score {brier:.4f}, expected calibration error {error:.4f}"])


def left_out(all_told: Sequence[Told]) -> list[tuple[float, bool]]:
    """Confidence of each finding by counts without its own case, and whether it was right."""
    pairs = []
    for one in all_told:
        others = counted((other.standing, other.right) for other in all_told if other.case != one.case)
        pairs.append((confidence(one.standing, others), one.right))
    return pairs


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description="How sure the doctor may be.")
    parser.add_argument("half", nargs="?", default="rules_seen", choices=SETS)
    parser.add_argument("--seed", type=int, default=1, help="that the cases are built from")
    parser.add_argument("--part", default="0/1", help="of the cases, e.g. 0/2 for every other one")
    parser.add_argument("--json", type=Path, help="also write the findings here")
    parser.add_argument("--read", type=Path, nargs="*", help="files of --json, in place of diagnosing")
    options: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.read:
        raw = [one for file in options.read for one in json.loads(file.read_text())]
        all_told = [Told(one["case"], one["id"], Standing(**one["standing"]), one["right"]) for one in raw]
    else:
        cases: Sequence[Case] = importlib.import_module(f"benchmarks.clinic.{options.half}").CASES
        number, of = (int(part) for part in options.part.split("/"))
        all_told = [one for case in cases[number::of] for one in told_of(case, options.seed)]
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in all_told], indent=1) + "\n")
    print(table(counted((one.standing, one.right) for one in all_told)))
    print(f"\nas the module's table says, on {options.half}, seed {options.seed}:")
    print(reliability([(confidence(one.standing, COUNTS), one.right) for one in all_told]))
    print("\nby counts without the case itself:")
    print(reliability(left_out(all_told)))
    if options.half == "rules_seen":
        for one in all_told:
            if not one.right:
                print(f"wrong: {one.case}: {one.id} ({bin_of(one.standing)})")


if __name__ == "__main__":
    main()
