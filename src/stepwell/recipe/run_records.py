"""Reading a run folder to go on with it or to use it: its job, its record, and whether its data is still the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwell.core.errors import DataError, RunFolderError
from stepwell.engine.records.run_folder import never_began
from stepwell.engine.records.storage import read_json
from stepwell.recipe.evidence.job_record import JobOnRecord, require_job
from stepwell.recipe.files import read_job
from stepwell.recipe.job import Job
from stepwell.recipe.run_paths import require_folder
from stepwell.recipe.values.blame import blaming


@dataclass(frozen=True)
class RunRecord:
    """A run of a job file, as its folder tells it.

    Args:
        job: what stands in job.yaml.
        on_record: what was edited there, and which budgets took effect.
        manifest: what the run was started from.
        base: where relative paths of the job start.
    """

    job: Job
    on_record: JobOnRecord
    manifest: dict[str, Any]
    base: Path

    @property
    def new_budget(self) -> str | None:
        """A budget that was written into job.yaml by hand and no resume has taken up yet."""
        found = self.on_record
        told = found.edited and found.noted is None and any(change.path == "budget" for change in found.changes or ())
        return self.job.budget if told else None


def load_data(job: Job, base: Path) -> Any:
    """The data of a job, split and prepared."""
    with blaming(job, "data", "split"):
        return job.data.load(base=base, split=job.split, task=job.task, seed=job.seed)


def read_run(folder: Path) -> RunRecord:
    """The run of a job file.

    Raises:
        RunFolderError: no run there, one of `fit` with data or model from Python, or its job was edited by hand.
    """
    require_folder(folder)
    if not (folder / "job.yaml").exists():
        raise RunFolderError(
            f"{folder} holds no run",
            expected="a run folder with a job.yaml",
            fix="Give the folder that `stepwell train` printed",
        )
    if never_began(folder):
        raise RunFolderError(
            f"the start of {folder} was cut off before anything was trained",
            expected="a run that has begun",
            fix=f"Start it again into the same folder: stepwell train JOB --out {folder}",
        )
    on_record = require_job(folder)
    job = read_job(folder / "job.yaml", given=("data", "model", "task"))
    if job.data is None or job.model is None:
        raise RunFolderError(
            f"{folder} was made by `fit` with data or a model given from Python",
            expected="the run of a job file",
            fix='Continue it from Python: fit(..., out=FOLDER, existing="resume")',
        )
    manifest = read_record(folder / "manifest.json", needs="base")
    return RunRecord(job, on_record, manifest, Path(manifest["base"]))


def read_record(path: Path, needs: str = "steps") -> dict[str, Any]:
    """A JSON file of a run folder that has a value of this name.

    Raises:
        RunFolderError: it can't be read.
    """
    try:
        record: dict[str, Any] = read_json(path)
        record[needs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunFolderError(
            f"{path} can't be read: {reason}",
            expected="the file as the run wrote it",
            fix=f"Put it back, or train anew: stepwell train {path.parent / 'job.yaml'}",
        ) from error
    return record


def require_same_data(manifest: dict[str, Any], fingerprint: str | None, folder: str | Path) -> None:
    """Refuse data that isn't what a run was started with; what an older version has not put on record is taken as it is.

    Raises:
        DataError: it has changed.
    """
    known = (manifest.get("data") or {}).get("fingerprint")
    if known is not None and known != fingerprint:
        raise DataError(
            f"the data has changed since {folder} was started",
            expected=f"data with fingerprint {known[:12]}, found {(fingerprint or 'none')[:12]}",
            fix="Put the old data back, or train anew",
        )
