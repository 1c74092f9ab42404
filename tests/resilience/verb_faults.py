"""Refusals of the operating system at every call with which a verb changes files, and what must come of each.

Training has suites of its own; here it is about what is written beside it: report, card, export, predictions, pictures, imported
weights, adapters, what cleaning removes, and what train and resume write at their start and end.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import Marks, forked
from small_runs import command, network, write_job
from system_calls import Call, Calls, put_in

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, verify_checkpoint

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EMFILE")
SHORT = "short write"
OLD = b"what was there before\n"
TRAINING = ("/checkpoints", "/metrics", "/timing", "/events.jsonl", "/model", "/result.json")  # see write_faults
SPARED = "left alone: "  # what cleaning says of a run that it can't lock
DEAD = 4_194_303  # above every process number that is given out
Files = dict[str, bytes]


@dataclass(frozen=True)
class Verb:
    """Something that writes.

    Args:
        name: of the verb; work: does it in a folder that `prepare` made.
        loose: parts of paths that differ from call to call (times, process numbers) and are looked at in another way.
        skip: parts of paths at which no call is refused here.
        goes_on: what a run that it began is finished by, as its second call says.
    """

    name: str
    work: Callable[[Path], None]
    loose: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    goes_on: Callable[[Path], None] | None = None

    def __str__(self) -> str:
        return self.name


def called(*words: str) -> Callable[[Path], None]:
    """A verb of the command line; AT/ stands for the folder."""
    return lambda at: command(*(word.replace("AT/", f"{at}/") for word in words))


def _import(at: Path) -> None:
    """What `stepwell import` does in its child process, whose refusals its parent raises."""
    from stepwell.recipe.archive.foreign_weights import _convert

    _convert(at / "foreign.pt", at / "weights.safetensors", None)


def _adapter(at: Path) -> None:
    from stepwell.core.randomness import Rng
    from stepwell.recipe.adapters import save_adapter
    from stepwell.techniques import Lora

    save_adapter(Lora(rank=1)(network(), Rng(0)), at / "adapter")


_RUN = ("lock", "events.jsonl", "manifest.json", "timing", "result.json", "checkpoints/", "model/", "metrics/", "report.html")
VERBS = (
    Verb("report", called("report", "AT/run")),
    Verb("audit --card", called("audit", "AT/run", "--card", "AT/card.md")),
    Verb("export", called("export", "AT/run", "--to", "safetensors", "--out", "AT/exported")),
    Verb("predict", called("predict", "AT/run", "AT/rows.csv", "--out", "AT/predictions.csv")),
    Verb("schedule --png", called("schedule", "AT/job.yaml", "--png", "AT/schedule.png")),
    Verb("import", _import),
    Verb("save_adapter", _adapter),
    Verb("runs clean", called("runs", "clean", "AT/", "--keep", "1", "--yes"), loose=("lock",)),
    Verb("runs clean --only all", called("runs", "clean", "AT/", "--only", "all", "--older", "0h", "--yes"), loose=("lock",)),
    Verb(
        "train",
        called("train", "AT/job.yaml", "--out", "AT/trained", "--quiet"),
        loose=_RUN,
        skip=TRAINING,
        goes_on=called("resume", "AT/trained", "--quiet"),
    ),
    Verb(
        "resume",
        called("resume", "AT/run", "--budget", "5 epochs", "--quiet"),
        loose=_RUN,
        skip=TRAINING,
        goes_on=called("resume", "AT/run", "--quiet"),
    ),
    Verb(
        "replay",
        called("replay", "AT/run", "--out", "AT/again", "--quiet"),
        loose=_RUN,
        goes_on=called("resume", "AT/again", "--quiet"),
    ),
)
READING = (  # verbs that change nothing
    ("evaluate", "AT/run"),
    ("predict", "AT/run", "AT/rows.csv"),
    ("verify", "AT/run"),
    ("diff", "AT/run", "AT/run"),
    ("audit", "AT/run"),
    ("runs", "AT/"),
    ("runs", "clean", "AT/", "--keep", "1"),
    ("explain", "AT/job.yaml"),
    ("schedule", "AT/job.yaml"),
    ("check", "AT/job.yaml"),
    ("techniques",),
)


def prepare(at: Path) -> None:
    """A finished run with its job and data, foreign weights, what a killed process left, and older outputs."""
    import torch

    write_job(at)
    quick_pictures()
    torch.save(network().state_dict(), at / "foreign.pt")
    with contextlib.suppress(SystemExit):
        command("train", at / "job.yaml", "--out", at / "run", "--quiet")
    assert (at / "run" / "report.html").exists()
    for path in [*(at / "run").glob("*.png"), *(at / name for name in ("run/report.html", "card.md", "predictions.csv"))]:
        path.write_bytes(OLD)
    (at / "schedule.png").write_bytes(OLD)
    (at / "run" / f".result.json.tmp-{DEAD}-0").write_bytes(b"half")
    (at / "run" / "checkpoints" / f".step-9.tmp-{DEAD}-1").mkdir()
    (at / "run" / "checkpoints" / f".step-9.tmp-{DEAD}-1" / "state.json").write_bytes(b"half")


def quick_pictures() -> None:
    """For the rest of this child's life pictures are drawn in no time: it is about how they are written."""
    from stepwell.report import page, schedule

    page.png = lambda picture, theme: f"{picture.name} {theme.background}".encode() * 50  # type: ignore[attr-defined]
    schedule.schedule_png = lambda courses, title: title.encode() * 500  # type: ignore[attr-defined]


class Changing(Calls):
    """Knows the calls that change something: not those that only read, but the opening of a folder that is to be flushed.

    Args:
        skip: parts of paths that don't count.
    """

    def __init__(self, skip: Sequence[str]) -> None:
        super().__init__()
        self.skip = skip
        self._written: set[str] = set()
        self.kinds: list[str] = []

    def changes(self, call: Call) -> bool:
        """Whether a call does; call it once for each."""
        if any(part in call.path for part in self.skip):
            return False
        if call.kind in ("open", "open to read"):
            (self._written.add if call.kind == "open" else self._written.discard)(call.path)
            return call.kind == "open" or bool(call.args[1] & os.O_DIRECTORY)
        return call.path in self._written if call.kind == "close" else call.kind != "read"

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        if self.changes(call):
            self.kinds.append(call.kind)
        return go_on()


class Refusing(Changing):
    """Refuses the nth call that changes something, or every later one of its kind too; marks["struck"] counts how often."""

    def __init__(self, nth: int, error: str, marks: Marks, *, lasting: bool, skip: Sequence[str]) -> None:
        super().__init__(skip)
        self.nth, self.error, self.marks, self.lasting = nth, error, marks, lasting
        self._number, self._kind, self._short = -1, "", ""
        marks["struck"] = 0

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        if self._short and call.kind == "write" and call.path == self._short:
            self._short = ""
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.path)
        if not self.changes(call):
            return go_on()
        self._number += 1
        if self._number != self.nth and not (self.lasting and self._number > self.nth and call.kind == self._kind):
            return go_on()
        self._kind = call.kind
        self.marks["struck"] += 1
        if self.error == SHORT and call.kind == "write":
            self._short = call.path
            return go_on(call.args[0], call.args[1][: max(len(call.args[1]) // 2, 1)])
        if call.kind == "close":  # the number is free all the same
            go_on()
        number = getattr(errno, "ENOSPC" if self.error == SHORT else self.error)
        raise OSError(number, os.strerror(number), call.path)


def changing_calls(verb: Verb, at: Path) -> list[str]:
    """The kinds of the calls with which a verb changes files, in order."""

    def work() -> list[str]:
        listed = Changing(verb.skip)
        put_in(listed)
        quick_pictures()
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            verb.work(at)
        return listed.kinds

    ended = forked(work)
    assert ended.code == 0, ended.trace
    found: list[str] = ended.value
    return found


@dataclass(frozen=True)
class Ended:
    """How a verb ended: its exit status, and what it wrote to standard error and to standard output."""

    code: int
    told: str
    answer: str = ""


def done(work_of: Callable[[Path], None], at: Path, stand_in: Calls | None = None) -> Ended:
    """Let a verb work in a child, on a disk that may refuse something."""

    def work() -> list[Any]:
        if stand_in is not None:
            put_in(stand_in)
        quick_pictures()
        with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()) as answer:
            return [_status(work_of, at), told.getvalue(), answer.getvalue()]

    ended = forked(work)
    if ended.code != 0:
        return Ended(ended.code, ended.error + ended.trace)
    return Ended(*ended.value)


def _status(work_of: Callable[[Path], None], at: Path) -> int:
    from stepwell.cli.errors import explain_failure

    try:
        work_of(at)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:  # of what has no verb
        return explain_failure(error)
    return 0


def files(at: Path) -> Files:
    """Every file below a folder, and empty folders too."""
    paths = [path for path in sorted(at.rglob("*")) if path.is_file() or not any(path.iterdir())]
    return {str(path.relative_to(at)): path.read_bytes() if path.is_file() else b"" for path in paths}


def refused(verb: Verb, at: Path, kept: Path, new: Files, *, nth: int, error: str, lasting: bool) -> tuple[str, list[str]]:
    """Refuse a call of a verb, look at what came of it, and do it again on a good disk.

    Args:
        at: where it works; emptied first.
        kept: what `prepare` made there.
        new: the files that the verb leaves when nothing is refused.

    Returns:
        "went on", "stopped" or "not met", and what is wrong, in words.
    """
    put_back(kept, at)
    old, marks = files(at), Marks("struck")
    ended = done(verb.work, at, Refusing(nth, error, marks, lasting=lasting, skip=verb.skip))
    if not marks["struck"]:
        return "not met", [f"exit {ended.code}: {ended.told}"] if ended.code else []
    problems = _told(ended) + _half(verb, files(at), old, new, at)
    missing = _different(verb, files(at), new)
    if ended.code == 0 and SPARED not in ended.answer:
        problems += [f"{name} isn't as it should be, and nothing said so" for name in missing]
    again = done(verb.work, at)
    if verb.goes_on is not None and "already holds" in again.told:
        again = done(verb.goes_on, at)
    if again.code != 0 and (missing or "already" not in again.told):
        problems.append(f"a second call ends with {again.code}: {again.told}")
    problems += [f"after a second call {name} is not as it should be" for name in _different(verb, files(at), new)]
    return "went on" if ended.code == 0 else "stopped", problems


def put_back(kept: Path, at: Path) -> None:
    """The folder as it was, times included."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(kept, at)


def _told(ended: Ended) -> list[str]:
    lines = [line.split(":")[0] for line in ended.told.splitlines()]
    if ended.code == 0:
        return []
    if ended.code not in (2, 3) or "Traceback" in ended.told:
        return [f"exit {ended.code}: {ended.told}"]
    return [] if lines[-3:] == ["error", "expected", "fix"] else [f"not told in three parts: {ended.told}"]


def _half(verb: Verb, found: Files, old: Files, new: Files, at: Path) -> list[str]:
    """Files that are neither as before nor as they should be now, and what was left behind."""
    problems = []
    for name in found.keys() | old.keys():
        if ".tmp-" in name:
            continue
        allowed = [files.get(name) for files in (old, new)]
        if name not in new and _above(name, new):  # an empty folder that files have come into
            allowed.append(None)
        if found.get(name) in allowed or any(part in name for part in verb.loose):
            continue
        if found.get(name) is None:
            problems.append(f"{name} is gone")
        elif name in old or name in new or found[name]:
            problems.append(f"{name} is half: {found[name][:40]!r}")
    return problems + list(_not_whole(at))


def _above(name: str, files: Files) -> bool:
    return any(other.startswith(f"{name}/") for other in files)


def _not_whole(at: Path) -> Iterator[str]:
    """Of every run below: checkpoints that don't verify, and JSON that isn't."""
    runs = [path for path in at.glob("*/checkpoints") if ".tmp-" not in str(path)]
    for place in [path for run in runs for path in checkpoints(run)]:
        try:
            verify_checkpoint(place)
        except RunFolderError as error:
            yield str(error)
    for path in at.rglob("*.json"):
        if ".tmp-" not in str(path):
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                yield f"{path.name} is half: {error}"


def _different(verb: Verb, found: Files, new: Files) -> list[str]:
    """What isn't as it should be, leftovers aside; of what differs from call to call, whether it is there. Which checkpoints a
    run has depends on those that could be saved, and one that went on has a report."""
    wrong = []
    for name in sorted(new if verb.goes_on is not None else found.keys() | new.keys()):
        if ".tmp-" in name or (verb.goes_on is not None and "/checkpoints/" in name):
            continue
        loose = any(part in name for part in verb.loose)
        if (name in found) != (name in new) or (not loose and found[name] != new[name]):
            wrong.append(name)
    return wrong
