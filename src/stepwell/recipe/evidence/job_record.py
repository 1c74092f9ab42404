"""A run's job.yaml held against what is on record of it: what was edited by hand since, and which budget is in effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.storage import read_bytes, read_json, sha256
from stepwell.recipe.files import parse_mapping, read_mapping
from stepwell.recipe.values.compare import Change, mapping_diff

LIMITS = ("budget", "stop", "stop.max_time")  # of a job, what says only how long a run goes on


@dataclass(frozen=True)
class JobOnRecord:
    """What a run folder says of its job.

    Args:
        sha256: of job.yaml as it is.
        known: the sum that the manifest has, None where an older version wrote it.
        edited: whether job.yaml isn't the file that the run was started with.
        noted: the step at which a resume has put this edit on record, None where none has.
        changes: of the settings by the edit; None where the manifest doesn't keep the job.
        started: the job as the run was started with it, as a mapping.
        budgets: steps at which another budget took effect, and which one.
    """

    sha256: str
    known: str | None
    edited: bool
    noted: int | None
    changes: list[Change] | None
    started: dict[str, Any]
    budgets: list[tuple[int, str]] = field(default_factory=list)

    @property
    def others(self) -> list[Change]:
        """Edited settings that decide what is computed."""
        return [change for change in self.changes or () if change.path not in LIMITS]

    @property
    def told(self) -> str:
        """The edit in words."""
        if self.changes is None:
            return "which settings isn't known: an older version wrote the manifest"
        shown = [f"{item.path} {item.before!r} -> {item.after!r}" for item in [*self.others, *self.changes][:3]]
        return ", ".join(dict.fromkeys(shown)) or "no setting, but its text"

    def budget_at(self, step: int | None = None) -> str:
        """The budget that steps from this one on were, or are, trained under; None for now."""
        found = str(self.started.get("budget"))
        for since, budget in self.budgets:
            found = budget if step is None or since <= step else found
        return found


def job_on_record(folder: Path) -> JobOnRecord:
    """Compare job.yaml with the manifest and the event log.

    Raises:
        OSError, StepwellError: job.yaml can't be read.
    """
    found, manifest = sha256(read_bytes(folder / "job.yaml")), manifest_of(folder)
    known, text = manifest.get("job_sha256"), manifest.get("job")
    edited = isinstance(known, str) and known != found
    noted: int | None = None
    budgets: list[tuple[int, str]] = []
    for event in read_events(folder / "events.jsonl"):
        if event.kind == "job_edited" and event.detail.get("sha256") == found:
            noted = event.step
        elif event.kind == "budget_changed":
            budgets.append((event.step, str(event.detail.get("now"))))
    now: dict[str, Any] = dict(read_mapping(folder / "job.yaml")) if not edited or isinstance(text, str) else {}
    started = now
    changes: list[Change] | None = None if edited else []
    if edited and isinstance(text, str) and sha256(text.encode()) == known:
        started = dict(parse_mapping(text, f"{folder / 'manifest.json'}: job"))
        changes = mapping_diff(started, now)
    return JobOnRecord(found, known if isinstance(known, str) else None, edited, noted, changes, started, budgets)


def require_job(folder: Path) -> JobOnRecord:
    """The same; refused where job.yaml was edited by hand in anything but how long the run goes on.

    Raises:
        RunFolderError: it was.
        OSError, StepwellError: job.yaml can't be read.
    """
    found = job_on_record(folder)
    if found.edited and (found.changes is None or found.others):
        kept = "" if found.changes is None else f'; the manifest keeps its text, under "job" in {folder / "manifest.json"}'
        raise RunFolderError(
            f"{folder / 'job.yaml'} was edited since the run was started: {found.told}",
            expected="the job that the run was started with; only budget and stop may change",
            fix=f"Put the old file back{kept}; or train anew: stepwell train {folder / 'job.yaml'} --out ANOTHER_FOLDER",
        )
    return found


def budgets_told(folder: Path, budget: Any) -> Any:
    """A job's budget, with those that took effect later: "3 epochs, 5 epochs from step 6"."""
    try:
        found = job_on_record(folder)
    except (OSError, StepwellError):
        return budget
    later = "".join(f", {now} from step {step:,}" for step, now in found.budgets)
    return f"{found.budget_at(-1)}{later}" if later else budget


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a run; empty where it can't be read, which an audit tells."""
    try:
        read = read_json(folder / "manifest.json")
    except (OSError, ValueError, StepwellError):
        return {}
    return read if isinstance(read, dict) else {}
