"""What a trial showed, in one of few words, and the words counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.resilience_host import Reply

SAME, OTHER, RESTARTS, HANGS, LIES = "same bytes", "other bytes", "restarts from zero", "hangs", "lies"
TOO_EARLY = "starts anew, no save yet"
NOT_MEASURED = "not measured: needs Linux and a C compiler"
SPACE = re.compile(
    r"no space|ENOSPC|disk|could not (be )?sav|can't be writ|failed to (save|write)|unable to (save|write)", re.IGNORECASE
)
DAMAGE = re.compile(r"corrupt|checksum|damage|not whole|integrity|\bcrc\b|hash mismatch", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """How an interrupted run ended after its resume.

    Args:
        word: "same bytes", "other bytes", "restarts from zero", "hangs", "fails: <error>", or "starts anew, no save yet".
        num_updates: optimizer steps in the final weights; None where there are none.
    """

    word: str
    num_updates: int | None = None


@dataclass(frozen=True)
class FullDisk:
    """A run whose save met a full disk, and its resume.

    Args:
        said: "stops: <error>", "goes on, says so", or "lies": it ended well without a word.
        resumed: the resume, once there was space again.
    """

    said: str
    resumed: Outcome


@dataclass(frozen=True)
class Flips:
    """Single flipped bits in the newest checkpoint's weights.

    Args:
        num_flips: how many, each in a fresh copy.
        num_noticed: those where the resume failed or named the damage.
        noticed: how the noticed ones ended.
    """

    num_flips: int
    num_noticed: int
    noticed: tuple[Outcome, ...]


@dataclass(frozen=True)
class Row:
    """One trainer in one setting.

    Args:
        title: as the table calls it.
        versions: of the packages it uses.
        save_every: steps from one checkpoint to the next.
        repeats: whether two uninterrupted runs gave the same bytes.
        between: kills between saves, by the number of steps completed before.
        inside: kills inside a save, by the call before which they came; None where no fault could be made.
        num_calls: calls that change files in the window of that save.
        full: a full disk from a write of a save on; None where no fault could be made.
        flips: flipped bits; None where the weights weren't found in any file.
        seconds: all of it.
    """

    title: str
    versions: dict[str, str]
    save_every: int
    repeats: bool
    between: dict[int, Outcome]
    inside: dict[str, Outcome] | None
    num_calls: int
    full: dict[str, FullDisk] | None
    flips: Flips | None
    seconds: float


def short_error(error: str) -> str:
    """The exception's type and the beginning of its message, without folders.

    >>> short_error("FileNotFoundError: [Errno 2] No such file or directory: '/a/b/checkpoint-40/state.json'")
    "FileNotFoundError: [Errno 2] No such file or directory: '…/state.json'"
    """
    line = " ".join(error.split())
    line = re.sub(r"(?:/[^\s/'\"]+)+/", "…/", line)
    line = re.sub(r"(: time =|, errno =).*", " …", line).rstrip(": ")
    return line if len(line) <= 110 else line[:109] + "…"


def resumed(reply: Reply, reference: str, *, num_steps: int, had_saved: bool) -> Outcome:
    """The word for a resumed run.

    Args:
        reply: the process that resumed.
        reference: digest of the uninterrupted run.
        num_steps: of a whole run.
        had_saved: whether a whole checkpoint was there to resume from.

    >>> resumed(Reply(0, num_steps=29, digest="a", num_updates=64), "a", num_steps=64, had_saved=True)
    Outcome(word='same bytes', num_updates=64)
    """
    if reply.code is None:
        return Outcome(HANGS)
    if reply.code != 0:
        return Outcome(f"fails: {short_error(reply.error or f'signal {-reply.code}')}")
    if had_saved and reply.num_steps >= num_steps and reply.num_updates == num_steps:
        return Outcome(RESTARTS, reply.num_updates)
    return Outcome(SAME if reply.digest == reference else OTHER, reply.num_updates)


def said(reply: Reply) -> str:
    """What a run did about a full disk."""
    if reply.code is None:
        return HANGS
    if reply.code != 0:
        return f"stops: {short_error(reply.error or f'signal {-reply.code}')}"
    return "goes on, says so" if SPACE.search(reply.printed) else LIES


def noticed(reply: Reply) -> bool:
    """Whether a resume from damaged weights failed, or named the damage."""
    return reply.code != 0 or DAMAGE.search(reply.printed) is not None


def counted(outcomes: Sequence[Outcome], num_steps: int) -> str:
    """Outcomes as a cell of the table, errors by their type.

    >>> counted([Outcome("same bytes", 64)] * 11, 64)
    '**same bytes** 11 of 11'
    >>> counted([Outcome("same bytes", 64), Outcome("other bytes", 67), Outcome("fails: OSError: no header")], 64)
    'same bytes 1 of 3; other bytes 1 (67 steps); fails 1 (OSError)'
    """
    words = Counter(outcome.word.split(":")[0] for outcome in outcomes)
    parts: list[str] = []
    for word in (SAME, OTHER, RESTARTS, HANGS, "fails", TOO_EARLY):
        if not words[word]:
            continue
        notes = _notes(word, outcomes, num_steps)
        total = f" of {len(outcomes)}" if not parts else ""
        bold = f"**{word}**" if word == SAME and words[word] == len(outcomes) else word
        parts.append(f"{bold} {words[word]}{total}" + (f" ({notes})" if notes else ""))
    return "; ".join(parts)


def _notes(word: str, outcomes: Sequence[Outcome], num_steps: int) -> str:
    chosen = [outcome for outcome in outcomes if outcome.word.split(":")[0] == word]
    if word == "fails":
        return ", ".join(sorted({outcome.word.split(": ")[1] for outcome in chosen}))
    updates = sorted({outcome.num_updates for outcome in chosen if outcome.num_updates is not None})
    if updates in ([], [num_steps]):
        return ""
    return f"{updates[0]} steps" if len(updates) == 1 else f"{updates[0]} to {updates[-1]} steps"


def cells(row: Row, num_steps: int) -> list[str]:
    """A row's cells: title, repeatable, between, inside, full disk, resume after it, flips."""
    line = [row.title, "yes" if row.repeats else "**no**", counted(list(row.between.values()), num_steps)]
    line.append(NOT_MEASURED if row.inside is None else counted(list(row.inside.values()), num_steps))
    if row.full is None:
        line += [NOT_MEASURED, NOT_MEASURED]
    else:
        words = Counter(one.said.split(": ")[0] for one in row.full.values())
        line.append("; ".join(f"{word} {number} of {len(row.full)}" for word, number in words.items()))
        line.append(counted([one.resumed for one in row.full.values()], num_steps))
    if row.flips is None:
        line.append("not measured: the weights are in no file as they are in memory")
    else:
        text = f"{row.flips.num_noticed} of {row.flips.num_flips}"
        ends = f", then {counted(row.flips.noticed, num_steps)}" if row.flips.num_noticed else ""
        line.append(text + ends)
    return line


HEADS = (
    "trainer",
    "repeatable",
    "killed between saves",
    "killed inside a save",
    "disk full in a save",
    "resume after it",
    "bit flips noticed",
)


def table(rows: Sequence[Row], num_steps: int) -> str:
    """All rows as a Markdown table."""
    lines = [HEADS, ["---"] * len(HEADS), *(cells(row, num_steps) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def early(outcome: Outcome, step: int, save_every: int) -> Outcome:
    """The outcome of a kill after `step` steps; a new start before the first save is called what it is.

    >>> early(Outcome("same bytes", 64), 7, 16).word, early(Outcome("same bytes", 64), 23, 16).word
    ('starts anew, no save yet', 'same bytes')
    """
    return Outcome(TOO_EARLY, outcome.num_updates) if outcome.word == SAME and step < save_every else outcome


def details(rows: Sequence[Row]) -> str:
    """What the table leaves out: each error of a trainer and where it came, as a Markdown list."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for word, place in _ends(row):
            if word.startswith(("fails", "stops")):
                found.setdefault((row.title.split(",")[0], word), []).append(place)
    lines = []
    for (title, word), all_places in found.items():
        places = list(dict.fromkeys(all_places))
        more = f"; and {len(places) - 2} more" if len(places) > 2 else ""
        lines.append(f"- {title}: `{word}` ({'; '.join(places[:2])}{more})")
    return "\n".join(lines)


def _ends(row: Row) -> Iterator[tuple[str, str]]:
    """Every word of a row with the place where it came."""
    for step, outcome in row.between.items():
        yield outcome.word, f"killed after step {step}"
    for place, outcome in (row.inside or {}).items():
        yield outcome.word, f"killed before {place}"
    for place, one in (row.full or {}).items():
        yield one.said, f"disk full from {place} on"
        yield one.resumed.word, f"resumed after a disk full from {place} on"
    for outcome in row.flips.noticed if row.flips else ():
        yield outcome.word, "a flipped bit"
