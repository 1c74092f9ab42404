"""The run card: one Markdown page for a reviewer, with what is known of a run, and what isn't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stepwell.core.errors import JobError, StepwellError
from stepwell.engine.records.event_log import Logged, read_events
from stepwell.engine.records.storage import read_json, write_bytes
from stepwell.recipe.evidence.audit import Audit, audit
from stepwell.recipe.files import read_mapping
from stepwell.report.text import flatten, metric, plain

__all__ = ["card", "in_markdown", "write_card"]

LONGEST = 400  # characters of one value
MOST_ROWS = 60  # of events that are told one by one
_TOLD_SINGLY = (
    "resumed",
    "environment_changed",
    "budget_changed",
    "job_edited",
    "save_failed",
    "interrupted",
    "failed",
    "log_cut",
    "found",
)
_ENVIRONMENT = ("stepwell", "python", "system", "torch", "cpu", "threads", "variables", "modes", "accelerator")


def write_card(folder: str | Path, path: str | Path) -> Path:
    """Write the card of a run.

    Args:
        folder: of the run.
        path: of the Markdown file, in a folder that exists.

    Raises:
        JobError: there is no such folder to write into.
        RunFolderError: the folder holds no run, or the card can't be written.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise JobError(
            f"{target} is a folder" if target.is_dir() else f"there is no folder {target.parent}",
            expected="the path of a file to write, in a folder that exists",
            fix="Give for example --card card.md",
        )
    write_bytes(target, card(folder).encode())
    return target


def card(folder: str | Path) -> str:
    """The card's text. Whatever comes from a file is text there, never markup.

    Raises:
        RunFolderError: the folder holds no run.
    """
    place, found = Path(folder), audit(folder)
    manifest, result, job = _json(place / "manifest.json"), _json(place / "result.json"), _job(place / "job.yaml")
    events = read_events(place / "events.jsonl") if found.head else []
    parts = [
        f"# Run card: {in_markdown(place.resolve().name)}",
        "Written from the files of the run. Values stand as they were recorded; nothing was trained or measured for this card.",
        *_run(manifest, result, job),
        *_data(manifest, job),
        *_recipe(manifest, job),
        *_results(result),
        *_environment(manifest),
        *_history(events),
        *_audit(found),
        *_limits(manifest, result, events, found),
    ]
    return "\n\n".join(parts) + "\n"


def in_markdown(value: Any) -> str:
    """A value as inert Markdown: a code span, or text with every mark written as its number where a code span can't hold it.

    >>> in_markdown("<img src=x>"), in_markdown("a|b"), in_markdown(None)
    ('`<img src=x>`', 'a&#124;b', 'not known')
    """
    if value is None or value == "":
        return "not known" if value is None else "empty"
    text = " ".join(plain(value, keep="\n\t").split()) or "empty"
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if not set("`|\\") & set(text):
        return f"`{text}`"
    return "".join(c if c.isalnum() or c == " " or not c.isascii() else f"&#{ord(c)};" for c in text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _facts(pairs: Iterable[tuple[str, Any]]) -> str:
    return _table(["", ""], [[name, in_markdown(value)] for name, value in pairs])


def _json(path: Path) -> dict[str, Any]:
    try:
        read = read_json(path)
    except (OSError, ValueError, StepwellError):
        return {}
    return read if isinstance(read, dict) else {}


def _job(path: Path) -> dict[str, Any]:
    try:
        return dict(read_mapping(path))
    except StepwellError:
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _run(manifest: dict[str, Any], result: dict[str, Any], job: dict[str, Any]) -> list[str]:
    command = manifest.get("command")
    facts = [
        ("task", job.get("task")),
        ("seed", job.get("seed", manifest.get("seed"))),
        ("budget", job.get("budget")),
        ("steps", result.get("steps")),
        ("ended", result.get("stop_reason", "unfinished")),
        ("started", manifest.get("started")),
        ("command", " ".join(map(str, command)) if isinstance(command, list) else command),
    ]
    return ["## Run", _facts(facts)]


def _data(manifest: dict[str, Any], job: dict[str, Any]) -> list[str]:
    data, source = _mapping(manifest.get("data")), job.get("data")
    facts: list[tuple[str, Any]] = [("source", data.get("name", "given from Python")), ("fingerprint", data.get("fingerprint"))]
    facts += [(f"rows, {in_markdown(part)}", rows) for part, rows in _mapping(data.get("rows")).items()]
    facts += [(f"hashed, {in_markdown(part)}", how) for part, how in _mapping(data.get("hashed")).items()]
    facts += [(in_markdown(f"data.{key}"), value) for key, value in flatten(_mapping(source)).items()]
    split = flatten(_mapping(job.get("split")))
    facts += [(in_markdown(f"split.{key}"), value) for key, value in split.items() if value is not None]
    return ["## Data and splits", _facts(facts)]


def _recipe(manifest: dict[str, Any], job: dict[str, Any]) -> list[str]:
    recipe, model = _mapping(job.get("recipe")), _mapping(job.get("model"))
    code = _mapping(manifest.get("model_code"))
    facts: list[tuple[str, Any]] = [("model", model.get("name", "given from Python")), ("model code", code.get("sha256"))]
    facts += [(in_markdown(f"model.{key}"), value) for key, value in model.items() if key != "name"]
    facts += [(in_markdown(f"recipe.{key}"), value) for key, value in recipe.items() if not isinstance(value, (dict, list))]
    written = [recipe.get(key) for key in ("objective", "optimizer", "schedule")]
    techniques = recipe.get("techniques")
    written += techniques if isinstance(techniques, list) else []
    settings: dict[str, list[str]] = {}
    for item in written:
        told = ", ".join(f"{key} {value}" for key, value in flatten(_mapping(item)).items() if key != "name")
        settings.setdefault(str(_mapping(item).get("name", item)), []).append(told)
    rows = []
    known = manifest.get("techniques")
    for item in known if isinstance(known, list) else []:
        fact = _mapping(item)
        left = settings.get(str(fact.get("id")), [])
        cells = [fact.get("slot"), fact.get("id"), left.pop(0) if left else None, fact.get("version"), fact.get("sha256")]
        rows.append([in_markdown(cell) for cell in cells])
    table = _table(["slot", "technique", "settings", "version", "SHA-256 of its file"], rows)
    return ["## Model", _facts(facts), "## Techniques", table if rows else "The manifest lists none."]


def _results(result: dict[str, Any]) -> list[str]:
    rows = [
        [part, in_markdown(name), in_markdown(metric(str(name), value))]
        for part, key in (("validation", "metrics"), ("test", "test"))
        for name, value in _mapping(result.get(key)).items()
    ]
    best = _mapping(result.get("best"))
    if best:
        told = f"{metric(str(best.get('metric')), best.get('value'))} at step {best.get('step')}"
        rows.append(["best evaluation", in_markdown(best.get("metric")), in_markdown(told)])
    return ["## Results", _table(["part", "metric", "value"], rows) if rows else "None: the run has not finished."]


def _environment(manifest: dict[str, Any]) -> list[str]:
    known, git = _mapping(manifest.get("environment")), manifest.get("git")
    told = {name: known[name] for name in _ENVIRONMENT if known.get(name) is not None}
    facts: list[tuple[str, Any]] = [(in_markdown(key), value) for key, value in flatten(told).items()]
    packages = _mapping(known.get("packages"))
    facts.append(
        ("packages", f"{len(_mapping(packages.get('installed')))} installed, SHA-256 of the list {packages.get('sha256')}")
    )
    facts.append(("numeric fingerprint", known.get("numeric")))
    facts += [(in_markdown(f"git.{key}"), value) for key, value in _mapping(git).items()]
    return ["## Environment", _facts(facts)]


def _history(events: list[Logged]) -> list[str]:
    counts: Counter[str] = Counter()
    for event in events:
        counts[event.kind] += event.repeated
    rows = [[in_markdown(kind), f"{count:,}"] for kind, count in counts.items()]
    told = [event for event in events if event.kind in _TOLD_SINGLY]
    lines = [
        [f"{event.step:,}", in_markdown(event.kind), in_markdown(event.at or None), in_markdown(_told(event))]
        for event in told[:MOST_ROWS]
    ]
    parts = ["## History", _table(["event", "count"], rows) if rows else "There is no event log."]
    if lines:
        parts.append(_table(["step", "event", "at", "detail"], lines))
    if len(told) > MOST_ROWS:
        parts.append(f"{len(told) - MOST_ROWS:,} further ones are in events.jsonl.")
    return parts


def _told(event: Logged) -> str:
    changed = event.detail.get("differences")
    if isinstance(changed, list):
        named = [f"{item.get('path')} ({item.get('affects')})" for item in changed if isinstance(item, dict)]
        return ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
    return ", ".join(f"{key} {value}" for key, value in event.detail.items())


def _audit(found: Audit) -> list[str]:
    rows = [[in_markdown(check.name), check.answer, in_markdown(check.told)] for check in found.checks]
    return ["## Audit", _table(["what", "answer", "detail"], rows), f"Head of the history: {in_markdown(found.head)}"]


def _limits(manifest: dict[str, Any], result: dict[str, Any], events: list[Logged], found: Audit) -> list[str]:
    git = _mapping(manifest.get("git"))
    techniques = manifest.get("techniques")
    unknown = [_mapping(item).get("id") for item in techniques or [] if _mapping(item).get("sha256") is None]
    kinds = {event.kind for event in events}
    lines = [
        "One run with one seed: how far its results would spread over seeds is not known from it.",
        "Who can write the run's folder can write all of it anew, hashes included; a head kept elsewhere shows that.",
    ]
    said = [
        (
            not _mapping(manifest.get("data")).get("fingerprint"),
            "The data has no fingerprint: it was given from Python.",
        ),
        (not git, "No git state is on record: the job lay in no repository, or git gave no answer."),
        (bool(git.get("changed_files")), "The repository had changes that no commit holds; only their hash is on record."),
        (not manifest.get("model_code"), "The model's code is not on record."),
        (bool(unknown), f"The source of these techniques is not on record: {in_markdown(', '.join(map(str, unknown)))}."),
        (not _mapping(result.get("test")), "There is no result on untouched test data."),
        ("environment_changed" in kinds, "Parts of the run were computed in another environment, as the history tells."),
        ("environment" not in manifest, "An older version wrote the manifest: little of the environment is known."),
        (not found.ok, "The audit found something broken: figures here may not be those that training wrote."),
    ]
    return ["## What is not known", "\n".join(f"- {line}" for line in [*lines, *(text for holds, text in said if holds)])]
