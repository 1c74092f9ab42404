"""The verbs: functions over jobs and run folders. The command line calls these and nothing else."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwell.core.errors import JobError, StepwellError
from stepwell.engine.records.run_folder import RunFolder
from stepwell.models import registry
from stepwell.recipe.applying import csv_text, evaluate, predict
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.delivered import rebuilding
from stepwell.recipe.explaining.explain import explanation
from stepwell.recipe.explaining.schedule_view import Course, constant_rate, courses
from stepwell.recipe.initial import initialised
from stepwell.recipe.job import Job
from stepwell.recipe.preflight import preflight
from stepwell.recipe.record import run_and_record, start_folder
from stepwell.recipe.resolve import Derived
from stepwell.recipe.resuming import require_longer, with_limits
from stepwell.recipe.run import Assembly, Ingredients, Meaning, Run
from stepwell.recipe.run_records import load_data, read_run, require_same_data
from stepwell.recipe.tasks import objective_for
from stepwell.recipe.values.blame import blaming, written_as

__all__ = ["check", "csv_text", "evaluate", "explain", "predict", "prepared", "ready", "resume", "schedule", "train"]


@dataclass(frozen=True)
class Explanation:
    """What a job would do, as text."""

    text: str


@dataclass(frozen=True)
class CheckResult:
    """Whether a job can start, as text and as a verdict."""

    text: str
    ok: bool


def train(
    job: Job, *, out: str | Path | None = None, base: str | Path | None = None, progress: Any = None, watch: Any = None
) -> Run:
    """Train a job from its data to a delivered, tested model.

    Args:
        job: everything that the run is made of.
        out: the run folder, new or empty; None writes nothing.
        base: the folder that relative data paths start from (a job file's own); where the data isn't there, or without
            one, they start from the working directory.
        progress: a live watcher, see `stepwell.engine.records.history.Progress`.
        watch: judges the run as it goes, see `stepwell.engine.records.history.Watch` and `stepwell.doctor.live.LiveRules`.

    Raises:
        StepwellError: a mistake in the job or the data, before anything was trained.
        TrainingStopped, Interrupted: while training; what was done is saved where there is a folder.
    """
    place = _base(job, base)
    loaded, parts = prepared(job, place)
    facts = _initialised(parts, place)
    folder = None if out is None else start_folder(Path(out), job, data=_data_facts(loaded), base=str(place), **facts)
    return _run(parts, loaded, folder, progress, begun=False, watch=watch)


def resume(
    folder: str | Path,
    *,
    progress: Any = None,
    budget: str | None = None,
    max_time: str | None = None,
    watch: Any = None,
) -> Run:
    """Continue a run from its newest whole checkpoint, to the bits that it would have had without the break.

    Args:
        folder: a run folder.
        progress: a live watcher.
        budget: another budget than the one in effect, of what is done or more; relative durations and schedules follow
            it. It goes on record, and later resumes keep it.
        max_time: another limit in time than the job's, for what is trained now. Nothing else can change at a resume.
        watch: as `train`.

    Raises:
        RunFolderError: no run there, it is in use, or its job was edited by hand in more than budget and stop.
        DataError: the data isn't what it was.
        JobError: a budget below what is done, or for a run that something else ended.
    """
    run = read_run(Path(folder))
    given = budget if budget is not None else run.new_budget
    now = given if given is not None else run.on_record.budget_at()
    job = with_limits(run.job, budget=None if now == run.job.budget else now, max_time=max_time)
    loaded, parts = prepared(job, run.base)
    require_same_data(run.manifest, loaded.fingerprint, folder)
    _initialised(parts, run.base, run=Path(folder))
    run_folder = RunFolder(Path(folder))
    run_folder.lock()
    return _run(parts, loaded, run_folder, progress, begun=True, resumed=None if given is None else require_longer, watch=watch)


def explain(job: Job, *, base: str | Path | None = None) -> Explanation:
    """What a job would do: the loop with each technique on its line, derived values with reasons, parameter groups."""
    parts = ready(job, base)
    with blaming(job, "recipe", "model", "data", "device"):
        return Explanation(explanation(Assembly(parts)))


def schedule(job: Job, *, base: str | Path | None = None, points: int = 400) -> list[Course]:
    """The values that every scheduled field will have, without a step being taken; without a schedule, the constant rate.

    Args:
        points: most steps at which values are given.
    """
    _, parts = prepared(job, _base(job, base))
    with blaming(job, "recipe", "model", "data", "device"):
        assembly = Assembly(parts)
        return courses(assembly, points=points) or [constant_rate(assembly, points=points)]


def check(job: Job, *, base: str | Path | None = None) -> CheckResult:
    """Build everything and take one step on a copy, leaving no trace on disk."""
    parts = ready(job, base)
    with blaming(job, "recipe", "model", "data", "device"):
        assembly = Assembly(parts)
        preflight(assembly)
        report = assembly.step(assembly.source.next(0).to(assembly.device))
    if report.skipped is not None:
        return CheckResult(f"one step: {report.skipped} (loss {float(report.loss.sum()):.4g})", ok=False)
    lines = [
        f"data: {assembly.facts.num_samples} training samples, {assembly.facts.steps_per_epoch} steps an epoch",
        f"model: {sum(p.numel() for p in assembly.step.model.parameters()):,} parameters on {assembly.device}",
        f"one step: loss {float(report.loss.sum()):.4f}, gradient norm {float(report.grad_norm):.4f}, lr {report.lr:.3g}",
    ]
    if parts.validation is not None:
        metrics = assembly.evaluate(parts.validation)
        if not math.isfinite(metrics["loss"]):
            return CheckResult(f"after one step the validation loss is {metrics['loss']:g}", ok=False)
        lines.append("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    return CheckResult("\n".join([*lines, f"ready to train for {assembly.resolved.horizon.total_steps} steps"]), ok=True)


def _base(job: Job, base: str | Path | None) -> Path:
    """Where relative data paths start: the job's folder if the data is there, else the working directory."""
    path = getattr(getattr(job.data, "data", job.data), "path", None)  # of a source inside a source: its own
    if base is None or (path is not None and not Path(base, path).exists() and Path(path).exists()):
        return Path.cwd()
    return Path(base).resolve()


def ready(job: Job, base: str | Path | None = None) -> Ingredients:
    """The data and the model of a job, with the weights that it starts from."""
    place = _base(job, base)
    _, parts = prepared(job, place)
    _initialised(parts, place)
    return parts


def prepared(job: Job, base: Path) -> tuple[Any, Ingredients]:
    for name in ("data", "model", "task"):
        if getattr(job, name) is None:
            raise JobError(f"the job has no {name}", expected=f"{name}: in the job", fix=f"Add {name}: to the job file")
    with blaming(job, "recipe", "task"):
        check_recipe(job.recipe, task=job.task)
    loaded = load_data(job, base)
    derived = [Derived("data", dict(loaded.num_rows), "rows of each part")]
    if job.recipe.objective is None and job.task == "multi_task":
        own = objective_for(loaded.preparation.target.tasks)
        derived.append(Derived("recipe.objective", own, "each target's own objective, all of the same weight"))
        written = getattr(job, "_written", None)
        job = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, objective=own))
        job = job if written is None else written_as(job, written)
    with blaming(job, "model"):
        model = _built(job, loaded.signature)
    derived.append(Derived("model.outputs", loaded.signature.num_outputs, f"what the task {job.task} needs"))
    parts = Ingredients(
        job,
        model,
        loaded.train,
        loaded.validation if loaded.validation is not None and len(loaded.validation) else None,
        loaded.test,
        meaning=Meaning(
            num_outputs=loaded.signature.num_outputs,
            target_scale=loaded.preparation.target_scale,
            classes=loaded.classes,
            vocabulary=loaded.vocabulary,
            padding=loaded.padding,
        ),
        sampling=job.data.sampling,
        derived=derived,
    )
    return loaded, parts


def _initialised(parts: Ingredients, base: Path, *, run: Path | None = None) -> dict[str, Any]:
    """Load the weights that a run starts from; what goes into its manifest."""
    with blaming(parts.job, "init_from"):
        return initialised(parts, base, run=run)


def _built(job: Job, signature: Any) -> Any:
    try:
        return registry.build(job.model.name, signature, job.model.settings, seed=job.seed)
    except StepwellError:
        raise
    except Exception as error:  # the code of a model of one's own
        raise JobError(
            f"the builder of model {job.model.name!r} raised {type(error).__name__}: {error}",
            expected="a builder that works for this data",
            fix="Mend it, or change the model's settings; --debug shows the traceback",
        ) from error


def _data_facts(loaded: Any) -> dict[str, Any]:
    return {"name": loaded.name, "rows": dict(loaded.num_rows), "fingerprint": loaded.fingerprint}


def _run(parts: Ingredients, loaded: Any, folder: RunFolder | None, progress: Any, **how: Any) -> Run:
    return run_and_record(parts, folder, progress, describe=lambda assembly: _description(parts, loaded, assembly), **how)


def _description(parts: Ingredients, loaded: Any, assembly: Assembly) -> dict[str, Any]:
    job = parts.job
    weights = assembly.trainer.delivered().key
    return {
        "format": 1,
        "model": {"name": job.model.name, "settings": job.model.settings},
        "techniques": rebuilding(assembly.resolved.techniques),
        "signature": loaded.signature.to_dict(),
        "preparation": loaded.preparation.to_dict(),
        "task": job.task,
        "classes": loaded.classes,
        "weights": "best" if assembly.trainer.plan.deliver == "best" else weights,
        "load": "stepwell.recipe.delivered.load_delivered(FOLDER).model; weights alone: safetensors.torch.load_file",
    }
