"""What to try against diverging, slow, overfitted and too large trainings, in the order of the playbook, as changes of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from stepwell.doctor.findings import Remedy

__all__ = ["Trouble", "remedies"]

Trouble = Literal["diverging", "slow", "overfitting", "memory"]
Mapped = Mapping[str, Any]


def remedies(trouble: Trouble, job: Mapped) -> list[Remedy]:
    """The remedies of a trouble that a job can take, the first to try first.

    Args:
        job: as `Job.to_mapping` gives it; what it doesn't say is left out of the changes.

    >>> job = {"recipe": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 64}}
    >>> [dict(item.job) for item in remedies("memory", job)][:2]
    [{'recipe.micro_batch_size': 32}, {'recipe.micro_batch_size': 8}]
    >>> dict(remedies("diverging", job)[0].job)
    {'recipe.optimizer.lr': 0.01}
    """
    ways = {"diverging": _diverging, "slow": _slow, "overfitting": _overfitting, "memory": _memory}
    return list(ways[trouble](job))


def technique_settings(job: Mapped, name: str) -> Mapped | None:
    """A technique's settings in a job; None where it isn't in the recipe."""
    for item in (job.get("recipe") or {}).get("techniques") or ():
        if item == name:
            return {}
        if isinstance(item, Mapping) and item.get("name") == name:
            return item
    return None


def _rate(job: Mapped, factor: float) -> dict[str, Any]:
    optimizer = (job.get("recipe") or {}).get("optimizer") or {}
    lr = optimizer.get("lr") if isinstance(optimizer, Mapping) else None
    return {"recipe.optimizer.lr": float(f"{lr * factor:.6g}")} if isinstance(lr, (int, float)) and lr > 0 else {}


def _added(job: Mapped, name: str, **settings: Any) -> dict[str, Any]:
    """The change that adds a technique, or nothing where the recipe has it."""
    if technique_settings(job, name) is not None:
        return {}
    return {"recipe.techniques+": [{"name": name, **settings} if settings else name]}


def _diverging(job: Mapped) -> Iterator[Remedy]:
    yield Remedy("Lower the learning rate tenfold", job=_rate(job, 0.1))
    yield Remedy("Warm the learning rate up for longer", job=_longer_warmup(job))
    if technique_settings(job, "clip_norm") is None:
        yield Remedy("Clip the gradient norm", job=_added(job, "clip_norm"))
    yield Remedy("Look for NaN, infinite and extreme values in the data and in the loss")


def _longer_warmup(job: Mapped) -> dict[str, Any]:
    """Twice the warmup that a schedule has of its own, or one added beside it."""
    schedule = (job.get("recipe") or {}).get("schedule") or {}
    length = schedule.get("warmup") if isinstance(schedule, Mapping) else None
    if length is None:
        return _added(job, "warmup", length="10%")
    share = str(length).removesuffix("%")
    doubled = min(2.0 * float(share), 50.0) if share.replace(".", "", 1).isdigit() and str(length).endswith("%") else None
    return {} if doubled is None else {"recipe.schedule.warmup": f"{doubled:g}%"}


def _slow(job: Mapped) -> Iterator[Remedy]:
    yield Remedy("Raise the learning rate tenfold; `stepwell find-lr` measures which one fits", job=_rate(job, 10.0))
    if technique_settings(job, "warmup") is not None:
        yield Remedy("Shorten the warmup", job={"recipe.techniques.warmup.length": "1%"})
    yield Remedy("Check what the data looks like after preparation: scaled inputs, labels that belong to their rows")
    size = (job.get("recipe") or {}).get("batch_size")
    change = {"recipe.batch_size": max(size // 2, 1)} if isinstance(size, int) and size > 1 else {}
    yield Remedy("Check the batch size: smaller batches make more steps of the same budget in epochs", job=change)


def _overfitting(job: Mapped) -> Iterator[Remedy]:
    optimizer = (job.get("recipe") or {}).get("optimizer") or {}
    dropout = technique_settings(job, "dropout")
    probability = 0.1 if dropout is None else float(dropout.get("probability", 0.1))
    more = {"recipe.techniques.dropout.probability": min(2 * probability, 0.5)}
    yield Remedy("Raise dropout", job=_added(job, "dropout", probability=0.2) if dropout is None else more)
    if isinstance(optimizer, Mapping) and isinstance(decay := optimizer.get("weight_decay"), (int, float)):
        yield Remedy("Raise weight decay", job={"recipe.optimizer.weight_decay": max(10 * decay, 1e-4)})
    if job.get("task") in (None, "classification") and technique_settings(job, "label_smoothing") is None:
        yield Remedy("Smooth the labels", job=_added(job, "label_smoothing"))
    yield Remedy("Take a smaller model")
    yield Remedy("Augment the training data, or get more of it")


def _memory(job: Mapped) -> Iterator[Remedy]:
    """The batch of a step stays what it is: what is learned is the same but for rounding, except by the last two."""
    recipe = job.get("recipe") or {}
    size = recipe.get("micro_batch_size") or recipe.get("batch_size")
    for text, part in (("Take smaller batches at once", 2), ("Accumulate gradients over more of them", 8)):
        if isinstance(size, int) and size // part >= 1:
            smaller = size // part
            kept = f"{text}: micro-batches of {smaller}, the batch of a step unchanged"
            yield Remedy(kept, job={"recipe.micro_batch_size": smaller})
    if recipe.get("precision", "fp32") == "fp32":
        yield Remedy("Use mixed precision", job={"recipe.precision": "bf16"})
    if technique_settings(job, "activation_checkpointing") is None:
        yield Remedy("Compute activations again instead of keeping them", job=_added(job, "activation_checkpointing"))
    length = (job.get("data") or {}).get("length") if isinstance(job.get("data"), Mapping) else None
    change = {"data.length": length // 2} if isinstance(length, int) and length > 1 else {}
    yield Remedy("Shorten the sequences (or make the images smaller)", job=change)
