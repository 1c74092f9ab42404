"""The last steps of the checklist, as advice: regularise stepwise, try one cycle, enable mixed precision.

They come once a training works: where something is wrong, that is told instead. Advice is a note, never an alarm.
Source: seed 002 section 7.8.5 steps 6 to 8.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

from stepwell.doctor.bench import SEEDS, Bench
from stepwell.doctor.findings import Finding, Number, Remedy, Tried
from stepwell.doctor.remedies.cycles import cycled
from stepwell.doctor.remedies.half import bf16_check, half_precision, has_fast_bf16
from stepwell.doctor.remedies.regularising import STEPS, NotApplicable
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import Course, tried_of
from stepwell.report.text import amount

Advice = Literal["none", "cheap", "all"]
logger = logging.getLogger("stepwell.doctor")
GAP = 0.03  # of skill: below it there is nothing that regularising could close
LEAST = 0.01  # of skill: a gain that somebody would care for
MISSING = 0.02  # of skill: a training that is nearer to perfect has nothing to gain
FEWEST_STEPS = 50  # of a cycle: shorter ones are all warmup
PEAKS = (3.0, 10.0)  # times the constant rate: what a cycle bears at its top, Smith & Topin, arXiv:1708.07120
LARGE = 1_000_000  # parameters: of fewer, a step spends its time on anything but products
TOLERANCE = 0.02  # of the loss: bf16 keeps 8 bits, 0.4 % each operation
UNTRIED, HELPED = 0.5, 0.85  # how sure advice is


def advised(bench: Bench, mode: Advice) -> list[Finding]:
    """What may be tried next with a training that works.

    Args:
        bench: of the setup; its own training has been made.
        mode: "none"; "cheap": only what needs no more training; "all": each step tried on copies, while the budget lasts.
    """
    own = bench.own
    if mode == "none" or own.failed or not own.looks or own.last.train_skill is None:
        return []
    found: list[Finding] = []
    for ask in (_regularise, _one_cycle, _mixed_precision):
        try:
            found += ask(bench, mode)
        except Exception:
            logger.debug("no advice from %s: it can't look at this setup", ask.__name__, exc_info=True)
    return found


def better(tried: Tried) -> bool:
    """Whether every seed gained, and the mean gain is more than two seeds differ."""
    if len(tried.after) < 2 or any(after <= before for before, after in zip(tried.before, tried.after, strict=True)):
        return False
    spread = max(max(part) - min(part) for part in (tried.before, tried.after))
    return tried.gain >= LEAST and tried.gain > spread


def beside(bench: Bench, base: Setup, changed: Setup) -> Tried | None:
    """Train two setups side by side; None where that is more than is left of the budget."""
    before, after = list[Course](), list[Course]()
    for seed in SEEDS:
        if not bench.affords(changed, seeds=(seed,)):
            return None
        before.append(bench.course(base, seed=seed))
        after.append(bench.course(changed, seed=seed))
        if after[-1].skill() <= before[-1].skill():
            break
    return tried_of(before, after)


def _regularise(bench: Bench, mode: Advice) -> Iterator[Finding]:
    """Batch norm, dropout, weight decay, one after the other; each is kept while validation skill rises by it."""
    last = bench.own.last
    if bench.setup.val is None or last.val_skill is None or last.train_skill is None:
        return
    gap = last.train_skill - last.val_skill
    if gap < GAP:
        return
    evidence: dict[str, Number] = {"train_skill": last.train_skill, "val_skill": last.val_skill, "gap": round(gap, 4)}
    symptom = f"training rows are judged {gap:.2f} better than validation rows"
    cause = "what is learnt of the training rows doesn't all hold for unseen ones"
    if mode == "cheap":
        text = "Add batch norm, then dropout, then weight decay, one at a time; keep each only if validation skill rises"
        yield _note("regularise", UNTRIED, symptom, cause, evidence, Remedy(text))
        return
    kept, words, base, job = None, list[str](), bench.setup, dict[str, Number]()
    for step in STEPS:
        try:
            changed = step.change(base)
        except NotApplicable as reason:
            evidence[step.name] = f"doesn't apply: {reason}"
            continue
        tried = beside(bench, base, changed)
        if tried is None:
            evidence[step.name] = "not tried: it costs more than is left of the budget"
            break
        good = better(tried)
        evidence[step.name] = f"{_skills(tried)}, {'kept' if good else 'not kept'}"
        if good:
            base, kept = changed, tried
            words.append(step.text)
            job |= step.job(bench.setup)
    if kept is not None:
        final = base
        whole = beside(bench, bench.setup, final) or kept
        yield _note(
            "regularise", HELPED, symptom, cause, evidence, Remedy("; ".join(words), lambda given: final, job=job), tried=whole
        )


def _one_cycle(bench: Bench, mode: Advice) -> Iterator[Finding]:
    """The same steps with a rate that rises and falls once, and the momentum the other way round."""
    setup, own = bench.setup, bench.own
    missing = 1.0 - own.skill()
    if setup.schedule is not None or not bench.complete or setup.num_steps < FEWEST_STEPS or missing < MISSING:
        return
    evidence: dict[str, Number] = {"lr": setup.lr, "num_steps": setup.num_steps, "skill": own.skill(), "settled": settled(own)}
    symptom = f"the rate is {setup.lr:.3g} from the first step to the last"
    cause = "a rate fit for the middle is too high to settle at the end, and too low to get far before"
    if mode == "cheap":
        text = f"Try one cycle with its peak at {PEAKS[0] * setup.lr:.3g} to {PEAKS[1] * setup.lr:.3g}"
        job = {"recipe.schedule": "one_cycle", "recipe.optimizer.lr": PEAKS[0] * setup.lr}
        yield _note("one_cycle", UNTRIED, symptom, cause, evidence, Remedy(text, job=job))
        return
    best: tuple[float, Tried] | None = None
    for peak in PEAKS:
        tried = beside(bench, setup, cycled(setup, peak))
        evidence[f"peak_{peak:g}x"] = "not tried: the budget is spent" if tried is None else _skills(tried)
        if tried is not None and better(tried) and (best is None or tried.gain > best[1].gain):
            best = peak, tried
    if best is not None:
        peak, tried = best
        job = {"recipe.schedule": "one_cycle", "recipe.optimizer.lr": peak * setup.lr}
        text = f"Use one cycle with its peak at {peak * setup.lr:.3g}, momentum from 0.95 to 0.85 and back"
        remedy = Remedy(text, lambda given: cycled(given, peak), job=job)
        yield _note("one_cycle", HELPED, symptom, cause, evidence, remedy, tried=tried)


def _mixed_precision(bench: Bench, mode: Advice) -> Iterator[Finding]:
    """bf16 where the hardware computes in it, if the loss stays the same."""
    if not has_fast_bf16(bench.setup) or sum(part.numel() for part in bench.setup.model.parameters()) < LARGE:
        return
    check = bf16_check(bench.setup, bench.first_batch)
    evidence: dict[str, Number] = {"loss": check.loss, "loss_in_bf16": check.loss_in_bf16, "difference": check.difference}
    if not check.difference <= TOLERANCE:
        return
    text = "Compute the forward pass in bf16 (precision: bf16); weights, losses and updates stay in fp32"
    remedy = Remedy(text, half_precision, job={"recipe.precision": "bf16"})
    symptom = f"the loss in bf16 differs by {check.difference:.1e} of it, and this hardware computes in bf16"
    cause = "products in bf16 take half the memory and less time; worth it where training is slow"
    if mode == "cheap":
        yield _note("mixed_precision", UNTRIED, symptom, cause, evidence, remedy)
        return
    tried = beside(bench, bench.setup, half_precision(bench.setup))
    if tried is None:
        yield _note("mixed_precision", UNTRIED, symptom, cause, evidence, remedy)
    elif not worse(tried):
        yield _note("mixed_precision", HELPED, symptom, cause, evidence, remedy, tried=tried)


def worse(tried: Tried) -> bool:
    """Whether skill fell by more than two seeds differ, or by `LEAST` where they don't."""
    return tried.gain < -max(LEAST, max(tried.before) - min(tried.before))


def settled(course: Course) -> float:
    """After which share of its steps a course had nearly (within 0.02) the skill that it ended with, 0 to 1."""
    final = course.skill()
    for look in course.looks:
        skill = look.train_skill if look.val_skill is None else look.val_skill
        if skill is not None and skill >= final - MISSING:
            return round(look.step / max(course.last.step, 1), 3)
    return 1.0


def _skills(tried: Tried) -> str:
    before, after = (sum(part) / len(part) for part in (tried.before, tried.after))
    return f"validation skill {before:.3f} -> {after:.3f} over {amount(len(tried.after), 'seed')}"


def _note(
    name: str,
    confidence: float,
    symptom: str,
    cause: str,
    evidence: dict[str, Number],
    remedy: Remedy,
    *,
    tried: Tried | None = None,
) -> Finding:
    return Finding(name, confidence, symptom, cause, evidence, remedy, tried, severity="note")
