"""Checkpoints: tensors in safetensors, the rest in JSON, a checksummed manifest as the commit mark. No pickle.

A folder `step-N` is a checkpoint when its manifest names exactly the files that are there, each of the stated length and
SHA-256, and the manifest's own sum fits. Whatever else it may look like, it isn't one.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.storage import MOST_JSON, read_bytes, rename, sha256, whole_folder, write_into
from stepwell.engine.records.strict_json import parse_json
from stepwell.engine.records.tensors import decode_tensors, tensor_pieces
from stepwell.engine.state import join, separate

logger = logging.getLogger("stepwell.checkpoint")
_NAME = re.compile(r"step-(?:0|[1-9][0-9]{0,17})")
SCHEMA = 2
MANIFEST = "manifest.json"
TENSORS, REST = "state.safetensors", "state.json"
FILES = (TENSORS, REST, MANIFEST)


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is on the disk, and was read back whole.

    Args:
        path: its folder.
        step: completed optimizer steps.
        sha256: of its manifest, which has the sums of all its files.
        num_bytes: of all its files.
    """

    path: Path
    step: int
    sha256: str
    num_bytes: int


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int) -> Saved:
    """Write `folder/step-N`, whole or not at all, and read it back.

    Args:
        state: nested dicts of tensors and plain values, which nobody changes meanwhile.

    Raises:
        RunFolderError: no space, no permission, or what was read back isn't what was written; earlier checkpoints are untouched.
    """
    place = folder / f"step-{step}"
    tensors, rest = separate(state)
    contents: dict[str, list[bytes | memoryview]] = {
        TENSORS: tensor_pieces(tensors or {"empty": torch.zeros(0)}),
        REST: [json.dumps(rest, allow_nan=False).encode()],
    }
    with whole_folder(place) as temporary:
        files: dict[str, dict[str, Any]] = {}
        for name, pieces in contents.items():
            digest = write_into(temporary / name, pieces)
            files[name] = {"bytes": sum(len(piece) for piece in pieces), "sha256": digest}
        manifest = _sealed({"schema": SCHEMA, "step": step, "files": files})
        digest = write_into(temporary / MANIFEST, [manifest])
    verify_checkpoint(place)
    return Saved(place, step, digest, len(manifest) + sum(facts["bytes"] for facts in files.values()))


def _sealed(manifest: dict[str, Any]) -> bytes:
    """The manifest with its own sum, over its text without that sum."""
    return (json.dumps(manifest | {"sha256": sha256(json.dumps(manifest).encode())}) + "\n").encode()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first, whole or not."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    steps = sorted((int(name[5:]) for name in names if _NAME.fullmatch(name)), reverse=True)
    return [folder / f"step-{step}" for step in steps]


def step_of(place: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(place.name[5:])


def verify_checkpoint(place: Path) -> dict[str, Any]:
    """The manifest of a checkpoint all of whose files are as they were written.

    Raises:
        RunFolderError: a file is missing, changed or too many, or the format is of a newer version.
    """
    return _read(place)[0]


def load_checkpoint(place: Path) -> dict[str, Any]:
    """The state of one checkpoint folder, every byte of which was checked before any of it is used.

    Raises:
        RunFolderError: as `verify_checkpoint`.
    """
    manifest, contents = _read(place)
    try:
        tensors = decode_tensors(contents[TENSORS], name=str(place / TENSORS))
        # Format 1 wrote bare NaN and Infinity.
        parse = json.loads if manifest["schema"] == 1 else parse_json
        state: dict[str, Any] = join(tensors, parse(contents[REST]))
        return state
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(place, f"its state can't be read ({error})") from error


class _Broken(Exception):
    """Why a folder is no checkpoint."""


def _read(place: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        return _checked(place)
    except _Broken as broken:
        problem = str(broken)
    except RunFolderError as error:
        problem = error.what
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"it can't be read ({error})"
    raise _damaged(place, problem)


def _checked(place: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    manifest = _manifest(place)
    names = {path.name for path in place.iterdir()} - {MANIFEST}
    if names != set(manifest["files"]):
        raise _Broken(f"it holds {sorted(names)}, its manifest names {sorted(manifest['files'])}")
    contents = {name: read_bytes(place / name, most=facts["bytes"]) for name, facts in manifest["files"].items()}
    for name, facts in manifest["files"].items():
        if len(contents[name]) != facts["bytes"] or sha256(contents[name]) != facts["sha256"]:
            raise _Broken(f"the checksum of {name} doesn't match")
    return manifest, contents


def _manifest(place: Path) -> dict[str, Any]:
    content = read_bytes(place / MANIFEST, most=MOST_JSON)
    read = parse_json(content)
    if read["schema"] == 1:  # had no lengths, no step and no sum of its own
        files = {name: {"bytes": (place / name).stat().st_size, "sha256": digest} for name, digest in read["sha256"].items()}
        return {"schema": 1, "step": step_of(place), "files": files}
    if read["schema"] != SCHEMA:
        raise _Broken(f"its format is {read['schema']}, this version reads up to {SCHEMA}")
    known = {name: read[name] for name in ("schema", "step", "files")}
    if content != _sealed(known):
        raise _Broken("the checksum of its manifest doesn't match")
    if place.name != f"step-{known['step']}":
        raise _Broken(f"it is the one of step {known['step']}")
    return known


def _damaged(place: Path, problem: str) -> RunFolderError:
    return RunFolderError(
        f"checkpoint {place} is not whole: {problem}", expected="a checkpoint written by stepwell", fix="Use an earlier one"
    )


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint and its state, or None where none was ever written.

    One that isn't whole is kept under another name, `.corrupt-step-N`, and it is said how many steps are trained again.

    Raises:
        RunFolderError: there are checkpoints, and none of them is whole.
    """
    places = checkpoints(folder)
    for place in places:
        try:
            state = load_checkpoint(place)
        except RunFolderError as error:
            logger.warning("%s It stays there as %s", error, _set_aside(place).name)
            continue
        lost = step_of(places[0]) - step_of(place)
        if lost:
            logger.warning("continuing from %s, the newest whole checkpoint: %d steps are trained again", place, lost)
        return place, state
    if places or any(folder.glob(".corrupt-step-*")):
        raise RunFolderError(
            f"{folder} holds no checkpoint that is whole",
            expected="at least one that is as it was written",
            fix="Put one back from a copy, or train anew into another folder; nothing was removed",
        )
    return None


def _set_aside(place: Path) -> Path:
    names = (place.with_name(f".corrupt-{place.name}" + (f"-{number}" if number else "")) for number in range(10**6))
    free = next(name for name in names if not name.exists())
    rename(place, free)
    return free
