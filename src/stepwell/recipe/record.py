"""What goes on record when a run starts and ends: the job, the circumstances, the delivered model."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.engine.metrics.confusion import Confusion
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.history import Progress, Watch
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.records.storage import explained, make_folder, remove, remove_empty, write_bytes
from stepwell.engine.records.tensors import encode_tensors
from stepwell.recipe.evidence.happenings import note_end, note_failure, note_start, refuse_lost_checkpoints
from stepwell.recipe.evidence.job_record import manifest_of, require_job
from stepwell.recipe.evidence.manifest import manifest
from stepwell.recipe.files import dump, parse_job
from stepwell.recipe.job import Job
from stepwell.recipe.preflight import preflight
from stepwell.recipe.run import Assembly, Ingredients, Run
from stepwell.recipe.run_records import require_same_data
from stepwell.recipe.values.blame import blaming
from stepwell.recipe.values.secrets import refuse_secrets


def start_folder(path: Path, job: Job, **facts: Any) -> RunFolder:
    """Create the run folder and write the job and the manifest.

    Raises:
        JobError: the job holds a secret.
        RunFolderError: the folder is in use, not empty or can't be written.
    """
    refuse_secrets(job.to_mapping())
    text, base = dump(job.to_mapping()), Path(str(facts.get("base", Path.cwd())))
    folder = RunFolder(path)
    try:
        folder.create(text)
    except BaseException:
        folder.close()  # whoever keeps the error would keep the lock
        raise
    try:
        folder.write("manifest.json", manifest(job, text, base=base) | facts)
    except BaseException:
        abandon(folder)
        raise
    return folder


def abandon(folder: RunFolder) -> None:
    """Let go of a run that failed; where nothing happened in it yet, take its folder away: it would block the next try."""
    path, metrics = folder.path, folder.path / "metrics"
    with suppress(OSError):
        begun = {item.name for item in path.iterdir()} - {"job.yaml", "manifest.json", "metrics", "lock", "events.jsonl"}
        begun |= {event.kind for event in read_events(path / "events.jsonl")} - {"started", "failed"}
        if not begun and not (metrics.exists() and any(metrics.iterdir())):
            for name in ("events.jsonl", "manifest.json", "job.yaml", "lock"):
                remove(path / name)
            remove_empty(metrics)
            remove_empty(path)
    folder.close()


def reopen_folder(path: Path, job: Job, data: dict[str, Any]) -> RunFolder:
    """Claim the folder of a run that is to go on.

    Args:
        data: what is known of it now, see `stepwell.data.content.facts_of`.

    Raises:
        RunFolderError: it holds another job's run, its job was edited by hand, or it is in use.
        DataError: the data isn't what the run was started with.
    """
    if not same_job((path / "job.yaml").read_text(encoding="utf-8"), job):
        raise RunFolderError(
            f"{path} holds the run of another job", expected="the job that it was started with", fix="Choose another folder"
        )
    require_job(path)
    require_same_data(manifest_of(path), data["fingerprint"], path)
    folder = RunFolder(path)
    folder.lock()
    return folder


def same_job(text: str, job: Job) -> bool:
    """Whether a run's job is this one; a text from a version that had fewer settings is, where theirs have their defaults."""
    if text == dump(job.to_mapping()):
        return True
    try:
        return dump(parse_job(text, given=("data", "model", "task")).to_mapping()) == dump(job.to_mapping())
    except StepwellError:
        return False


def run_and_record(
    parts: Ingredients,
    folder: RunFolder | None,
    progress: Progress | None,
    *,
    begun: bool,
    describe: Callable[[Assembly], dict[str, Any]],
    resumed: Callable[[Assembly], None] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Try everything out, train to the end, write the model and the result; the folder is free again afterwards.

    Args:
        begun: whether the folder holds checkpoints of this run to go on from.
        describe: what goes beside the weights.
        resumed: looks at a run whose state was just loaded, and may refuse to go on.
        watch: judges the rows that are recorded.
    """
    started = time.perf_counter()
    try:
        with blaming(parts.job, "recipe", "model", "data", "device"):
            assembly = Assembly(parts, folder=folder, progress=progress, watch=watch)
            preflight(assembly)
            if begun and folder is not None:
                refuse_lost_checkpoints(folder.path)
            found = begun and assembly.trainer.resume()
            if begun and resumed is not None:
                resumed(assembly)
            if folder is not None:
                note_start(folder, assembly, begun="resumed" if found else "again" if begun else "now")
            run = assembly.finish()
        if folder is not None:
            save_model(folder, run.model, describe(assembly))
            write_result(folder, run, assembly.confusion, seconds=time.perf_counter() - started)
            note_end(folder, assembly, run)
        return run
    except BaseException as error:
        if folder is not None:
            note_failure(folder, error)
            with suppress(OSError):  # of a full disk: what happened first is what is told
                folder.close_files()
            if not begun:
                abandon(folder)
        raise
    finally:
        if folder is not None:
            folder.close()


def write_result(folder: RunFolder, run: Run, confusion: Confusion | None, *, seconds: float) -> None:
    """Write result.json: how the run ended, its metrics and, for classes, the confusion matrix."""
    matrix = {}
    if confusion is not None:
        matrix = {"confusion_matrix": confusion.counts, "classes": confusion.classes, "confusion_part": confusion.part}
    folder.write(
        "result.json",
        {
            "stop_reason": run.stop_reason,
            "steps": run.steps,
            "best": run.best,
            "metrics": run.metrics,
            "test": run.test_metrics,
            "seconds": round(seconds, 3),
            "derived": [{"path": item.path, "value": item.value, "reason": item.reason} for item in run.derived],
            "task": run.task.name if run.task else None,
            "headline": run.task.headline if run.task else "loss",
        }
        | matrix,
    )


def save_model(folder: RunFolder, model: torch.nn.Module, description: dict[str, Any]) -> None:
    """Write model/model.safetensors and model/model.json."""
    with explained(folder.path / "model"):
        make_folder(folder.path / "model")
        write_bytes(folder.path / "model" / "model.safetensors", encode_tensors(model.state_dict()))
    folder.write("model/model.json", description)
