"""How good the doctor is: `python -m benchmarks.clinic.score [rules_seen | held_out | round_1 ...]`.

Sick setups called sick, first finding right, an acceptable one anywhere, wrong findings a sick setup, healthy ones called sick,
repairs within 0.05 validation skill of the reference fix, CPU seconds a setup.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch: its pool is made once.

import torch

import stepwell
from benchmarks.bars import Bar, summary
from benchmarks.clinic import SETS, loop
from benchmarks.clinic.case import Case, Setup

CLOSE = 0.05  # of validation skill
SEEDS = (0, 1)


@dataclass(frozen=True)
class Scored:
    """What became of one case.

    Args:
        case: its name.
        truth: ids that name the cause; none for a healthy one.
        said: ids of findings, first first, notes left out.
        confidence: of the first.
        wrong: of those said, neither acceptable nor tolerable.
        repaired: whether the mended setup comes within `CLOSE` of the reference fix; None where it needn't.
        seconds: of the diagnosis, on the CPU.
    """

    case: str
    truth: tuple[str, ...]
    said: tuple[str, ...]
    confidence: float
    wrong: tuple[str, ...]
    repaired: bool | None
    seconds: float


def scored(case: Case, *, repairs: bool) -> Scored:
    """Diagnose a case, and mend it where the case can be mended from its setup."""
    setup = case.build(0)
    started = time.process_time()
    diagnosis = stepwell.diagnose(**setup)
    seconds = time.process_time() - started
    findings = [finding for finding in diagnosis.findings if finding.severity != "note"]
    said = tuple(finding.id for finding in findings)
    fair = set(case.accept) | set(case.tolerate)
    repaired = None
    if repairs and case.fix is not None and not case.changes_data:
        repaired = said != () and _skill(diagnosis.repair().setup, case) >= _skill(case.fix(case.build(0)), case) - CLOSE
    return Scored(
        case.name,
        case.accept,
        said,
        findings[0].confidence if findings else 0.0,
        tuple(one for one in said if one not in fair),
        repaired,
        seconds,
    )


def _skill(setup: Setup, case: Case) -> float:
    total = 0.0
    for seed in SEEDS:
        mine: dict[str, Any] = dict(setup)
        mine["model"], mine["optimizer"] = copy.deepcopy((setup["model"], dict(setup["optimizer"])))
        try:
            loop.train(mine, seed=seed)
            total += loop.skill(mine, case.skill)
        except Exception:
            continue
    return total / len(SEEDS)


def bars(results: Sequence[Scored]) -> list[Bar]:
    """The issue's measures over all cases."""
    sick = [one for one in results if one.truth]
    healthy = [one for one in results if not one.truth]
    mended = [one.repaired for one in sick if one.repaired is not None]

    def share(hits: Sequence[bool]) -> float:
        return sum(hits) / max(len(hits), 1)

    return [
        Bar("sick called sick", "at least", 0.95, share([bool(one.said) for one in sick])),
        Bar("first finding right", "at least", 0.80, share([bool(one.said) and one.said[0] in one.truth for one in sick])),
        Bar("an acceptable one anywhere", "at least", 0.90, share([bool(set(one.said) & set(one.truth)) for one in sick])),
        Bar("wrong findings a sick setup", "at most", 0.4, sum(len(one.wrong) for one in sick) / max(len(sick), 1)),
        Bar("healthy called sick", "at most", 0.0, share([bool(one.said) for one in healthy])),
        *([Bar("repaired", "at least", 0.80, share(mended))] if mended else []),
        Bar("mean seconds", "at most", 5.0, sum(one.seconds for one in results) / max(len(results), 1)),
        Bar("most seconds", "at most", 20.0, max((one.seconds for one in results), default=0.0)),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Score one half and print it."""
    parser = argparse.ArgumentParser(description="How good the doctor is.")
    parser.add_argument("half", nargs="?", default="rules_seen", choices=SETS)
    parser.add_argument("--only", help="names that contain this, or ids that are the truth")
    parser.add_argument("--part", default="0/1", help="of the cases, e.g. 0/2 for every other one")
    parser.add_argument("--quiet", choices=["no", "yes"], default="no", help="yes: the figures only, no single case")
    parser.add_argument("--repairs", choices=["no", "yes"], default="no")
    parser.add_argument("--json", type=Path, help="also write the cases here")
    options: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases: Sequence[Case] = importlib.import_module(f"benchmarks.clinic.{options.half}").CASES
    if options.only:
        cases = [case for case in cases if options.only in case.name or options.only in case.accept]
    number, of = (int(part) for part in options.part.split("/"))
    results = []
    for case in cases[number::of]:
        one = scored(case, repairs=options.repairs == "yes")
        results.append(one)
        if options.quiet == "no":
            mark = "ok   " if (one.said[:1] == () and not one.truth) or (one.said and one.said[0] in one.truth) else "WRONG"
            mended = "" if one.repaired is None else "  repaired" if one.repaired else "  NOT repaired"
            print(
                f"{mark} {one.seconds:5.1f} s  {one.case:45s} {'/'.join(one.truth):40s} said {', '.join(one.said)}{mended}",
                flush=True,
            )
    print(f"{len(results)} cases of {options.half}: {sum(bool(one.truth) for one in results)} sick")
    print(summary(bars(results)))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
