"""`stepwell.fit`: train a module on data that Python holds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import IterableDataset

from stepwell.core.check import require_one_of
from stepwell.core.errors import DataError, JobError
from stepwell.data.content import facts_of
from stepwell.data.examples import Examples
from stepwell.data.from_python import examples_of
from stepwell.data.iterable import IterableSource, iterable_batches
from stepwell.data.sampling import Sampling
from stepwell.engine.records.run_folder import RunFolder, never_began
from stepwell.recipe.evidence.job_record import job_on_record
from stepwell.recipe.initial import initialised
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.record import reopen_folder, run_and_record, start_folder
from stepwell.recipe.resuming import require_longer
from stepwell.recipe.run import Assembly, Ingredients, Run

logger = logging.getLogger("stepwell.fit")


def fit(
    model: nn.Module,
    data: Any,
    *,
    val: Any = None,
    recipe: Recipe | None = None,
    budget: str = "10 epochs",
    seed: int = 0,
    out: str | Path | None = None,
    existing: Literal["refuse", "resume"] = "refuse",
    progress: Any = None,
    weights: Any = None,
    sampling: Sampling = "once",
    watch: Any = None,
    **settings: Any,
) -> Run:
    """Train a module, in place, by a recipe.

    Args:
        model: any nn.Module; a dict of inputs is passed by keyword, a list or tuple by position.
        data: (inputs, targets[, weights]) of tensors, arrays or frames, a Dataset, an iterable Dataset or a DataLoader.
        val: validation data of any of these kinds; None evaluates nothing.
        recipe: how to train; None takes AdamW at 1e-3 with a one-cycle schedule and clipping at norm 1.
        budget: planned work: "60 epochs", "500 steps", "2M tokens".
        seed: of every random draw.
        out: folder for checkpoints, metrics and the model; None writes nothing.
        existing: what to do where `out` already holds this job's run: refuse, or continue it from its newest checkpoint
            (the data must be the same; its fingerprint is compared).
        progress: a live watcher, see `stepwell.engine.records.history.Progress`.
        weights: one weight >= 0 per training example, (N,), where `data` doesn't hold them. Validation data has its
            own, as (inputs, targets, weights); they weigh in its loss and metrics.
        sampling: "once" draws each training example once an epoch; "balanced" each class equally often; "weighted" in
            proportion to the weights, which then don't weigh the loss a second time.
        watch: judges the run as it goes, such as `stepwell.doctor.live.LiveRules()`; None for nobody.
        settings: any other field of `Job`: task, init_from, device, workers, evaluate_every, checkpoint_every,
            log_every, stop, keep, saving.

    Returns:
        Run: model, history, best, metrics, stop_reason, steps.

    Raises:
        JobError, DataError: something doesn't fit; nothing was trained.
        TrainingStopped: a non-finite loss; the weights are those before it.

    >>> import torch
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)); y = (x.sum(1) > 0).long()
    >>> run = fit(torch.nn.Linear(4, 2), (x, y), budget="3 epochs")
    >>> run.steps, run.stop_reason
    (6, 'budget spent')
    """
    refuse_unknown_settings(settings)
    if existing not in ("refuse", "resume"):
        raise JobError(f"existing is {existing!r}", expected='"refuse" or "resume"', fix="To start anew, give another out")
    job = Job(recipe=recipe or default_recipe(), budget=budget, seed=seed, **settings)
    parts = ingredients(model, data, val, job, weights=weights, sampling=sampling)
    place = None if out is None else Path(out)
    begun = existing == "resume" and place is not None and (place / "job.yaml").exists() and not never_began(place)
    facts = initialised(parts, Path.cwd(), run=place if begun else None)
    folder, longer = (None, None) if place is None else _opened(place, job, parts, facts, begun=begun)
    return run_and_record(parts, folder, progress, begun=begun, describe=_describe, resumed=longer, watch=watch)


def _describe(assembly: Assembly) -> dict[str, Any]:
    return {"format": 1, "load": "safetensors.torch.load_file, into the module given to fit"}


def _opened(
    place: Path, job: Job, parts: Ingredients, facts: dict[str, Any], *, begun: bool
) -> tuple[RunFolder, Callable[[Assembly], None] | None]:
    """The run's folder, and what a resumed run must pass: where the budget is another one, that it is longer."""
    facts["data"] = facts_of(parts.train, parts.validation)
    if not begun:
        return start_folder(place, job, **facts), None
    folder = reopen_folder(place, job, facts["data"])
    return folder, require_longer if job_on_record(place).budget_at() != job.budget else None


def default_recipe() -> Recipe:
    """What `fit` does when it isn't told: AdamW 1e-3, one cycle, clipping at norm 1, batches of 32."""
    return Recipe(optimizer={"name": "adamw"}, schedule={"name": "one_cycle"}, techniques=[{"name": "clip_norm"}])


def refuse_unknown_settings(settings: dict[str, Any]) -> None:
    """Settings of `fit` are fields of Job; anything else is a mistake."""
    from stepwell.core.errors import nearest

    known = {"task", "init_from", "device", "workers", "evaluate_every", "checkpoint_every", "log_every"}
    known |= {"stop", "keep", "saving"}
    for name in settings:
        if name not in known:
            named = {"val", "recipe", "budget", "seed", "out", "existing", "progress", "weights", "sampling", "watch"}
            raise JobError(
                f"fit has no argument {name!r}", expected="an argument of fit or a field of Job", fix=nearest(name, known | named)
            )


def ingredients(
    model: nn.Module, data: Any, val: Any, job: Job, *, weights: Any = None, sampling: Sampling = "once"
) -> Ingredients:
    """Data in whatever form, as examples or sources."""
    if not isinstance(model, nn.Module):
        raise JobError(
            f"model is {type(model).__name__}",
            expected="a torch.nn.Module object",
            fix="Pass an instance, e.g. torch.nn.Linear(4, 2)",
        )
    # float64 data stays float64 where the model computes in it, and is halved for every other model.
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in model.parameters()) else torch.float32
    train: Any = examples_of(data, weights=weights, dtype=dtype)
    if isinstance(train, IterableDataset):
        require_one_of("sampling", sampling, ("once",), "Only data with a known length can be sampled otherwise")
        size = job.recipe.batch_size
        if size == "full":
            raise DataError(
                "batch_size is full but the data has no known length", expected="a number", fix="Set e.g. batch_size=64"
            )
        train = IterableSource(train, batch_size=size, seed=job.seed, dtype=dtype)
    validation: Any = None if val is None else examples_of(val, dtype=dtype)
    if isinstance(validation, IterableDataset):
        dataset = validation
        validation = lambda: iterable_batches(dataset, batch_size=256, dtype=dtype)  # noqa: E731
    elif validation is not None:
        require_same_shapes(train, validation)
    return Ingredients(job, model, train, validation, sampling=sampling)


def require_same_shapes(train: Any, validation: Examples) -> None:
    """Refuse validation data whose samples look different from the training data's."""
    from stepwell.core.batch import tree_leaves

    if not hasattr(train, "batch"):
        return
    one = torch.zeros(1, dtype=torch.int64)
    left, right = train.batch(one), validation.batch(one)
    for what in ("inputs", "targets"):
        shapes = [[tuple(leaf.shape[1:]) for leaf in tree_leaves(getattr(batch, what))] for batch in (left, right)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{what} of the validation data have shape {shapes[1]} a sample, those of the training data {shapes[0]}",
                expected="the same shapes",
                fix="Prepare both in the same way",
            )
