"""Are the patients what their cards say? Each case is trained by the plain loop, before and after its fix, over two seeds.

    python -m benchmarks.clinic.check benchmarks.clinic.rules_seen [NAME ...]

A sick one must end at least 0.1 skill below its mended self, or crash; a healthy one must reach its floor. Names given after
the package limit the check to cases whose name contains one of them.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.clinic import loop
from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.vocabulary import IDS

SEEDS = (0, 1)
WORTH = 0.1
LONGEST = 6.0
MOST_PARAMETERS = 100_000
MOST_ROWS = 2_000


@dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Args:
        skill: on the validation data; 0 after a crash.
        seconds: of CPU time, which doesn't depend on what else the machine does.
        crash: name of the exception, or empty.
    """

    skill: float
    seconds: float
    crash: str


def run(setup: Setup, kind: str, *, seed: int) -> Outcome:
    """Train by the plain loop and judge."""
    began = time.process_time()
    try:
        loop.train(setup, seed=seed)
        reached, crash = loop.skill(setup, kind), ""
    except Exception as error:  # a user's loop may fail in any way, that is what these cases are about
        reached, crash = 0.0, type(error).__name__
    return Outcome(reached, time.process_time() - began, crash)


def card(case: Case) -> list[str]:
    """What can be said against the case without training."""
    complaints = [f"unknown id {name}" for name in (*case.accept, *case.tolerate) if name not in IDS]
    complaints += ["an id is both accepted and tolerated"] if set(case.accept) & set(case.tolerate) else []
    complaints += ["a healthy case needs a floor and has no fix"] if case.healthy and (not case.floor or case.fix) else []
    setup = case.build(0)
    if sum(tensor.numel() for tensor in setup["model"].parameters()) > MOST_PARAMETERS:
        complaints.append("the model is too large")
    if len(setup["train"]) > MOST_ROWS:
        complaints.append("too many training rows")
    return complaints + ([] if case.source.strip() else ["no source"])


def cured(case: Case, proofs: Mapping[str, Callable[[int], Setup]]) -> Callable[[int], Setup] | None:
    """How the mended setup is built: by the fix, or by the builder that shows what only the author can mend."""
    if case.fix is not None:
        fix = case.fix
        return lambda seed: fix(case.build(seed))
    return proofs.get(case.name)


def judge(case: Case, proofs: Mapping[str, Callable[[int], Setup]]) -> tuple[str, list[str]]:
    """A row of the table, and what is wrong with the case."""
    complaints = card(case)
    before = [run(case.build(seed), case.skill, seed=seed) for seed in SEEDS]
    mended = cured(case, proofs)
    after = [run(mended(seed), case.skill, seed=seed) for seed in SEEDS] if mended and not case.healthy else []
    slowest = max(outcome.seconds for outcome in (*before, *after))
    if slowest > LONGEST:
        complaints.append(f"takes {slowest:.1f} s")
    if case.healthy:
        lowest = min(outcome.skill for outcome in before)
        complaints += [f"below its floor of {case.floor}"] if lowest < case.floor else []
    elif not after:
        complaints.append("nothing shows that it is sick: give a fix or a proof")
    else:
        gains = [later.skill - earlier.skill for earlier, later in zip(before, after)]
        if min(gains) < WORTH and not case.changes_data:
            complaints.append(f"the cure is worth {min(gains):.2f} only")
        complaints += [f"crashes after its cure: {outcome.crash}" for outcome in after if outcome.crash]
    return _row(case, before, after, slowest), complaints


def _row(case: Case, before: list[Outcome], after: list[Outcome], slowest: float) -> str:
    def text(outcomes: list[Outcome]) -> str:
        return " ".join(outcome.crash[:6] or f"{outcome.skill:6.3f}" for outcome in outcomes) or "     -      -"

    truth = "healthy" if case.healthy else case.accept[0]
    how = "data" if case.changes_data else "fix" if case.fix else "proof" if after else "-"
    return f"{case.name:36s} {truth:26s} {text(before)} | {text(after)} {how:5s} {slowest:5.2f} s"


def counts(cases: tuple[Case, ...]) -> list[str]:
    """How many cases there are by state, architecture, data and id."""
    sick = [case for case in cases if not case.healthy]
    lines = [f"{len(sick)} sick, {len(cases) - len(sick)} healthy; {sum(case.fix is not None for case in sick)} with a fix"]
    for words in ("architecture", "data", "skill"):
        lines.append(
            f"{words}: " + ", ".join(f"{key} {count}" for key, count in Counter(getattr(c, words) for c in cases).items())
        )
    ids = Counter(case.accept[0] for case in sick)
    lines.append("ids: " + ", ".join(f"{key} {count}" for key, count in sorted(ids.items())))
    absent = sorted(IDS - {name for case in sick for name in case.accept})
    return [*lines, "absent: " + (", ".join(absent) or "none")]


def main(arguments: list[str]) -> int:
    """Check a package of cases; the exit status."""
    if not arguments:
        print(__doc__)
        return 2
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    package = importlib.import_module(arguments[0].removesuffix("/").removesuffix(".py").replace("/", "."))
    proofs: Mapping[str, Callable[[int], Setup]] = getattr(package, "PROOFS", {})
    chosen = [case for case in package.CASES if not arguments[1:] or any(part in case.name for part in arguments[1:])]
    num_bad = 0
    for case in chosen:
        row, complaints = judge(case, proofs)
        num_bad += bool(complaints)
        print(row + ("" if not complaints else "  <-- " + "; ".join(complaints)), flush=True)
    names = Counter(case.name for case in package.CASES)
    twice = [name for name, count in names.items() if count > 1]
    print("\n".join(counts(tuple(package.CASES))))
    print(f"{len(chosen)} checked, {num_bad} not as they say" + (f"; names given twice: {twice}" if twice else ""))
    return 1 if num_bad or twice else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
