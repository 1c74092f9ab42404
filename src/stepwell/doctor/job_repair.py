"""A repair as another job file: only what a job has words for, verified for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepwell.core.errors import JobError, StepwellError
from stepwell.doctor.bench import SEEDS
from stepwell.doctor.diagnose import Diagnosis
from stepwell.doctor.from_job import mended_job, setup_of_job
from stepwell.doctor.repair import HARM, Repair, Verified, compared
from stepwell.doctor.told import finite
from stepwell.doctor.trials import one_thread
from stepwell.engine.records.storage import make_folder, write_bytes
from stepwell.recipe.files import dump
from stepwell.recipe.job import Job
from stepwell.recipe.values.overrides import Override, apply, set_at

__all__ = ["JobRepair", "repaired_job", "write_job"]


@dataclass(frozen=True)
class JobRepair:
    """What of a repair is a change of the job.

    Args:
        job: the mended one; None where a job has no word for what helps, or where the words alone don't help.
        changes: dotted path -> new value.
        verified: the job against the mended one, as both would train; None without a mended one.
        by_hand: what helps and is no change of a job.
        written: the mended one in the author's own words; None where the job wasn't read from a file.
    """

    job: Job | None
    changes: Mapping[str, Any] = field(default_factory=dict)
    verified: Verified | None = None
    by_hand: list[str] = field(default_factory=list)
    written: Mapping[str, Any] | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        told = None if self.verified is None else {"gain": self.verified.gain, "interval": list(self.verified.interval)}
        return finite({"changes": dict(self.changes), "verified": told, "by_hand": self.by_hand})


def repaired_job(job: Job, diagnosis: Diagnosis, repair: Repair, *, base: Path) -> JobRepair:
    """Take over the job's words of a repair, and train both jobs side by side.

    Args:
        job: what was diagnosed.
        base: the folder that its data paths start from.
    """
    by_hand = [str(step) for step in repair.steps if not step.remedy.job]
    if not repair.job:
        return JobRepair(None, by_hand=by_hand)
    try:
        mended = mended_job(job, repair.job)
        setup = setup_of_job(mended, base).setup
    except StepwellError as error:
        return JobRepair(None, repair.job, by_hand=[*by_hand, f"this job doesn't take it: {error.what}"])
    measure = repair.verified.measure
    with one_thread():
        verified = compared(diagnosis.bench, setup, SEEDS, measure)
    written = _own_words(job, repair.job, mended)
    return JobRepair(mended if verified.gain >= -HARM else None, repair.job, verified, by_hand, written)


def write_job(repair: JobRepair, path: Path, *, base: Path) -> Path:
    """Write the mended job as a job file, in the author's own words where the job was read from a file.

    Data paths become absolute where the file doesn't lie where they start.

    Args:
        repair: with a mended job.
        base: the folder that its data paths start from.

    Raises:
        JobError: there is such a file.
        RunFolderError: it can't be written.
    """
    assert repair.job is not None
    if path.exists():
        raise JobError(f"{path} exists", expected="a new file for the mended job", fix="Remove it, or give another --out")
    mapping = repair.job.to_mapping() if repair.written is None else dict(repair.written)
    if path.parent.resolve() != base.resolve():
        _start_paths_at(mapping, repair.job, base)
    make_folder(path.parent)
    write_bytes(path, dump(mapping).encode())
    return path


def _own_words(job: Job, changes: Mapping[str, Any], mended: Job) -> dict[str, Any] | None:
    """What the author wrote, with the changes; None where it wasn't read from a file, or would say something else."""
    written = getattr(job, "_written", None)
    if written is None:
        return None
    try:
        mapping: dict[str, Any] = apply(written, [Override(path, value) for path, value in changes.items() if path[-1] != "+"])
        if "recipe.techniques+" in changes:
            mapping["recipe"]["techniques"] = [*mapping["recipe"].get("techniques", []), *changes["recipe.techniques+"]]
        return mapping if Job.from_mapping(mapping) == mended else None
    except JobError:
        return None


def _start_paths_at(mapping: dict[str, Any], job: Job, base: Path) -> None:
    for holder, source in (("data", job.data), ("data.data", getattr(job.data, "data", None))):
        path = getattr(source, "path", None)
        if isinstance(path, str) and path and (base / path).exists():
            set_at(mapping, f"{holder}.path", str((base / path).resolve()))
