"""Checkpoints: tensors in safetensors, the rest in JSON, a checksummed manifest as the commit mark. No pickle."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from stepwell.core.errors import RunFolderError
from stepwell.engine.state import join, separate, snapshot
from stepwell.engine.storage import explained, flush_folder, read_json, sha256, write_bytes

logger = logging.getLogger("stepwell.checkpoint")
SCHEMA = 1


def encode(state: dict[str, Any]) -> dict[str, bytes]:
    """A state as the files of a checkpoint, by name."""
    from safetensors.torch import save

    tensors, rest = separate(snapshot(state))
    files = {
        "state.safetensors": save({name: tensor.contiguous() for name, tensor in tensors.items()} or {"empty": torch.zeros(0)}),
        "state.json": json.dumps(rest).encode(),
    }
    sums = {name: sha256(content) for name, content in files.items()}
    files["manifest.json"] = json.dumps({"schema": SCHEMA, "sha256": sums}, indent=2).encode()
    return files


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int, keep: int = 2, best: int | None = None) -> Path:
    """Write `folder/step-N`, whole or not at all, then prune all but the newest and the best.

    Args:
        keep: how many of the newest stay, >= 1.
        best: the step of the best evaluation, whose checkpoint stays too.

    Raises:
        RunFolderError: no space or no permission; earlier checkpoints are untouched.
    """
    place = folder / f"step-{step}"
    temporary = folder / f".step-{step}.tmp-{os.getpid()}"
    with explained(place):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            for name, content in encode(state).items():  # the manifest comes last
                write_bytes(temporary / name, content)
            if place.exists():
                shutil.rmtree(place)
            os.rename(temporary, place)
            flush_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for old in checkpoints(folder)[max(keep, 1) :]:
        if old.name != f"step-{best}":
            shutil.rmtree(old, ignore_errors=True)
    return place


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first, whole or not."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The state of one checkpoint folder.

    Raises:
        RunFolderError: a file is missing, changed, or of a newer format.
    """
    from safetensors.torch import load

    try:
        manifest = read_json(folder / "manifest.json")
        contents = {name: (folder / name).read_bytes() for name in manifest["sha256"]}
        good = all(sha256(contents[name]) == digest for name, digest in manifest["sha256"].items())
        if good and manifest["schema"] == SCHEMA:
            state: dict[str, Any] = join(load(contents["state.safetensors"]), json.loads(contents["state.json"]))
            return state
        problem = "its checksum doesn't match" if not good else f"its format is {manifest['schema']}, this version reads {SCHEMA}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"it can't be read ({error})"
    raise RunFolderError(
        f"checkpoint {folder} is not whole: {problem}", expected="a checkpoint written by stepwell", fix="Use an earlier one"
    )


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint and its state, or None where there is none; says so when it had to step back."""
    for number, path in enumerate(checkpoints(folder)):
        try:
            state = load_checkpoint(path)
        except RunFolderError as error:
            logger.warning("%s Stepping back to the one before.", error)
            continue
        if number:
            logger.warning("continuing from %s, the newest whole checkpoint", path)
        return path, state
    return None
