"""The manifest of a run: what it was started from and where, so that a reviewer needn't ask."""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stepwell.core.catalog import record_of
from stepwell.engine.records.storage import sha256
from stepwell.recipe.evidence.fingerprint import environment
from stepwell.recipe.job import Job
from stepwell.recipe.values.plain import technique_id
from stepwell.recipe.values.secrets import redacted_words

SCHEMA = 2  # manifests without a number are of the first
PACKAGES = ("stepwell", "torch", "numpy", "pandas", "safetensors", "scikit-learn")
GIT_SECONDS = 5.0


def manifest(job: Job, job_text: str, *, base: Path | None = None) -> dict[str, Any]:
    """Job, code, versions, hardware, git state and seed.

    Args:
        job_text: of job.yaml.
        base: the folder that the job's relative paths start from, and whose git state is told; the working one unless given.
    """
    place = base or Path.cwd()
    return {
        "schema": SCHEMA,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": redacted_words(sys.argv),
        "base": str(place),
        "job_sha256": sha256(job_text.encode()),
        "job": job_text,
        "seed": job.seed,
        "techniques": techniques_of(job),
        "model_code": _model_code(job),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "hardware": {
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        "environment": environment(),
        "git": git_state(place),
    }


def techniques_of(job: Job) -> list[dict[str, Any]]:
    """Each technique of a job's recipe: slot, id, version, and the SHA-256 of the file that its class is written in.

    The objective is left out where the task chooses it: result.json has it among the derived values.
    """
    recipe = job.recipe
    parts = [("objective", recipe.objective), ("optimizer", recipe.optimizer), ("schedule", recipe.schedule)]
    return [_technique(slot, part) for slot, part in [*parts, *(("", item) for item in recipe.techniques)] if part is not None]


def _technique(slot: str, part: Any) -> dict[str, Any]:
    record = record_of(part)
    code = part if inspect.isroutine(part) or inspect.isclass(part) else type(part)
    return {"slot": record.slot if record is not None else slot, "id": technique_id(part), **code_version(code)}


def code_version(code: Any) -> dict[str, Any]:
    """The version of a class or function: that of the distribution named like its package, and a hash over its source file.

    >>> sorted(code_version(Job)), code_version(Job)["version"] == _version("stepwell")
    (['sha256', 'version'], True)
    """
    try:
        source = Path(inspect.getsourcefile(code) or "").read_bytes()
    except (OSError, TypeError):  # typed into a notebook, or no Python
        source = None
    package = str(getattr(code, "__module__", "")).partition(".")[0]
    return {"version": _version(package) if package else None, "sha256": None if source is None else sha256(source)}


def _model_code(job: Job) -> dict[str, Any] | None:
    """The version of the model's builder; None for a model given from Python."""
    from stepwell.models.registry import builder_of

    return None if job.model is None else code_version(builder_of(job.model.name))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, changed files and a hash over the changes of the repository that a folder lies in; None outside of one.

    It never waits for a terminal, a network or longer than `GIT_SECONDS`: what has no answer by then is None.
    """
    until = time.monotonic() + GIT_SECONDS
    status = _ask(folder, until, "status", "--porcelain=v2", "--branch", "--untracked-files=normal")
    if status is None:
        return None
    lines = status.decode("utf-8", "replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    changed = sum(not line.startswith("#") for line in lines)
    diff = (
        b""
        if not changed
        else _ask(folder, until, "diff", "HEAD", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color")
    )
    return {
        "commit": None if commit == "(initial)" else commit,
        "changed_files": changed,
        "diff_sha256": None if not changed or diff is None else sha256(diff),
    }


def _ask(folder: Path, until: float, *words: str) -> bytes | None:
    # The settings of a repository that isn't one's own could name programs to run: those that these commands know are off.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.pager=cat", "-C", str(folder), *words]
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(until - time.monotonic(), 0.01),
            env=os.environ | quiet,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
