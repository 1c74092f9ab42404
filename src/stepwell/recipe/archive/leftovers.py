"""What killed processes and damage leave behind in run folders and beside them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stepwell.core.errors import StepwellError
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint
from stepwell.recipe.archive.runs import PARTS, run_folders, size_on_disk

__all__ = ["Removal", "leftovers", "strays"]

_TEMPORARY = re.compile(r"\..+\.tmp-(\d{1,10})(?:-\d+)?(-old)?")


@dataclass(frozen=True)
class Removal:
    """Something that would go.

    Args:
        path: a checkpoint, a whole run, a leftover temporary, or a damaged checkpoint that was set aside.
        run: the run folder it belongs to; None where it lies outside of all.
        num_bytes: on disk.
        why: in words.
    """

    path: Path
    run: Path | None
    num_bytes: int
    why: str


def leftovers(folder: Path) -> list[Removal]:
    """Of a run that nobody uses: temporaries of processes that are gone, and damaged checkpoints where a whole one is there."""
    found = []
    for place in [folder, *(folder / part for part in PARTS)]:
        found += [Removal(path, folder, size_on_disk(path), "left behind by a killed process") for path in _temporaries(place)]
    aside = sorted((folder / "checkpoints").glob(".corrupt-*"))
    if aside and _any_whole(folder):
        found += [Removal(path, folder, size_on_disk(path), "damaged, set aside") for path in aside]
    return found


def strays(root: Path) -> list[Removal]:
    """Temporaries of processes that are gone, beside the runs."""
    runs = set(run_folders(root))
    places = [Path(place) for place, _, _ in os.walk(root)]
    outside = [
        place for place in places if not any(part in runs for part in (place, *place.parents)) and not _hidden(place, root)
    ]
    found = [path for place in outside for path in _temporaries(place) if not _alive(path)]
    return [Removal(path, None, size_on_disk(path), "left behind by a killed process") for path in found]


def _hidden(place: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in place.relative_to(root).parts)


def _any_whole(folder: Path) -> bool:
    for place in checkpoints(folder / "checkpoints"):
        with suppress(StepwellError):
            load_checkpoint(place)
            return True
    return False


def _temporaries(place: Path) -> list[Path]:
    """Temporaries in a folder, but for what was only moved away when its process died: that comes back on resume."""
    found = [(path, _TEMPORARY.fullmatch(path.name)) for path in sorted(place.glob(".*.tmp-*"))]
    return [
        path
        for path, match in found
        if match is not None and not (match[2] and not (place / path.name[1 : path.name.index(".tmp-")]).exists())
    ]


def _alive(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    assert match is not None
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
