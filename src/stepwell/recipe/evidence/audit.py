"""The audit of a run folder: whether job, history, checkpoints, model, result and metrics still belong together.

It finds damage, slips and edits. It can't find a forger: whoever can write the folder can write all of it anew, hashes
included. Against that helps only a copy of the history's head kept elsewhere (`expect`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stepwell.core.errors import JobError, RunFolderError, StepwellError
from stepwell.engine.records.checkpoint import MANIFEST, checkpoints, step_of, verify_checkpoint
from stepwell.engine.records.event_log import Logged, Torn, check_chain, head_of, read_events
from stepwell.engine.records.run_folder import never_began, read_layers, read_metrics
from stepwell.engine.records.storage import read_bytes, read_json, sha256
from stepwell.recipe.evidence.happenings import saved_hashes
from stepwell.recipe.evidence.job_record import job_on_record
from stepwell.recipe.evidence.seals import metrics_hash

ENDS = ("finished", "stopped", "interrupted")


@dataclass(frozen=True)
class Check:
    """One question of an audit.

    Args:
        name: what was looked at.
        answer: "holds", "broken", or "not known" where there is nothing to compare with.
        told: the numbers behind it, or what doesn't fit.
    """

    name: str
    answer: Literal["holds", "broken", "not known"]
    told: str


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        folder: the run.
        checks: in the order of the table.
        head: the last line's hash of the event log: it stands for manifest and history, and is worth keeping elsewhere.
    """

    folder: Path
    checks: tuple[Check, ...]
    head: str

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return all(check.answer != "broken" for check in self.checks)


def audit(folder: str | Path, *, expect: str | None = None) -> Audit:
    """Compare everything in a run folder with what its log has on record. It reads, and changes nothing.

    Args:
        folder: of a run, finished or not.
        expect: the head of an earlier audit of this run, 64 hex digits: the history up to there must be the same.

    Raises:
        JobError: `expect` is no such head.
        RunFolderError: the folder holds no run.
    """
    place = Path(folder)
    if not (place / "job.yaml").exists() and not (place / "manifest.json").exists():
        raise RunFolderError(
            f"{place} holds no run", expected="a run folder", fix="Give the folder that `stepwell train` printed"
        )
    if expect is not None and not re.fullmatch(r"[0-9a-f]{64}", expect):
        raise JobError(
            f"the expected head is {expect!r}", expected="64 hex digits", fix="Give the head that an earlier audit printed"
        )
    root = _hash_of(place / "manifest.json") or sha256(b"")
    events = _events(place)
    chain, last = _chain(place, root, events)
    checks = [_job(place), chain, *_checkpoints(place, events), *_delivered(place, events), _rows(place, events)]
    if expect is not None:
        checks.append(_expected(expect, last, events, chain))
    return Audit(place, tuple(checks), last)


def head(folder: str | Path) -> str | None:
    """The head of a run's history, without checking it; None where no log is written yet."""
    place = Path(folder)
    root = _hash_of(place / "manifest.json")
    if root is None or not (place / "events.jsonl").exists():
        return None
    return head_of(place / "events.jsonl", root)


def _hash_of(path: Path) -> str | None:
    try:
        return sha256(read_bytes(path))
    except (OSError, RunFolderError):
        return None


def _events(place: Path) -> list[Logged]:
    try:
        return read_events(place / "events.jsonl")
    except (OSError, RunFolderError):
        return []


def _job(place: Path) -> Check:
    name = "manifest and job"
    try:
        known = read_json(place / "manifest.json").get("job_sha256")
    except (OSError, ValueError, AttributeError, RunFolderError) as error:
        if never_began(place):
            return Check(name, "not known", "the start was cut off before it wrote manifest.json; nothing was trained")
        return Check(name, "broken", f"manifest.json can't be read: {error}")
    found = _hash_of(place / "job.yaml")
    if found is None:
        return Check(name, "broken", "job.yaml can't be read")
    if known is None:
        return Check(name, "not known", "the manifest has no hash of the job: an older version wrote it")
    try:
        job = job_on_record(place)
    except (OSError, StepwellError) as error:
        return Check(name, "broken", f"job.yaml can't be read: {error.what if isinstance(error, StepwellError) else error}")
    later = "".join(f", budget {budget} from step {step:,}" for step, budget in job.budgets)
    if job.edited and (job.noted is None or job.others):
        return Check(name, "broken", f"job.yaml isn't the one that the run was started with: {job.told}")
    if job.edited:
        return Check(name, "holds", f"job {found[:12]}, edited by hand, on record at step {job.noted:,}: {job.told}{later}")
    return Check(name, "holds", f"job {found[:12]}{later}")


def _chain(place: Path, root: str, events: list[Logged]) -> tuple[Check, str]:
    name, path = "event log", place / "events.jsonl"
    try:
        breaks, last = check_chain(path, root), head_of(path, root)
    except FileNotFoundError:
        begun = checkpoints(place / "checkpoints") or (place / "result.json").exists()
        told = "events.jsonl is missing"
        return Check(name, "broken" if begun else "not known", told), root
    except (OSError, RunFolderError) as error:
        return Check(name, "broken", f"it can't be read: {error}"), root
    serious = [item for item in breaks if not isinstance(item, Torn)]
    if serious:
        more = f" ({len(serious) - 1} more)" if len(serious) > 1 else ""
        return Check(name, "broken", f"line {serious[0].line}: {serious[0].reason}{more}"), last
    if breaks:
        told = f"line {breaks[0].line}: {breaks[0].reason}; the run is being written, or was cut off"
        return Check(name, "not known", told), last
    return Check(name, "holds", f"{len(events)} lines, each follows the one before; the first follows the manifest"), last


def _checkpoints(place: Path, events: list[Logged]) -> list[Check]:
    known, last = saved_hashes(events), events[-1].kind if events else ""
    # Only what was written after the log's last word on checkpoints may be missing there: a crash came between.
    newest = next((event.step for event in reversed(events) if event.kind in ("saved", "found", "resumed", "started")), -1)
    checks = []
    for path in checkpoints(place / "checkpoints"):
        name = f"checkpoint {path.name}"
        try:
            verify_checkpoint(path)
            found = sha256(read_bytes(path / MANIFEST))
        except (OSError, RunFolderError) as error:
            checks.append(Check(name, "broken", error.what if isinstance(error, RunFolderError) else str(error)))
            continue
        if known.get(path.name) == found:
            checks.append(Check(name, "holds", f"as saved, {found[:12]}"))
        elif step_of(path) > newest and last not in ENDS:
            told = "whole, not yet on record: the run is being written, or was cut off; a resume puts it on record"
            checks.append(Check(name, "not known", told))
        elif path.name in known:
            checks.append(
                Check(name, "broken", f"whole, but not the one on record ({known[path.name][:12]}, found {found[:12]})")
            )
        else:
            checks.append(Check(name, "broken", "whole, but the log doesn't know it"))
    return checks


def _last(events: list[Logged], kind: str) -> tuple[Logged | None, list[Logged]]:
    """The last event of a kind, and all after it."""
    for index in range(len(events) - 1, -1, -1):
        if events[index].kind == kind:
            return events[index], events[index + 1 :]
    return None, events


def _delivered(place: Path, events: list[Logged]) -> list[Check]:
    finished, after = _last(events, "finished")
    if finished is None:
        there = (place / "result.json").exists() or (place / "model").exists()
        return [Check("model and result", "not known", "the log has no end" if there else "the run has not finished")]
    files = finished.detail.get("files")
    checks = []
    for name, known in sorted(files.items() if isinstance(files, dict) else ()):
        if ".." in Path(name).parts or Path(name).is_absolute():
            checks.append(Check("model and result", "broken", "the log names a file outside of the run"))
            continue
        found = _hash_of(place / name)
        if found == known:
            checks.append(Check(name, "holds", f"as delivered, {str(known)[:12]}"))
        elif any(event.kind == "stopped" for event in after):
            checks.append(Check(name, "not known", "the run went on after its end, and was cut off while it was delivered"))
        else:
            checks.append(Check(name, "broken", "it can't be read" if found is None else "not the file that was delivered"))
    return checks


def _rows(place: Path, events: list[Logged]) -> Check:
    name = "metrics"
    finished, after = _last(events, "finished")
    sealed: Any = None
    try:
        if finished is not None and not any(event.kind == "resumed" for event in after):
            known, exact, sealed = finished.detail.get("rows"), True, finished.detail.get("metrics")
        else:
            known, exact = _rows_of_newest(place), False
        if not isinstance(known, dict):
            return Check(name, "not known", "nothing says how many rows there should be")
        found = {key: len(read_layers(place) if key == "layers" else read_metrics(place, key)) for key in known}
        changed = sealed is not None and metrics_hash(place) != sealed
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RunFolderError) as error:
        return Check(name, "broken", f"the rows can't be read: {error}")
    wrong = [key for key in known if (found[key] != known[key] if exact else found[key] < known[key])]
    if wrong:
        return Check(name, "broken", "; ".join(f"{key}: {found[key]} rows, {known[key]} were written" for key in wrong))
    if changed:
        return Check(name, "broken", "as many rows as were written, but not the same: a file in metrics/ was changed")
    told = ", ".join(f"{key} {found[key]}" for key in known if found[key])
    return Check(name, "holds", f"{told} rows" if told else "no rows")


def _rows_of_newest(place: Path) -> Any:
    """Rows that were on the disk when the newest whole checkpoint was written."""
    for path in checkpoints(place / "checkpoints"):
        try:
            verify_checkpoint(path)
            return read_json(path / "state.json")["recorder"]["rows"]
        except (OSError, ValueError, KeyError, TypeError, RunFolderError):
            continue
    return None


def _expected(expect: str, last: str, events: list[Logged], chain: Check) -> Check:
    name = "expected head"
    if chain.answer == "broken":
        return Check(name, "broken", "the event log doesn't hold, so nothing can be said of it")
    if expect == last:
        return Check(name, "holds", "the history ends there")
    line = next((event.number for event in events if event.sha256 == expect), None)
    if line is None:
        return Check(name, "broken", f"no line of the log has it; its head is {last}")
    return Check(name, "holds", f"the history up to line {line}; {len(events) - line} lines came after it")
