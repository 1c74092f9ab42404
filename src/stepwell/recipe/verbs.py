"""The verbs: functions over jobs and run folders. The command line calls these and nothing else."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.core.cells import inert_cell
from stepwell.core.errors import DataError, JobError, RunFolderError, StepwellError
from stepwell.core.reports import EvalReport
from stepwell.data.sources import eval_batches
from stepwell.engine.evaluate import evaluate as evaluate_model
from stepwell.engine.metrics.streaming import make_metrics
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.records.storage import read_json
from stepwell.models import registry
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.delivered import Delivered, load_delivered, rebuilding
from stepwell.recipe.explaining.explain import explanation
from stepwell.recipe.explaining.schedule_view import Course, constant_rate, courses
from stepwell.recipe.files import read_job
from stepwell.recipe.initial import initialised
from stepwell.recipe.job import Job
from stepwell.recipe.preflight import preflight
from stepwell.recipe.readable import require_kind
from stepwell.recipe.record import run_and_record, start_folder
from stepwell.recipe.resolve import Derived
from stepwell.recipe.resuming import require_longer, with_limits
from stepwell.recipe.run import Assembly, Ingredients, Meaning, Run, device_of, evaluation_size
from stepwell.recipe.run_paths import require_folder
from stepwell.recipe.tasks import metric_names, objective_for, outputs_of, task_of
from stepwell.recipe.values.blame import blaming, written_as

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Explanation:
    """What a job would do, as text."""

    text: str


@dataclass(frozen=True)
class CheckResult:
    """Whether a job can start, as text and as a verdict."""

    text: str
    ok: bool


def train(job: Job, *, out: str | Path | None = None, base: str | Path | None = None, progress: Any = None) -> Run:
    """Train a job from its data to a delivered, tested model.

    Args:
        job: everything that the run is made of.
        out: the run folder, new or empty; None writes nothing.
        base: the folder that relative data paths start from (a job file's own); where the data isn't there, or without
            one, they start from the working directory.
        progress: a live watcher, see `stepwell.engine.records.history.Progress`.

    Raises:
        StepwellError: a mistake in the job or the data, before anything was trained.
        TrainingStopped, Interrupted: while training; what was done is saved where there is a folder.
    """
    place = _base(job, base)
    loaded, parts = prepared(job, place)
    facts = _initialised(parts, place)
    folder = None if out is None else start_folder(Path(out), job, data=_data_facts(loaded), base=str(place), **facts)
    return _run(parts, loaded, folder, progress, begun=False)


def resume(folder: str | Path, *, progress: Any = None, budget: str | None = None, max_time: str | None = None) -> Run:
    """Continue a run from its newest whole checkpoint, to the bits that it would have had without the break.

    Args:
        folder: a run folder.
        progress: a live watcher.
        budget: another budget than the job's, of what is done or more; relative durations and schedules follow it.
        max_time: another limit in time than the job's, for what is trained now. Nothing else can change at a resume.

    Raises:
        RunFolderError: no run there, it is in use, or the data isn't what it was.
        JobError: a budget below what is done, or for a run that something else ended.
    """
    job, manifest = _read_run(Path(folder))
    job = with_limits(job, budget=budget, max_time=max_time)
    loaded, parts = prepared(job, Path(manifest["base"]))
    _require_same_data(manifest, loaded, folder)
    run_folder = RunFolder(Path(folder))
    run_folder.lock()
    return _run(parts, loaded, run_folder, progress, begun=True, resumed=None if budget is None else require_longer)


def evaluate(folder: str | Path, *, split: str = "test", data: str | Path | None = None) -> EvalReport:
    """Metrics of a finished run's model on a part of its data, or on a new file.

    Args:
        split: "test" (untouched while training), "validation" or "train".
        data: a file of the job's kind, with targets, instead of a part.
    """
    delivered = load_delivered(Path(folder))
    job, manifest = _read_run(Path(folder))
    if data is not None:
        require_kind(delivered.preparation, data)
        examples: Any = delivered.preparation.examples_from(data, with_targets="required")
        split = str(data)
    else:
        loaded = _load_data(job, Path(manifest["base"]))
        _require_same_data(manifest, loaded, folder)  # another split could put rows that were trained on into the test part
        examples = {"train": loaded.train, "validation": loaded.validation, "test": loaded.test}.get(split)
        if examples is None or not len(examples):
            raise DataError(
                f"the run has no {split} part",
                expected="train, validation or test, as far as the job's split makes them",
                fix="Add e.g. split: {test: 0.2} to the job, or give a file with --data",
            )
    result = _read_record(Path(folder) / "result.json")
    metrics = _evaluate(delivered, examples, job)
    return EvalReport(result["steps"], 0.0, metrics, split=split, weights=delivered.description.get("weights", "trained"))


def predict(folder: str | Path, data: str | Path, *, out: str | Path | None = None, samples: int = 0) -> DataFrame:
    """Predictions of a finished run's model for a new file: unseen categories are allowed, columns in any order.

    Args:
        data: a file of the job's kind; targets aren't needed.
        out: where to write the predictions as CSV, or None; masks go into an .npz file, under the key "masks".
        samples: passes with dropout left on (Monte-Carlo dropout), from 2 up; adds columns with the spread of the
            passes and the entropy of their mean. 0 for one pass without dropout.

    Returns:
        One row per row of the file: class and probabilities, or the value in original units; of several tasks each
        one's columns with its name in front; each class's share of an image's pixels; an embedding, or the distances
        in a pair or triplet.
    """
    import pandas as pd
    import torch

    from stepwell.core.batch import tree_leaves, tree_map
    from stepwell.engine.evaluate import evaluating

    if out is not None and (Path(out).is_dir() or not Path(out).parent.is_dir()):
        raise JobError(
            f"{out} is a folder" if Path(out).is_dir() else f"there is no folder {Path(out).parent}",
            expected="the path of a file to write, in a folder that exists",
            fix="Give another --out, or make the folder first",
        )
    if out is not None and isinstance(data, (str, Path)) and Path(out).resolve() == Path(data).expanduser().resolve():
        raise JobError(f"{out} is the data itself", expected="another file to write", fix="Give another --out")
    delivered = load_delivered(Path(folder))
    preparation = delivered.preparation
    require_kind(preparation, data)
    examples = preparation.examples_from(data, with_targets="ignored")
    batches = eval_batches(examples, batch_size=evaluation_size(examples))
    if samples:
        from stepwell.recipe.uncertainty import kind_of, predict_uncertainty, uncertainty_columns

        kind = kind_of(preparation.task)
        found = predict_uncertainty(delivered.model, batches, kind=kind, samples=samples)
        frame, outputs = pd.DataFrame(uncertainty_columns(preparation, found)), found.mean
    else:
        with evaluating(delivered.model):
            parts = [outputs_of(preparation.task, delivered.model, batch.inputs) for batch in batches]
        columns = iter([torch.cat(leaves) for leaves in zip(*map(tree_leaves, parts), strict=True)])
        outputs = tree_map(lambda _: next(columns), parts[0])
        frame = pd.DataFrame(preparation.decode(outputs))
    if out is not None:
        _write(Path(out), frame, preparation.arrays(outputs) if Path(out).suffix == ".npz" else {})
    return frame


def _write(out: Path, frame: DataFrame, arrays: dict[str, Any] | None) -> None:
    """Predictions as CSV, or the arrays of an .npz file."""
    import io

    import numpy as np

    from stepwell.engine.records.storage import write_bytes

    if arrays is None:
        raise JobError(
            f"{out.name} ends in .npz, but these predictions are columns", expected="masks to write", fix="Give a .csv file"
        )
    if not arrays:
        write_bytes(out, csv_text(frame).encode())
        return
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    write_bytes(out, held.getvalue())


def csv_text(frame: DataFrame) -> str:
    """Predictions as CSV; names of classes and columns stay text wherever it is opened."""
    safe = frame.rename(columns=inert_cell)
    safe = safe.apply(lambda column: column if column.dtype.kind in "biuf" else column.map(inert_cell))
    return str(safe.to_csv(index=False))


def explain(job: Job, *, base: str | Path | None = None) -> Explanation:
    """What a job would do: the loop with each technique on its line, derived values with reasons, parameter groups."""
    _, parts = prepared(job, _base(job, base))
    _initialised(parts, _base(job, base))
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
    _, parts = prepared(job, _base(job, base))
    _initialised(parts, _base(job, base))
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


def _load_data(job: Job, base: Path) -> Any:
    with blaming(job, "data", "split"):
        return job.data.load(base=base, split=job.split, task=job.task, seed=job.seed)


def prepared(job: Job, base: Path) -> tuple[Any, Ingredients]:
    for name in ("data", "model", "task"):
        if getattr(job, name) is None:
            raise JobError(f"the job has no {name}", expected=f"{name}: in the job", fix=f"Add {name}: to the job file")
    with blaming(job, "recipe", "task"):
        check_recipe(job.recipe, task=job.task)
    loaded = _load_data(job, base)
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


def _initialised(parts: Ingredients, base: Path) -> dict[str, Any]:
    """Load the weights that a new run starts from; what goes into its manifest. A resumed run has its own."""
    with blaming(parts.job, "init_from"):
        return initialised(parts, base)


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


def _read_run(folder: Path) -> tuple[Job, dict[str, Any]]:
    require_folder(folder)
    if not (folder / "job.yaml").exists():
        raise RunFolderError(
            f"{folder} holds no run",
            expected="a run folder with a job.yaml",
            fix="Give the folder that `stepwell train` printed",
        )
    job = read_job(folder / "job.yaml", given=("data", "model", "task"))
    if job.data is None or job.model is None:
        raise RunFolderError(
            f"{folder} was made by `fit` with data or a model given from Python",
            expected="the run of a job file",
            fix='Continue it from Python: fit(..., out=FOLDER, existing="resume")',
        )
    return job, _read_record(folder / "manifest.json", needs="base")


def _read_record(path: Path, needs: str = "steps") -> dict[str, Any]:
    try:
        record: dict[str, Any] = read_json(path)
        record[needs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunFolderError(
            f"{path} can't be read: {reason}",
            expected="the file as the run wrote it",
            fix=f"Put it back, or train anew: stepwell train {path.parent / 'job.yaml'}",
        ) from error
    return record


def _require_same_data(manifest: dict[str, Any], loaded: Any, folder: str | Path) -> None:
    known = manifest.get("data", {}).get("fingerprint")
    if known is not None and known != loaded.fingerprint:
        raise DataError(
            f"the data has changed since {folder} was started",
            expected=f"data with fingerprint {known[:12]}, found {loaded.fingerprint[:12]}",
            fix="Put the old data back, or train anew",
        )


def _evaluate(delivered: Delivered, examples: Any, job: Job) -> dict[str, float]:
    import torch

    from stepwell.core.catalog import lookup
    from stepwell.core.objectives.callable_loss import as_objective

    task = task_of(delivered.description["task"])
    chosen = job.recipe.objective
    preparation = delivered.preparation
    if chosen is None and task.name == "multi_task":
        chosen = lookup("multi_task").factory(tasks=objective_for(preparation.target.tasks)["tasks"])
    objective = as_objective(chosen) if chosen is not None else lookup(task.objective).factory()
    names = metric_names(task, examples.batch(torch.arange(1)).targets, objective)
    model = delivered.model.to(device_of(job.device))
    return evaluate_model(
        model,
        eval_batches(examples, batch_size=evaluation_size(examples)),
        objective=objective,
        metrics=make_metrics(names, target_scale=preparation.target_scale),
    )
