"""Rules on what a run has on record: each takes rows, and gives findings with evidence and a remedy for the job.

A record shows symptoms. So confidence stays below what a tried remedy would give, and what a healthy run may show too is a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwell.core.modules.layer_statistics import suggest_clip_norm
from stepwell.doctor.curves import Logged, Verdict
from stepwell.doctor.findings import Finding, Number, Remedy
from stepwell.doctor.troubleshooting import Mapped, Trouble, remedies, technique_settings

__all__ = ["compared_by", "course_of_rows", "curve_finding", "gradient_findings", "moved_share", "skipped_findings"]

Values = NDArray[np.float64]
# What makes a loss in training larger than in evaluation on the same rows, and what makes it another measure.
RAISING = {"dropout", "stochastic_depth", "mixup", "cutmix", "hidden_mixup", "label_smoothing", "erasing", "affine", "flip"}
RAISING |= {
    "color_jitter",
    "random_crop",
    "resized_crop",
    "rotation",
    "random_deletion",
    "random_insertion",
    "synonym_replacement",
}
RAISING |= {"back_translation"}
OTHER = {"class_weights", "distillation", "l1_penalty", "l2_penalty", "elastic_net"}
CLIPPING = ("clip_norm", "clip_value", "adaptive_clip")
MOVED = 0.3  # of the norm of the weights: weights that went so far weren't held back by a small rate
UNMOVED = 0.02
OFTEN_SKIPPED = 0.02  # of all steps
SPIKE = 10.0  # times the usual gradient norm


def compared_by(job: Mapped) -> Any:
    """How a job's training loss compares with its validation loss, see `Logged.compared`.

    >>> compared_by({"model": {"name": "mlp", "dropout": 0.1}, "recipe": {}}), compared_by({"model": {"name": "mlp"}})
    ('raised', 'same')
    """
    recipe = job.get("recipe") or {}
    names = {item.get("name") if isinstance(item, Mapping) else item for item in recipe.get("techniques") or ()}
    model = job.get("model") or {}
    if names & OTHER or (isinstance(job.get("data"), Mapping) and job["data"].get("sampling", "once") != "once"):
        return "other"
    dropping = [value for key, value in model.items() if "drop" in str(key)] if isinstance(model, Mapping) else []
    # Of a model that Python gave nobody knows whether it holds dropout.
    unknown = job.get("model") is None
    return "raised" if unknown or names & RAISING or any(isinstance(value, float) and value > 0 for value in dropping) else "same"


def curve_finding(found: Verdict, job: Mapped, *, moved: float | None = None) -> Finding | None:
    """What a pattern means for a job; None for "none".

    Args:
        moved: how far the norm of all weights went, as a share of itself, where that is known.
    """
    if found.pattern == "none":
        return None
    told: dict[str, Number] = {key: plain(value) for key, value in found.evidence.items()}
    told |= {"pattern": found.pattern, "strength": found.strength, "steps": [found.first_step, found.last_step]}
    told |= {"or": found.alternative} | ({} if moved is None else {"weights_moved": plain(moved)})
    made = {"flat": _flat, "diverging": _diverging, "overfitting": _overfitting, "memorised": _memorised}
    make = made.get(found.pattern, _underfitting if found.pattern == "underfitting" else _oscillating)
    return make(found, job, told, moved)


def plain(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _first(trouble: Trouble, job: Mapped, told: dict[str, Number]) -> Remedy:
    """The first remedy of a trouble; the evidence says which come next."""
    first, *then = remedies(trouble, job)
    told["then"] = [item.text for item in then]
    return first


def _flat(found: Verdict, job: Mapped, told: dict[str, Number], moved: float | None) -> Finding:
    symptom = "the loss has not fallen since the start"
    if moved is not None and moved > MOVED:
        return _unlearnt(symptom, told, job)
    cause = "steps are too small to get anywhere, or no gradient reaches the weights, or labels don't belong to their inputs"
    return Finding(
        "lr_too_low", 0.6 if moved is not None and moved < UNMOVED else 0.4, symptom, cause, told, _first("slow", job, told)
    )


def _unlearnt(symptom: str, told: dict[str, Number], job: Mapped) -> Finding:
    cause = "weights move far and learn nothing: steps are too large, or labels don't belong to their inputs"
    return Finding("lr_too_high", 0.4, symptom, cause, told, _first("diverging", job, told))


def _diverging(found: Verdict, job: Mapped, told: dict[str, Number], moved: float | None) -> Finding:
    if found.evidence.get("first_bad_step", 9) in (0, 1):
        symptom, cause = "loss or gradient were not finite from the first step on", "a value in the data is NaN or infinite"
        mend = Remedy("Look for NaN, infinite and extreme values in the data: `stepwell doctor JOB` says in which rows")
        return Finding("nan_in_inputs", 0.5, symptom, cause, told, mend, severity="blocker")
    cause = "the learning rate is too high: an update left the region where the gradient points downwards"
    symptom = f"the loss fell and then left its course at step {found.first_step:,}"
    return Finding("lr_too_high", 0.6, symptom, cause, told, _first("diverging", job, told), severity="blocker")


def _overfitting(found: Verdict, job: Mapped, told: dict[str, Number], moved: float | None) -> Finding:
    symptom = f"validation has not improved since step {found.first_step:,}, while the training loss stayed far below or fell on"
    cause = "the model learns the training rows by heart"
    return Finding("overfitting", 0.8, symptom, cause, told, _first("overfitting", job, told))


def _memorised(found: Verdict, job: Mapped, told: dict[str, Number], moved: float | None) -> Finding:
    stop = {} if technique_settings(job, "early_stopping") is not None else {"recipe.techniques+": ["early_stopping"]}
    cause = "moderate overfitting: what the model has learnt is useful all the same"
    symptom = "the training loss is near zero, the validation loss is reasonable"
    return Finding("overfitting", 0.6, symptom, cause, told, Remedy(found.fix, job=stop), severity="note")


def _underfitting(found: Verdict, job: Mapped, told: dict[str, Number], moved: float | None) -> Finding:
    mend = remedies("slow", job)[0]
    symptom = f"the losses have stopped falling since step {found.first_step:,} while most is left to be learnt"
    cause = "the model is too small or the optimizer is stuck; or nothing more can be learnt from this data"
    missing = float(str(found.evidence.get("missing", 0.0)))
    if missing >= 0.9 and moved is not None and moved > MOVED:
        return _unlearnt("the losses have stopped falling about where they began", told, job)
    return Finding(
        "underfitting", 0.4, symptom, cause, told, Remedy(found.fix, job=mend.job), severity="harm" if missing >= 0.7 else "note"
    )


def _oscillating(found: Verdict, job: Mapped, told: dict[str, Number], moved: float | None) -> Finding:
    symptom = f"the loss swings by {told['swing']} around {told['level']} and doesn't settle"
    cause = "the learning rate is too high for this phase, or batches are too small"
    return Finding("lr_too_high", 0.5, symptom, cause, told, _first("diverging", job, told))


def skipped_findings(rows: Sequence[Mapped], job: Mapped) -> Iterator[Finding]:
    """Steps that were left out because loss or gradient weren't finite; the few that loss scaling costs are usual."""
    skipped = sum(int(row.get("skipped") or 0) for row in rows)
    steps = int(rows[-1]["step"]) if rows else 0
    share = skipped / max(steps + skipped, 1)
    usual = 10 if (job.get("recipe") or {}).get("precision") == "fp16" else 0
    if skipped - usual < 3 or share < OFTEN_SKIPPED:
        return
    told: dict[str, Number] = {"skipped": skipped, "steps": steps, "share": plain(share)}
    cause = "gradients overflow: the learning rate is too high, or the data holds extreme values"
    symptom = f"{skipped:,} of {steps + skipped:,} steps were skipped, for numbers that aren't finite"
    yield Finding("unstable_gradient", 0.7, symptom, cause, told, _first("diverging", job, told))


def gradient_findings(rows: Sequence[Mapped], job: Mapped) -> Iterator[Finding]:
    """Gradient norms that jump by orders of magnitude and throw the loss back, or that have vanished altogether."""
    steps, norms, losses, weights = (_column(rows, name) for name in ("step", "grad_norm", "loss", "param_norm"))
    good = np.isfinite(norms) & np.isfinite(losses)
    if good.sum() < 20:
        return
    steps, norms, losses, weights = steps[good], norms[good], losses[good], weights[good]
    yield from _fluctuating(steps, norms, losses, job)
    ratio = float(np.median(norms / np.where(weights > 0, weights, math.nan))) if (weights > 0).all() else math.nan
    if ratio < 1e-8 and float(np.median(losses[-5:])) > 0.5 * abs(float(losses[0])):
        told: dict[str, Number] = {"gradient_to_weights": plain(ratio), "grad_norm": plain(float(np.median(norms)))}
        cause = "gradients die on the way from the loss: saturated or dead units, or a loss that doesn't depend on the weights"
        mend = Remedy("Add normalisation or residual connections, or other initial weights", job={})
        yield Finding("vanishing_gradient", 0.6, "hardly any gradient reaches the weights", cause, told, mend, severity="blocker")


def _fluctuating(steps: Values, norms: Values, losses: Values, job: Mapped) -> Iterator[Finding]:
    if any(technique_settings(job, name) is not None for name in CLIPPING):
        return  # norms are logged before clipping: such jumps are what it is there for
    usual, level = _running_median(norms), _running_median(losses)
    spikes = norms > SPIKE * usual
    # Thrown back: the loss there or in the next row is half as large again, and that is no small thing beside the start.
    worse = np.maximum(losses, np.r_[losses[1:], losses[-1]]) - level
    spikes &= (worse > 0.5 * np.abs(level)) & (worse > 0.05 * abs(float(losses[0])))
    count = int(spikes.sum())
    if count < max(3, 0.01 * len(norms)):
        return
    limit = suggest_clip_norm(norms.tolist()) or 1.0
    told: dict[str, Number] = {"spikes": count, "rows": len(norms), "usual_norm": plain(float(np.median(norms)))}
    told |= {"largest_norm": plain(float(norms.max())), "at": [int(step) for step in steps[spikes][:10]]}
    mend = Remedy(
        "Clip the gradient norm, warm the rate up", job={"recipe.techniques+": [{"name": "clip_norm", "max_norm": limit}]}
    )
    symptom = f"the gradient norm jumped tenfold {count} times, and the loss with it"
    yield Finding("unstable_gradient", 0.6, symptom, "single batches throw the weights back", told, mend)


def _running_median(values: Values, reach: int = 10) -> Values:
    padded = np.pad(values, reach, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1))


def _column(rows: Sequence[Mapped], name: str) -> Values:
    return np.array([float(row.get(name, math.nan)) for row in rows])


def moved_share(rows: Sequence[Mapped]) -> float | None:
    """How far the norm of all weights has gone since the first row, as a share of it; None where it wasn't logged."""
    norms = _column(rows, "param_norm")
    norms = norms[np.isfinite(norms)]
    return float(np.abs(norms - norms[0]).max() / norms[0]) if len(norms) > 1 and norms[0] > 0 else None


def course_of_rows(train: Sequence[Mapped], validation: Sequence[Mapped], job: Mapped, **known: Any) -> Logged:
    """The curves of a run's rows; those without a loss are left out."""
    train, validation = [row for row in train if "loss" in row], [row for row in validation if "loss" in row]
    return Logged(
        steps=_column(train, "step"),
        losses=_column(train, "loss"),
        val_steps=_column(validation, "step"),
        val_losses=_column(validation, "loss"),
        compared=compared_by(job),
        lrs=_column(train, "lr"),
        begins="trained" if job.get("init_from") else "untrained",
        **known,
    )
