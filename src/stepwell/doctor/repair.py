"""Applying remedies on a copy, one after the other, each kept only if it helps or can't be wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from stepwell.doctor.bench import SEEDS, Bench
from stepwell.doctor.findings import Finding, Measure, Remedy, Suspicion, Tried
from stepwell.doctor.judge import helps, side_by_side
from stepwell.doctor.setup import Setup

if TYPE_CHECKING:
    from stepwell.doctor.diagnose import Diagnosis

ROUNDS = 3
HARM = 0.02  # of validation skill: a certain remedy that costs more than another seed would is taken back
# Student's t for a two-sided interval of 90 %, by degrees of freedom from 1 on.
_T90 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)


@dataclass(frozen=True)
class Verified:
    """What a change did, seed by seed.

    Args:
        before, after: validation skill of each seed (training rows where there is no validation data).
        measure: "skill", or "balanced" where classes count the same.
        by: "training": both were trained and may be compared; "construction": rows were changed, so that the skills don't
            compare, and what was wrong is gone for certain.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    measure: Measure = "skill"
    by: Literal["training", "construction"] = "training"

    @property
    def gain(self) -> float:
        """Mean of the paired differences."""
        return fmean(self._differences)

    @property
    def interval(self) -> tuple[float, float]:
        """90 % of the mean difference, by Student's t over the seeds; without end for a single one.

        >>> low, high = Verified((0.5, 0.6), (0.8, 0.92)).interval
        >>> round(low, 4), round(high, 4)  # 0.31 -+ 6.314 * 0.01
        (0.2469, 0.3731)
        """
        differences = self._differences
        if len(differences) < 2:
            return -math.inf, math.inf
        t = _T90[min(len(differences) - 1, len(_T90)) - 1]
        half = t * stdev(differences) / math.sqrt(len(differences))
        return self.gain - half, self.gain + half

    @property
    def _differences(self) -> list[float]:
        return [after - before for before, after in zip(self.before, self.after, strict=True)]

    def __str__(self) -> str:
        name = "validation skill" if self.measure == "skill" else "validation skill (mean over classes)"
        text = f"{name} {fmean(self.before):.3f} -> {fmean(self.after):.3f}"
        if self.by == "construction":
            return f"{text}; rows were changed, so the two don't compare: right by construction"
        low, high = self.interval
        between = f", 90 % interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) else ""
        return f"{text}, {self.gain:+.3f} over {len(self.before)} seeds{between}"


@dataclass(frozen=True)
class Applied:
    """One remedy that was kept."""

    finding: Finding
    remedy: Remedy
    verified: Verified

    def __str__(self) -> str:
        return f"{self.finding.id}: {self.remedy.text}"


@dataclass
class Repair:
    """A mended copy of a setup.

    Args:
        setup: under the keywords of `diagnose`; any loop can train it. Validation data is the user's own, unless it was itself
            at fault.
        verified: the setup as it was against the mended one.
        steps: what was applied, in order, each with what it brought.
        left: findings that no remedy has mended; only the author of the model or the data can.
        mended: the same as `setup`, as the doctor holds it.
    """

    setup: dict[str, Any]
    verified: Verified
    steps: list[Applied] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    mended: Setup | None = field(default=None, repr=False)

    @property
    def applied(self) -> list[str]:
        """What was changed, in words."""
        return [str(step) for step in self.steps]

    @property
    def job(self) -> dict[str, Any]:
        """The same as changes of a job, dotted path -> value, as far as a job has words for it."""
        changes: dict[str, Any] = {}
        for step in self.steps:
            for path, value in step.remedy.job.items():
                changes[path] = [*changes.get(path, []), *value] if path.endswith("+") else value
        return changes


def repaired(diagnosis: Diagnosis, *, seeds: Sequence[int] = SEEDS, rounds: int = ROUNDS) -> Repair:
    """Apply what helps: a remedy of the first finding that has one; then look again, at most so many times.

    Args:
        diagnosis: of the setup; its trials are used again.
        seeds: of the trainings by which the whole is verified, >= 1.
        rounds: how many remedies are applied at most.
    """
    from stepwell.doctor.diagnose import examined

    now, steps = diagnosis, list[Applied]()
    for _ in range(rounds):
        step, mended = _first_that_helps(now, [step.remedy.text for step in steps])
        if step is None or mended is None:
            break
        steps.append(step)
        now = examined(mended, diagnosis.bench.budget)
    whole = compared(diagnosis.bench, now.setup, tuple(seeds), _measure(steps))
    by: Literal["training", "construction"] = "training"
    if any(step.verified.by == "construction" for step in steps):
        by = "construction"
    verified = Verified(whole.before, whole.after, whole.measure, by)
    left = [left_to_do(finding) for finding in now.findings if finding.severity != "note"]
    return Repair(now.setup.keywords(), verified, steps, left, now.setup)


def _first_that_helps(diagnosis: Diagnosis, done: Sequence[str]) -> tuple[Applied | None, Setup | None]:
    """The first finding that a remedy helps; of its remedies the one that brings the most."""
    for finding in diagnosis.findings:
        best: tuple[Applied | None, Setup | None] = (None, None)
        for item in _thought_of(diagnosis, finding) if finding.severity != "note" else []:
            found = _attempted(diagnosis.bench, finding, item, done)
            if found is not None and (best[0] is None or found[0].verified.gain > best[0].verified.gain + HARM):
                best = found
        if best[0] is not None:
            return best
    return None, None


def _attempted(bench: Bench, finding: Finding, item: Suspicion, done: Sequence[str]) -> tuple[Applied, Setup] | None:
    if item.remedy.change is None or item.remedy.text in done:
        return None
    try:
        mended = bench.mended(item.remedy)
    except Exception:  # a remedy that doesn't fit this setup: the next one
        return None
    verified = _verified(bench, finding, item, mended)
    return None if verified is None else (Applied(finding, item.remedy, verified), mended)


def _thought_of(diagnosis: Diagnosis, finding: Finding) -> list[Suspicion]:
    """The suspicion that a finding was made of first, then others of the same finding, with other remedies."""
    suspected = [item for item in diagnosis.suspicions if item.id == finding.id]
    own = [item for item in suspected if item.remedy is finding.remedy]
    return own + [item for item in suspected if item.remedy is not finding.remedy]


def _verified(bench: Bench, finding: Finding, item: Suspicion, mended: Setup) -> Verified | None:
    """What a remedy brings, or None where it isn't worth keeping.

    What was certain needs no gain: it is kept unless it harms. Where rows change, skills don't compare; it is kept unless a
    training that worked fails. All else must help, by the judge's measure.
    """
    if any(bench.course(mended, seed=seed).failed and not bench.course(bench.setup, seed=seed).failed for seed in SEEDS):
        return None
    if item.proof == "certain":
        found = compared(bench, mended, SEEDS, item.measure)
        if mended.train is not bench.setup.train or mended.val is not bench.setup.val:
            return Verified(found.before, found.after, item.measure, "construction")
        return found if found.gain >= -HARM else None
    tried = finding.tried if item.remedy is finding.remedy else None
    if tried is None:
        tried = bench.tried(mended, measure=item.measure)
        if not helps(tried) and tried.gain > 0:  # two seeds may differ too much to tell
            tried = bench.tried(mended, measure=item.measure, seeds=(*SEEDS, len(SEEDS)))
    return Verified(tried.before, tried.after, item.measure) if helps(tried) else None


def compared(bench: Bench, mended: Setup, seeds: tuple[int, ...], measure: Measure) -> Verified:
    """Train the bench's setup and a mended one, seed by seed."""
    tried = side_by_side(bench, mended, seeds, measure)
    return Verified(tried.before, tried.after, measure)


def _measure(steps: Sequence[Applied]) -> Measure:
    return "balanced" if any(step.verified.measure == "balanced" for step in steps) else "skill"


def left_to_do(finding: Finding) -> str:
    """A finding that nobody but the author can mend, with the line, tensors or rows that it is about."""
    text = f"{finding.id}: {finding.remedy.text}"
    where = finding.remedy.line or _where(finding.evidence)
    return f"{text} ({where})" if where else text


def _where(evidence: Mapping[str, Any]) -> str:
    """Which rows, columns and tensors the numbers name."""
    told = []
    for name, value in evidence.items():
        if isinstance(value, list) and value and name.split("_")[-1] in ("rows", "columns", "names"):
            told.append(f"{name.replace('_', ' ')}: {', '.join(map(str, value[:5]))}")
    return "; ".join(told)


def trial_text(tried: Tried) -> str:
    """What a remedy that was tried did, in one line."""
    return str(Verified(tried.before, tried.after)) + f", {tried.num_steps} steps each"
