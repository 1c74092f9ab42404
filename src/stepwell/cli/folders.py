"""Where a run goes when the command line doesn't say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stepwell.engine.records.storage import claim_folder, make_folder, remove_empty

__all__ = ["next_folder"]


@contextmanager
def next_folder(job: Path, out: Path | None, *, root: Path = Path("runs")) -> Iterator[Path]:
    """The run folder: the given one, or runs/JOB-N with the next N, made at once so that nobody else takes it.

    What was made here is removed again if the run fails before anything was written to it.

    Args:
        job: the job file, which names the folder.
        out: what the command line says, if it does.
        root: holds the folders that are made here.
    """
    if out is not None:
        yield out
        return
    there = root.exists()
    folder = _claim(job.stem or "job", root)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty: the run has begun
            for place in [folder] if there else [folder, root]:
                remove_empty(place)


def _claim(name: str, root: Path) -> Path:
    make_folder(root)
    taken = [re.fullmatch(re.escape(name) + r"-(\d+)", entry.name) for entry in root.iterdir()]
    # One above the highest, not the first gap: a number that was once used keeps meaning what it meant.
    number = max((int(match[1]) for match in taken if match), default=0) + 1
    while True:
        folder = root / f"{name}-{number}"
        try:
            claim_folder(folder)
        except FileExistsError:
            number += 1
        else:
            return folder
