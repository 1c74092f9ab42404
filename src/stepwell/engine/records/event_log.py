"""The event log: one JSON object per line, each sealed by a hash over itself and the hash of the line before it.

    {"number": 2, "at": "2031-05-04T10:20:30.123Z", "kind": "best", "step": 40, "detail": {}, "previous": "...", "sha256": "..."}

`sha256` is the SHA-256 of the line's own bytes without that member: the line up to `, "sha256"`, then `}`. `previous` is the
line before's `sha256`, and of the first line the root: the SHA-256 of the run's manifest. So a line can't be changed, taken out,
added or moved without a link that no longer fits, unless all later ones are written anew. Lines taken off the end leave a
shorter log that fits: whoever must notice that keeps the head, the last line's hash, elsewhere.

After lines without such a hash (those of an older version, or damaged ones) `previous` is the SHA-256 of all bytes before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stepwell.engine.records.storage import Appender, cut, explained, flush_folder, read_bytes, sha256
from stepwell.engine.records.strict_json import parse_json, worded

FOLDED_AFTER = 100  # lines of one kind; from there on a line stands for as many events as all before it together
# What an audit relies on, or what happens once in a process: always a line of its own. Each "saved" goes with a checkpoint,
# which takes far more space than its line.
NEVER_FOLDED = frozenset(
    {"started", "saved", "found", "save_failed", "resumed", "interrupted", "stopped", "finished", "failed"}
    | {"budget_changed", "job_edited", "environment_changed", "log_cut", "worker_restarted", "micro_batches"}
)
# A "saved" line may be lost in a power cut: its checkpoint is there, and is put on record when the run goes on.
SYNCED = NEVER_FOLDED - {"saved"}
_SEAL = re.compile(rb', "sha256": "([0-9a-f]{64})"\}\Z')


@dataclass(frozen=True)
class Logged:
    """One line of an event log.

    Args:
        kind: what happened.
        step: completed optimizer steps then.
        detail: what else is told of it.
        repeated: how many events the line stands for, itself included; `detail` is the last one's.
        number: of the line, from 1; 0 in logs of older versions, as `at` is "" and `sha256` too.
        at: when, in UTC.
        sha256: the line's seal.
    """

    kind: str
    step: int
    detail: dict[str, Any] = field(default_factory=dict)
    repeated: int = 1
    number: int = 0
    at: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Break:
    """A link of the chain that doesn't hold.

    Args:
        line: its number in the file, from 1.
        reason: what doesn't fit.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class Torn(Break):
    """A last line without its end: a crash cut it off, or it is being written. The next start cuts it away."""


@dataclass
class _Held:
    """Events of one kind since its last line."""

    total: int = 0
    waiting: int = 0
    step: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


class EventLog:
    """Appends to a run's events.jsonl. What a crash left of an unfinished line is cut off first, and that goes on record.

    Args:
        path: the file; created where it doesn't exist.
        root: what the first line's `previous` holds: the hex SHA-256 of the run's manifest.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "events.jsonl"
    >>> log = EventLog(place, root="0" * 64)
    >>> digest = log.append("started", 0, {"seed": 1})
    >>> log.close()
    >>> [(item.kind, item.detail) for item in read_events(place)], check_chain(place, "0" * 64)
    ([('started', {'seed': 1})], [])
    """

    def __init__(self, path: Path, root: str) -> None:
        self.path, self.head, self.number = path, root, 0
        self._kinds: dict[str, _Held] = {}
        with explained(path):
            lost = self._take_up() if path.exists() else 0
            new = not path.exists()
            self._file = Appender(path)
            if new:
                flush_folder(path.parent)
        if lost:
            self.append("log_cut", 0, {"bytes": lost, "reason": "the last line was not whole"})

    def _take_up(self) -> int:
        """Go on after what is there; how many bytes of an unfinished last line were cut off."""
        content = read_bytes(self.path)
        torn = content.find(b"\0")  # a power cut can leave room that was never written
        whole = content.rfind(b"\n", 0, len(content) if torn < 0 else torn) + 1
        if whole < len(content):
            cut(self.path, whole)
        lines = content[:whole].split(b"\n")[:-1]
        self.number = len(lines)
        for line in lines:
            event = _read(line)
            if event is not None:
                self._kinds.setdefault(event.kind, _Held()).total += event.repeated
        if lines:
            seal = _SEAL.search(lines[-1])
            self.head = seal.group(1).decode() if seal else sha256(content[:whole])
        return len(content) - whole

    def append(self, kind: str, step: int, detail: dict[str, Any]) -> str:
        """Put an event on record; from the hundredth of a kind on, it may wait for others of its kind to share a line with.

        Args:
            kind: what happened.
            step: completed optimizer steps.
            detail: plain values.

        Returns:
            The log's head: the seal of the last line that was written.

        Raises:
            RunFolderError: it could not be written; the log is as before.
        """
        held = self._kinds.setdefault(kind, _Held())
        if kind in NEVER_FOLDED or held.total < FOLDED_AFTER:
            self._flush_held()
            self._write(kind, step, detail)
            held.total += 1
        else:
            held.waiting, held.step, held.detail = held.waiting + 1, step, detail
            if held.waiting >= held.total:
                self._write_held(kind, held)
        if kind in SYNCED:
            with explained(self.path):
                self._file.sync()
        return self.head

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        try:
            self._flush_held()
        finally:
            self._file.close()

    def _flush_held(self) -> None:
        for kind, held in self._kinds.items():
            if held.waiting:
                self._write_held(kind, held)

    def _write_held(self, kind: str, held: _Held) -> None:
        self._write(kind, held.step, held.detail, repeated=held.waiting)
        held.total, held.waiting = held.total + held.waiting, 0

    def _write(self, kind: str, step: int, detail: dict[str, Any], *, repeated: int = 1) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = {"number": self.number + 1, "at": now, "kind": kind, "step": step, "detail": worded(detail)}
        record |= {"repeated": repeated} if repeated > 1 else {}
        body = json.dumps(record | {"previous": self.head}, allow_nan=False)
        seal = sha256(body.encode())
        with explained(self.path):
            self._file.append(f'{body[:-1]}, "sha256": "{seal}"}}\n'.encode())
        self.head, self.number = seal, self.number + 1


def read_events(path: Path) -> list[Logged]:
    """The events of a log, oldest first, of any version; lines that can't be read are left out. Empty where there is no log.

    Raises:
        OSError: it can't be read.
        RunFolderError: it is no regular file.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return []
    return [event for line in content.split(b"\n") if (event := _read(line)) is not None]


def _read(line: bytes) -> Logged | None:
    try:
        record = parse_json(line)
        kind, step, repeated = str(record.pop("kind")), int(record.pop("step")), int(record.pop("repeated", 1))
        number, at, seal = int(record.pop("number", 0)), str(record.pop("at", "")), str(record.pop("sha256", ""))
        record.pop("previous", None)
        detail = record.pop("detail", record)
        return Logged(kind, step, dict(detail), max(repeated, 1), number, at, seal)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def head_of(path: Path, root: str) -> str:
    """The seal of a log's last whole line, or the root where there is none: it stands for the whole history."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return root
    whole = content[: content.rfind(b"\n") + 1]
    seal = _SEAL.search(whole[whole.rfind(b"\n", 0, -1) + 1 :].rstrip(b"\n"))
    return seal.group(1).decode() if seal else sha256(whole) if whole else root


def check_chain(path: Path, root: str) -> list[Break]:
    """Every link that doesn't hold, in the file's order; empty where all do. After a break the next line's own word is taken.

    Args:
        root: what the first line's `previous` must be.

    Raises:
        OSError: it can't be read.
        RunFolderError: it is no regular file.
    """
    content = read_bytes(path)
    breaks: list[Break] = []
    previous, position, unsealed = root, 0, 0
    *lines, rest = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        position += len(line) + 1
        reason, seal = _check_line(line, number, previous)
        if reason and not (unsealed and reason == _UNSEALED):  # of a stretch without hashes the first line is told
            breaks.append(Break(number, reason))
        unsealed = seal is None
        previous = sha256(content[:position]) if seal is None else seal
    return [*breaks, Torn(len(lines) + 1, "the line is not whole")] if rest else breaks


_UNSEALED = "the line has no hash: an older version wrote it, or somebody else"


def _check_line(line: bytes, number: int, previous: str) -> tuple[str | None, str | None]:
    """What is wrong with a line, and the seal that it bears."""
    match = _SEAL.search(line)
    if match is None:
        return _UNSEALED, None
    seal = match.group(1).decode()
    if sha256(line[: match.start()] + b"}") != seal:
        return "its content doesn't fit its hash: the line was changed", seal
    try:
        record = parse_json(line)
        told, counted = record["previous"], record["number"]
    except (ValueError, KeyError, TypeError) as error:
        return f"it can't be read ({error})", seal
    if told != previous:
        where = "the run's manifest" if number == 1 else "the line before"
        return f"it doesn't follow {where}: one was changed, taken out or moved", seal
    return (None if counted == number else f"it says that it is line {counted}"), seal
