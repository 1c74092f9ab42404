"""From suspicions to findings: a remedy is tried on a copy, and what it doesn't help isn't told as a fault."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import stdev

from stepwell.doctor.bench import SEEDS, WELL, Bench
from stepwell.doctor.confidence import confidence, standing_of
from stepwell.doctor.findings import Finding, Measure, Suspicion, Tried
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import tried_of

logger = logging.getLogger("stepwell.doctor")

LEAST_GAIN = 0.05  # of validation skill: less is within what another seed does
LEAST_GENERAL_GAIN = 0.08  # of remedies that make most trainings a little better: another rate, more epochs
ONCE = 3.0  # times as much, where it is seen with one seed only
LEAST_SHARE = 0.1  # of what is missing to a perfect skill
FAIRLY = 0.4  # of a gain: a cause that brings so much by itself is the root
NEARLY = 0.8  # of the best gain: such a remedy helps about as much
MOST_TOLD = 2
MOST_FIRST = 3  # remedies that are tried before the run's own questions
MOST_RIVALS = 2  # remedies that are tried beside one that leaves nothing to gain
SPECIFIC = 0.7  # weight, from which on a suspicion is one of this setup alone
STRONG = 0.9  # weight of a measurement that says more than a remedy of what follows from it
MEASURED = 0.6  # weight of what is told beside a last resort
LAST_RESORT = 0.2  # weight: such a remedy helps against nearly everything, and is tried only where no other helped
_ORDER = {"certain": 0, "mechanism": 1, "symptom": 2}


def helps(tried: Tried, *, least: float = LEAST_GAIN, once: float = ONCE) -> bool:
    """Whether a remedy made a training better by more than seeds differ.

    Validation skill rises by `least` and by `LEAST_SHARE` of what was missing, by as much as the gains of seeds spread, and in
    all seeds but one of three. Of a single seed, where there is no time for a second, `once` times as much is asked.
    """
    gains = _gains(tried)
    if len(gains) == 1:
        return _worth(tried, once * least)
    return _worth(tried, least) and sum(gain <= 0 for gain in gains) <= len(gains) - 2 and tried.gain >= stdev(gains)


def _undecided(tried: Tried) -> bool:
    """Whether the gain would be worth it, but two seeds differ too much to tell."""
    return len(tried.after) == 2 and _worth(tried) and not helps(tried)


def _worth(tried: Tried, least: float = LEAST_GAIN) -> bool:
    return tried.gain >= max(least, LEAST_SHARE * (1.0 - sum(tried.before) / len(tried.before)))


def _gains(tried: Tried) -> list[float]:
    return [after - before for before, after in zip(tried.before, tried.after, strict=True)]


def judged(bench: Bench, found: Iterable[Suspicion]) -> list[Finding]:
    """Findings, the likeliest first.

    Certain suspicions stand alone. Otherwise remedies are tried in the order of their weight, until one of them leaves nothing to
    gain; of those that helped about as much as the best, the weightiest is told, and what was measured but has no remedy to try
    only where no other helped.
    """
    ordered = sorted(found, key=lambda item: (_ORDER[item.proof] > 0, -item.weight))
    certain = [item for item in ordered if item.proof == "certain"]
    if certain:
        first, *others = _without_explained([(item, None) for item in certain])
        return [replace(first, tried=_shown(bench, certain, first)), *others]
    helped, failed = _tried(bench, ordered)
    root = _measured_root(bench, ordered, helped)
    if root is not None:
        return _without_explained([(root, None)])
    if helped:
        kept = _roots(helped)
        most = max(tried.gain for _, tried in kept)
        told: list[tuple[Suspicion, Tried | None]] = [pair for pair in kept if pair[1].gain >= NEARLY * most]
        if all(item.weight <= LAST_RESORT for item, _ in told):
            told += [(item, None) for item in failed if item.proof == "mechanism" and item.weight >= MEASURED][:1]
        return _without_explained(told)[:MOST_TOLD]
    measured = [item for item in ordered if item.proof == "mechanism" and (item.remedy.change is None or _stalls(bench, item))]
    return _without_explained([(item, None) for item in measured])


def _stalls(bench: Bench, item: Suspicion) -> bool:
    """Whether a mechanism of weight tells why nothing at all is learnt, though its remedy isn't enough or is too dear."""
    return item.weight >= SPECIFIC and "underfitting" in item.explains and bench.learns_nothing


def try_first(bench: Bench, found: Iterable[Suspicion]) -> None:
    """Try the weightiest remedies found so far, until one leaves nothing to gain.

    Further questions would use up what may be spent; what was trained is remembered.
    """
    likely = [item for item in found if item.weight >= SPECIFIC and item.remedy.change is not None]
    for item in sorted(likely, key=lambda item: -item.weight)[:MOST_FIRST]:
        tried = _trial(bench, item)
        if tried is not None and helps(tried) and _nothing_left(bench, tried):
            break


def _tried(bench: Bench, ordered: Sequence[Suspicion]) -> tuple[list[tuple[Suspicion, Tried]], list[Suspicion]]:
    """The suspicions whose remedies helped, and those whose didn't; once nothing is left to gain, a few rivals more are asked."""
    helped: list[tuple[Suspicion, Tried]] = []
    failed: list[Suspicion] = []
    rivals = MOST_RIVALS
    for item in ordered:
        if item.remedy.change is None or any(_covered(bench, item, *one) for one in helped):
            continue
        if (helped and item.weight <= LAST_RESORT) or rivals == 0:
            break
        tried = _trial(bench, item)
        if tried is None:
            continue
        solved = any(_nothing_left(bench, one) for _, one in helped)
        least = LEAST_GAIN if item.weight >= SPECIFIC else LEAST_GENERAL_GAIN
        if helps(tried, least=least, once=1.0 if bench.learns_nothing else ONCE):
            helped.append((item, tried))
        else:
            failed.append(item)
        rivals -= solved
    return helped, failed


def _covered(bench: Bench, item: Suspicion, root: Suspicion, gained: Tried) -> bool:
    """Whether a remedy needn't be tried beside one that helped: it is the same fault, or one that follows from it, and little is
    left to gain."""
    return item.id == root.id or (item.id in root.explains and _nothing_left(bench, gained))


def _measured_root(bench: Bench, ordered: Iterable[Suspicion], helped: Sequence[tuple[Suspicion, Tried]]) -> Suspicion | None:
    """A strong measurement that only the author can mend, where it explains all that helped and these leave much to gain."""
    if not helped or any(_nothing_left(bench, tried) for _, tried in helped):
        return None
    for item in ordered:
        strong = item.proof == "mechanism" and item.remedy.change is None and item.weight >= STRONG
        if strong and all(one.id in item.explains for one, _ in helped):
            return item
    return None


def _shown(bench: Bench, certain: Sequence[Suspicion], finding: Finding) -> Tried | None:
    """What the remedy of a certain finding does: evidence, on which the verdict doesn't rest.

    None where rows change, so that skills don't compare.
    """
    item = next(one for one in certain if one.remedy is finding.remedy)
    if item.remedy.change is None:
        return None
    try:
        mended = bench.mended(item.remedy)
        if mended.train is not bench.setup.train or mended.val is not bench.setup.val or not bench.affords(mended):
            return None
        return side_by_side(bench, mended, SEEDS, item.measure)
    except Exception:
        logger.debug("the remedy %s can't be tried on this setup", item.remedy.text, exc_info=True)
        return None


def side_by_side(bench: Bench, mended: Setup, seeds: tuple[int, ...], measure: Measure) -> Tried:
    """Train the bench's setup and a mended one, seed by seed; each is judged by what its own outputs stand for."""
    befores = [bench.course(bench.setup, seed=seed) for seed in seeds]
    own = Bench(mended, bench.budget)
    steps = max(1, round(bench.trial_steps * mended.num_steps / bench.setup.num_steps))
    if own.task == bench.task:
        afters = [bench.course(mended, seed=seed) for seed in seeds]
    else:
        afters = [own.course(mended, seed=seed, num_steps=steps) for seed in seeds]
        bench.spent_steps += own.spent_steps
    return tried_of(befores, afters, measure)


def _trial(bench: Bench, item: Suspicion) -> Tried | None:
    """What the remedy does over two seeds, three where two can't tell, one where two are too dear; None where it can't be
    applied or even one is."""
    try:
        mended = bench.mended(item.remedy)
    except Exception:
        logger.debug("the remedy %s can't be applied to this setup", item.remedy.text, exc_info=True)
        return None
    if not bench.affords(mended):
        once = bench.affords(mended, seeds=SEEDS[:1])
        return bench.tried(mended, measure=item.measure, seeds=SEEDS[:1]) if once else None
    tried = bench.tried(mended, measure=item.measure)
    if _undecided(tried) and item.weight > LAST_RESORT and bench.affords(mended, seeds=(len(SEEDS),)):
        tried = bench.tried(mended, measure=item.measure, seeds=(*SEEDS, len(SEEDS)))
    return tried


def _roots(helped: list[tuple[Suspicion, Tried]]) -> list[tuple[Suspicion, Tried]]:
    """Without what a weightier one explains, if that one's remedy brought a fair part of the gain by itself."""
    return [
        (item, tried)
        for item, tried in helped
        if not any(
            item.id in root.explains and root.weight > item.weight and gained.gain >= FAIRLY * tried.gain
            for root, gained in helped
        )
    ]


def _nothing_left(bench: Bench, tried: Tried) -> bool:
    """Whether a mended training does as well as can be told."""
    skill = min(tried.after)
    attainable = 1.0 if bench.reference is None else max(bench.reference.best, skill)
    return skill >= attainable - LEAST_GAIN and (bench.reference is not None or skill >= WELL)


def _without_explained(pairs: Sequence[tuple[Suspicion, Tried | None]]) -> list[Finding]:
    """Findings, weightiest first, without what one before them explains."""
    told: list[tuple[Suspicion, Tried | None]] = []
    explained: set[str] = set()
    for item, tried in sorted(pairs, key=lambda pair: -pair[0].weight):
        if item.id not in explained and all(item.id != one.id for one, _ in told):
            told.append((item, tried))
            explained |= set(item.explains)
    return [_finding(item, tried, len(told) - 1) for item, tried in told]


def _finding(item: Suspicion, tried: Tried | None, num_rivals: int) -> Finding:
    standing = standing_of(item, tried, num_rivals)
    return Finding(
        item.id,
        confidence(standing),
        item.symptom,
        item.cause,
        item.evidence,
        item.remedy,
        tried,
        severity="blocker" if item.blocks else "harm",
        standing=standing,
    )
