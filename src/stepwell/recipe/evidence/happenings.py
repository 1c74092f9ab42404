"""What goes into a run's event log beside what the trainer puts there: start, other environments, the end with its hashes."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from stepwell.core.errors import Interrupted, RunFolderError, StepwellError
from stepwell.core.reports import Event
from stepwell.engine.records.checkpoint import MANIFEST, checkpoints, verify_checkpoint
from stepwell.engine.records.event_log import Logged, read_events
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.records.storage import read_bytes, sha256
from stepwell.recipe.evidence.fingerprint import differences, environment
from stepwell.recipe.evidence.job_record import job_on_record, manifest_of
from stepwell.recipe.evidence.seals import MODEL, metrics_hash
from stepwell.recipe.run import Assembly, Run
from stepwell.recipe.values.secrets import redacted

logger = logging.getLogger("stepwell.run")
# What a finished run has delivered, and an audit compares.
DELIVERED = (*MODEL, "result.json")
MOST_DIFFERENCES = 200  # another machine may have hundreds of other packages


def note_start(folder: RunFolder, assembly: Assembly, *, begun: Literal["now", "again", "resumed"]) -> None:
    """Put the start on record; of a run that was begun before, what is not as it was.

    Args:
        begun: "resumed" from a checkpoint, or begun "again", where there was none.
    """
    if begun != "resumed":
        steps = assembly.resolved.horizon.total_steps
        folder.event(Event("started", 0, {"seed": assembly.parts.job.seed, "planned_steps": steps}))
    if begun != "now":
        step = assembly.step.clock.steps
        _note_found(folder, step)
        _note_environment(folder, step)
        _note_job(folder, assembly.parts.job.budget, step)


def _note_found(folder: RunFolder, step: int) -> None:
    """Checkpoints whose "saved" a crash kept from the log: they verify, and from here on they are on record."""
    known = saved_hashes(read_events(folder.path / "events.jsonl"))
    for place in reversed(checkpoints(folder.checkpoints)):
        with suppress(OSError, RunFolderError):
            digest = sha256(read_bytes(place / MANIFEST))
            if known.get(place.name) != digest:
                verify_checkpoint(place)
                folder.event(Event("found", step, {"checkpoint": place.name, "sha256": digest}))


def saved_hashes(events: list[Logged]) -> dict[str, str]:
    """Checkpoint name -> the SHA-256 of its manifest, as last put on record."""
    told = [event.detail for event in events if event.kind in ("saved", "found")]
    return {str(detail.get("checkpoint")): str(detail.get("sha256")) for detail in told}


def refuse_lost_checkpoints(folder: Path) -> None:
    """Refuse to go on where the log has checkpoints and all of them are gone: that would train everything again, unasked.

    Raises:
        RunFolderError: they are.
    """
    place = folder / "checkpoints"
    known = saved_hashes(read_events(folder / "events.jsonl"))
    if known and not (place.is_dir() and any(place.iterdir())):
        raise RunFolderError(
            f"{folder} has saved {len(known)} checkpoints, up to {list(known)[-1]}, and none is there any more",
            expected="the newest of them, or an earlier one",
            fix=f"Put one back from a copy, or train anew: stepwell train {folder / 'job.yaml'} --out ANOTHER_FOLDER",
        )


def _note_environment(folder: RunFolder, step: int) -> None:
    found = differences(manifest_of(folder.path).get("environment") or {}, environment())
    if not found or "environment" not in manifest_of(folder.path):
        return
    told = [{"path": item.path, "before": item.before, "now": item.now, "affects": item.affects} for item in found]
    detail: dict[str, Any] = {"differences": told[:MOST_DIFFERENCES], "num_differences": len(told)}
    folder.event(Event("environment_changed", step, detail))
    bits = [f"{item.path} {item.before} -> {item.now}" for item in found if item.affects == "bits"]
    if bits:
        more = f" and {len(bits) - 3} more" if len(bits) > 3 else ""
        logger.warning("the run began in another environment (%s%s): its bits may differ from here on", "; ".join(bits[:3]), more)


def _note_job(folder: RunFolder, budget: str, step: int) -> None:
    """Another budget than the one in effect, and a job file that was edited by hand in what may change."""
    found = job_on_record(folder.path)
    if found.budget_at() != budget:
        folder.event(Event("budget_changed", step, {"before": found.budget_at(), "now": budget}))
    if found.edited and found.noted is None:
        changes = [{"path": item.path, "before": item.before, "now": item.after} for item in found.changes or ()]
        folder.event(Event("job_edited", step, {"sha256": found.sha256, "changes": changes}))
        logger.warning("job.yaml was edited since the run was started, in what may change: %s", found.told)


def note_end(folder: RunFolder, assembly: Assembly, run: Run) -> None:
    """Put on record what was delivered: the hash of each file, how many rows of metrics there are, and their hash."""
    files = {name: sha256(read_bytes(folder.path / name)) for name in DELIVERED}
    rows = assembly.trainer.recorder.state_dict()["rows"]
    detail = {"reason": run.stop_reason, "files": files, "rows": rows, "metrics": metrics_hash(folder.path)}
    folder.event(Event("finished", run.steps, detail))


def note_failure(folder: RunFolder, error: BaseException) -> None:
    """Put on record why a run ended early. Whatever keeps that from being written must not hide the reason itself."""
    if isinstance(error, Exception) and not isinstance(error, Interrupted):
        what = error.what if isinstance(error, StepwellError) else str(error)
        events = read_events(folder.path / "events.jsonl")
        if events:  # else nothing has happened, and the folder goes
            with suppress(OSError, RunFolderError):
                detail = {"error": type(error).__name__, "reason": redacted(what)[:500]}
                folder.event(Event("failed", max(event.step for event in events), detail))
