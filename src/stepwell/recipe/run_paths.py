"""Paths that are meant as a run folder and are something else: what they are, and what to give instead."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from stepwell.core.errors import RunFolderError

__all__ = ["PICKLED", "require_folder"]

# What torch.save, pickle and trainers that build on them name their files.
FROM_TORCH = (".pt", ".pth", ".bin", ".ckpt")
PICKLED = (*FROM_TORCH, ".pkl", ".pickle", ".joblib")


def require_folder(path: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        RunFolderError: nothing is there, or a file.

    >>> require_folder(Path("runs/model.pt"))
    Traceback (most recent call last):
    ...
    stepwell.core.errors.RunFolderError: there is no folder runs/model.pt; expected the folder of a run. \
Give the folder that `stepwell train` printed.
    """
    if path.is_dir():
        return
    ending, expected = path.suffix.lower(), "the folder of a run"
    if not path.exists():
        raise RunFolderError(f"there is no folder {path}", expected=expected, fix=_near(path))
    what, fix = f"{path} is a file", "Give the folder that `stepwell train` printed"
    if ending in PICKLED:
        what += " of pickled objects, which is not loaded: that would run any code in it"
        made = path.with_suffix(".safetensors")
        way = f"with `stepwell import {path} --out {made}`"
        if ending not in FROM_TORCH:
            way = f'where it was made: safetensors.torch.save_file(model.state_dict(), "{made.name}")'
        fix = f"Make safetensors of its tensors {way}, and give that to a job as init_from"
    elif ending == ".safetensors":
        what += " of weights alone"
        fix = f"Give the run folder that it lies in, or start a job from it with init_from: {path}"
    elif path.name == "job.yaml" and (path.parent / "manifest.json").exists():
        fix = f"Give the folder, {path.parent}"
    elif ending in (".yaml", ".yml"):
        fix = f"Train it first: stepwell train {path}"
    raise RunFolderError(what, expected=expected, fix=fix)


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if (entry / "job.yaml").exists()]
    except OSError:
        names = []
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"Did you mean {os.path.join(path.parent, close[0])}?"
    return "Give the folder that `stepwell train` printed"
