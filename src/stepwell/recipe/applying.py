"""What is done with the model of a finished run: it is measured, and it predicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.core.batch import Batch
from stepwell.core.cells import inert_cell
from stepwell.core.errors import DataError, JobError
from stepwell.core.reports import EvalReport
from stepwell.data.sources import eval_batches
from stepwell.engine.evaluate import evaluate as evaluate_model
from stepwell.engine.metrics.streaming import make_metrics
from stepwell.engine.shortage import Cut, SparingPass
from stepwell.recipe.delivered import Delivered, load_delivered
from stepwell.recipe.job import Job
from stepwell.recipe.readable import require_kind
from stepwell.recipe.run import device_of, evaluation_size
from stepwell.recipe.run_records import load_data, read_record, read_run, require_same_data
from stepwell.recipe.tasks import metric_names, objective_for, outputs_of, task_of

if TYPE_CHECKING:
    from pandas import DataFrame


def evaluate(folder: str | Path, *, split: str = "test", data: str | Path | None = None) -> EvalReport:
    """Metrics of a finished run's model on a part of its data, or on a new file.

    Args:
        split: "test" (untouched while training), "validation" or "train".
        data: a file of the job's kind, with targets, instead of a part.
    """
    delivered = load_delivered(Path(folder))
    run = read_run(Path(folder))
    if data is not None:
        require_kind(delivered.preparation, data)
        examples: Any = delivered.preparation.examples_from(data, with_targets="required")
        split = str(data)
    else:
        loaded = load_data(run.job, run.base)
        # Another split could put rows that were trained on into the test part.
        require_same_data(run.manifest, loaded.fingerprint, folder)
        examples = {"train": loaded.train, "validation": loaded.validation, "test": loaded.test}.get(split)
        if examples is None or not len(examples):
            raise DataError(
                f"the run has no {split} part",
                expected="train, validation or test, as far as the job's split makes them",
                fix="Add e.g. split: {test: 0.2} to the job, or give a file with --data",
            )
    result = read_record(Path(folder) / "result.json")
    metrics = _evaluate(delivered, examples, run.job)
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
    spared = SparingPass(what="a prediction")
    if samples:
        from stepwell.recipe.uncertainty import kind_of, predict_uncertainty, uncertainty_columns

        kind = kind_of(preparation.task)
        found = spared(
            lambda cut: predict_uncertainty(delivered.model, cut(_batches(examples)), kind=kind, samples=samples),
        )
        frame, outputs = pd.DataFrame(uncertainty_columns(preparation, found)), found.mean
    else:
        outputs = spared(lambda cut: _outputs(delivered, cut(_batches(examples))))
        frame = pd.DataFrame(preparation.decode(outputs))
    if out is not None:
        _write(Path(out), frame, preparation.arrays(outputs) if Path(out).suffix == ".npz" else {})
    return frame


def _batches(examples: Any) -> Iterator[Batch]:
    return eval_batches(examples, batch_size=evaluation_size(examples))


def _outputs(delivered: Delivered, batches: Iterable[Batch]) -> Any:
    """The model's outputs for all batches, put together."""
    import torch

    from stepwell.core.batch import tree_leaves, tree_map
    from stepwell.engine.evaluate import evaluating

    with evaluating(delivered.model):
        parts = [outputs_of(delivered.preparation.task, delivered.model, batch.inputs) for batch in batches]
    columns = iter([torch.cat(leaves) for leaves in zip(*map(tree_leaves, parts), strict=True)])
    return tree_map(lambda _: next(columns), parts[0])


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

    def once(cut: Cut) -> dict[str, float]:
        metrics = make_metrics(names, target_scale=preparation.target_scale)
        batches = cut(_batches(examples))
        return evaluate_model(model, batches, objective=objective, metrics=metrics)

    return SparingPass()(once)
