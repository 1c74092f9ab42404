"""What goes on record when a run starts and ends: the job, the circumstances, the delivered model."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stepwell.core.errors import RunFolderError
from stepwell.engine.run_folder import RunFolder
from stepwell.engine.storage import explained, write_bytes
from stepwell.recipe.files import dump
from stepwell.recipe.job import Job
from stepwell.recipe.run import Run

PACKAGES = ("stepwell", "torch", "numpy", "pandas", "safetensors", "scikit-learn")


def start_folder(path: Path, job: Job, **facts: Any) -> RunFolder:
    """Create the run folder and write the job and the manifest.

    Raises:
        RunFolderError: the folder is in use, not empty or can't be written.
    """
    folder = RunFolder(path)
    folder.create(dump(job.to_mapping()))
    folder.write("manifest.json", manifest(job) | facts)
    return folder


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


def write_result(folder: RunFolder, run: Run, *, seconds: float, extra: dict[str, Any] | None = None) -> None:
    """Write result.json and the delivered weights with how to load them."""
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
        }
        | (extra or {}),
    )


def save_model(folder: RunFolder, model: torch.nn.Module, description: dict[str, Any]) -> None:
    """Write model/model.safetensors and model/model.json."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with explained(folder.path / "model"):
        (folder.path / "model").mkdir(exist_ok=True)
        write_bytes(folder.path / "model" / "model.safetensors", save(tensors))
    folder.write("model/model.json", description)
