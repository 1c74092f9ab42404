"""What goes on record when a run starts and ends: the job, the circumstances, the delivered model."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stepwell.core.errors import RunFolderError
from stepwell.engine.confusion import Confusion
from stepwell.engine.history import Progress
from stepwell.engine.run_folder import RunFolder
from stepwell.engine.storage import explained, write_bytes
from stepwell.recipe.blame import blaming
from stepwell.recipe.files import dump
from stepwell.recipe.job import Job
from stepwell.recipe.preflight import preflight
from stepwell.recipe.run import Assembly, Ingredients, Run

PACKAGES = ("stepwell", "torch", "numpy", "pandas", "safetensors", "scikit-learn")


def start_folder(path: Path, job: Job, **facts: Any) -> RunFolder:
    """Create the run folder and write the job and the manifest.

    Raises:
        RunFolderError: the folder is in use, not empty or can't be written.
    """
    folder = RunFolder(path)
    try:
        folder.create(dump(job.to_mapping()))
    except BaseException:
        folder.close()  # whoever keeps the error would keep the lock
        raise
    try:
        folder.write("manifest.json", manifest(job) | facts)
    except BaseException:
        abandon(folder)
        raise
    return folder


def abandon(folder: RunFolder) -> None:
    """Let go of a run that failed; where nothing happened in it yet, take its folder away: it would block the next try."""
    path, metrics = folder.path, folder.path / "metrics"
    with suppress(OSError):
        begun = {item.name for item in path.iterdir()} - {"job.yaml", "manifest.json", "metrics", "lock"}
        if not begun and not (metrics.exists() and any(metrics.iterdir())):
            for name in ("manifest.json", "job.yaml", "lock"):
                (path / name).unlink(missing_ok=True)
            if metrics.exists():
                metrics.rmdir()
            path.rmdir()
    folder.close()


def reopen_folder(path: Path, job: Job) -> RunFolder:
    """Claim the folder of a run that is to go on.

    Raises:
        RunFolderError: it holds another job's run, or is in use.
    """
    if (path / "job.yaml").read_text(encoding="utf-8") != dump(job.to_mapping()):
        raise RunFolderError(
            f"{path} holds the run of another job", expected="the job that it was started with", fix="Choose another folder"
        )
    folder = RunFolder(path)
    folder.lock()
    return folder


def manifest(job: Job) -> dict[str, Any]:
    """Versions, hardware, git state and seed."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "base": str(Path.cwd()),
        "seed": job.seed,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": {
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed_files": len(ask("status", "--porcelain").splitlines())}
    except (OSError, subprocess.SubprocessError):
        return None


def run_and_record(
    parts: Ingredients,
    folder: RunFolder | None,
    progress: Progress | None,
    *,
    begun: bool,
    describe: Callable[[Assembly], dict[str, Any]],
) -> Run:
    """Try everything out, train to the end, write the model and the result; the folder is free again afterwards.

    Args:
        begun: whether the folder holds checkpoints of this run to go on from.
        describe: what goes beside the weights.
    """
    started = time.perf_counter()
    try:
        with blaming(parts.job, "recipe", "model", "data", "device"):
            assembly = Assembly(parts, folder=folder, progress=progress)
            preflight(assembly)
            if begun:
                assembly.trainer.resume()
            run = assembly.finish()
        if folder is not None:
            save_model(folder, run.model, describe(assembly))
            write_result(folder, run, assembly.confusion, seconds=time.perf_counter() - started)
        return run
    except BaseException:
        if folder is not None:
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
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with explained(folder.path / "model"):
        (folder.path / "model").mkdir(exist_ok=True)
        write_bytes(folder.path / "model" / "model.safetensors", save(tensors))
    folder.write("model/model.json", description)
