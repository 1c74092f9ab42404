"""Kill trainers, fill their disk, flip bits in their checkpoints, and see what resumes: `python -m benchmarks.resilience --help`.

Every trainer gets the same task (`resilience_peers/task.py`) and is resumed by the call that its documentation names.
docs/resilience.md tells the method and holds the table.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.resilience_host import Fault, Host, Reply, Trial, compiled_faults
from benchmarks.resilience_judge import Flips, FullDisk, Outcome, Row, details, early, noticed, resumed, said, table
from benchmarks.resilience_page import write_page

PEERS = ("hf_trainer", "lightning_trainer", "accelerate_loop", "skorch_net", "keras_fit", "stepwell_fit")
WRITES = ("write", "pwrite", "sendfile", "copy_file_range")


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Args:
        num_steps: of a whole run.
        kills: completed steps after which a run is killed.
        num_inside: kills inside one save, spread over its calls; its first, middle and last write are among them.
        num_flips: flipped bits.
        limit: seconds for one process.
    """

    num_steps: int = 64
    kills: tuple[int, ...] = (7, 12, 16, 23, 29, 32, 37, 41, 48, 53, 62)
    num_inside: int = 9
    num_flips: int = 20
    limit: float = 60.0

    @property
    def main_kill(self) -> int:
        """The kill whose checkpoint is damaged by flips."""
        return 37 if 37 in self.kills else self.kills[-1]


QUICK = Plan(kills=(23, 37), num_inside=3, num_flips=4)


class Trials:
    """The experiments on one trainer in one setting.

    Args:
        host: the trainer, waiting.
        setting: how it is used.
        plan: how much is tried.
        place: an empty folder.
    """

    def __init__(self, host: Host, setting: str, plan: Plan, place: Path) -> None:
        self.host, self.setting, self.plan, self.place = host, setting, plan, place
        facts = host.about["settings"][setting]
        self.title: str = facts["title"]
        self.save_every: int = facts["save_every"]
        self.part: str = facts["part"]
        self.reference = ""
        self._count = 0

    @property
    def save_step(self) -> int:
        """The step whose save meets faults: well inside the run, with whole checkpoints before it."""
        return (self.plan.num_steps * 3 // 4) // self.save_every * self.save_every

    def trial(self, folder: Path | None = None, **settings: Any) -> tuple[Reply, Path, Path]:
        """One process: its reply, the run's folder, the folder beside it."""
        self._count += 1
        beside = self.place / f"trial-{self._count}"
        beside.mkdir()
        if folder is None:
            folder = beside / "files" / "run"
            folder.mkdir(parents=True)
        reply = self.host.run(Trial(str(folder), str(beside), self.setting, **settings))
        return reply, folder, beside

    def repeats(self) -> bool:
        """Two uninterrupted runs: whether their bytes are the same; the first one's are the reference.

        Raises:
            RuntimeError: the trainer can't do the task at all.
        """
        first, _, _ = self.trial()
        second, _, _ = self.trial()
        if first.code != 0 or first.digest is None:
            raise RuntimeError(f"an uninterrupted run failed: {first.error}\n{first.printed[-2000:]}")
        self.reference = first.digest
        return first.digest == second.digest

    def resume(self, folder: Path, *, had_saved: bool = True) -> tuple[Outcome, Reply]:
        """Resume a folder by the documented call."""
        reply, _, _ = self.trial(folder, resume=True)
        return resumed(reply, self.reference, num_steps=self.plan.num_steps, had_saved=had_saved), reply

    def killed_after(self, step: int) -> Outcome:
        """Kill between saves, then resume."""
        reply, folder, _ = self.trial(kill_after=step)
        _require(reply.code == -9, f"was to be killed after step {step} and ended with {reply.code}")
        # A save in the background may still be under way: with two of them begun, one is whole.
        outcome, _ = self.resume(folder, had_saved=step > 2 * self.save_every)
        shutil.rmtree(folder.parent)
        return early(outcome, step, self.save_every)

    def calls(self) -> list[str]:
        """The calls that change files from the start of the faulty save's step to the start of the next save's step."""
        until = self.save_step + self.save_every
        _, folder, beside = self.trial(fault=Fault("log", self.save_step, until=until, part=self.part))
        shutil.rmtree(folder.parent)
        return (beside / "calls.txt").read_text().splitlines()

    def killed_inside(self, at: int) -> Outcome:
        """Kill before a call of the save, then resume."""
        reply, folder, _ = self.trial(fault=Fault("kill", self.save_step, at, part=self.part))
        _require(reply.code == -9, f"was to be killed before call {at} and ended with {reply.code}")
        outcome, _ = self.resume(folder)
        shutil.rmtree(folder.parent)
        return outcome

    def disk_full(self, at: int) -> FullDisk:
        """Let a call of the save and all later writes fail; then resume with space."""
        reply, folder, _ = self.trial(fault=Fault("full", self.save_step, at, part=self.part))
        word = said(reply)
        outcome, _ = self.resume(folder)
        shutil.rmtree(folder.parent)
        return FullDisk(word, outcome)

    def flips(self) -> Flips | None:
        """Flip single bits of the first layer's weights in the newest checkpoint that holds them."""
        _, folder, beside = self.trial(kill_after=self.plan.main_kill, weights_every=self.save_every)
        copies = sorted(beside.glob("weights-*.bin"), key=lambda path: -int(path.stem.split("-")[1]))
        spots = next((found for found in (places_of(folder, copy.read_bytes()) for copy in copies) if found), None)
        if spots is None:
            return None
        length, draw, ends = copies[0].stat().st_size, random.Random(0), []
        for number in range(self.plan.num_flips):
            byte, bit = draw.randrange(length), draw.randrange(8)
            damaged = self.place / f"flip-{number}" / "run"
            shutil.copytree(folder, damaged, symlinks=True)
            for path, offset in spots:
                flip(damaged / path, offset + byte, bit)
            ends.append(self.resume(damaged))
            shutil.rmtree(damaged.parent)
        seen = tuple(outcome for outcome, reply in ends if noticed(reply))
        return Flips(len(ends), len(seen), seen)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise RuntimeError(f"a trial {problem}: the measurement is not valid")


def places_of(folder: Path, content: bytes) -> list[tuple[Path, int]]:
    """Where these bytes lie in the files below a folder: path within it and offset, one for each file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    found = [(path.relative_to(folder), path.read_bytes().find(content)) for path in files]
    return [(path, offset) for path, offset in found if offset >= 0]


def flip(path: Path, byte: int, bit: int) -> None:
    """Turn one bit of a file round."""
    with path.open("r+b") as file:
        file.seek(byte)
        (old,) = file.read(1)
        file.seek(byte)
        file.write(bytes([old ^ (1 << bit)]))


def chosen_calls(calls: Sequence[str], most: int) -> list[int]:
    """Numbers of the calls before which to kill, from 1: the first, middle and last write, the rest spread evenly.

    >>> chosen_calls(["open a", "write a", "write a", "write a", "rename a"], 3)
    [2, 3, 4]
    >>> chosen_calls(["open a", "write a", "write a", "write a", "rename a"], 9)
    [1, 2, 3, 4, 5]
    """
    writes = chosen_writes(calls)
    chosen = set(writes)
    spread = max(most - len(chosen), 0)
    rest = [number for number in range(1, len(calls) + 1) if number not in chosen]
    if spread >= len(rest):
        return sorted({*chosen, *rest})
    return sorted({*chosen, *(rest[round(index * (len(rest) - 1) / max(spread - 1, 1))] for index in range(spread))})


def chosen_writes(calls: Sequence[str]) -> list[int]:
    """Numbers of the first, middle and last call that writes data, from 1.

    >>> chosen_writes(["open a", "write a", "pwrite64 a", "rename a"])
    [2, 3]
    """
    writes = [number for number, call in enumerate(calls, 1) if call.startswith(WRITES)]
    return sorted({writes[0], writes[len(writes) // 2], writes[-1]}) if writes else []


def place_name(calls: Sequence[str], number: int) -> str:
    """A call as the details name it.

    >>> place_name(["open64 /tmp/run/step_40/model.bin"], 1)
    'call 1 of 1 (open64 model.bin)'
    """
    name, _, path = calls[number - 1].partition(" ")
    file = "a temporary file" if Path(path).name.startswith(("tmp", ".tmp")) else Path(path).name
    return f"call {number} of {len(calls)} ({name} {file})"


def measured(host: Host, setting: str, plan: Plan, place: Path, say: Callable[[str], None]) -> Row:
    """All experiments on one trainer in one setting."""
    started = time.monotonic()
    trials = Trials(host, setting, plan, place)
    say(f"{trials.title}: uninterrupted")
    repeats = trials.repeats()
    say(f"{trials.title}: kills between saves")
    between = {step: trials.killed_after(step) for step in plan.kills}
    inside, full, calls = None, None, []
    if host.library is not None:
        calls = trials.calls()
        say(f"{trials.title}: kills inside a save of {len(calls)} calls")
        inside = {place_name(calls, at): trials.killed_inside(at) for at in chosen_calls(calls, plan.num_inside)}
        say(f"{trials.title}: full disk")
        full = {place_name(calls, at): trials.disk_full(at) for at in chosen_writes(calls)}
    say(f"{trials.title}: flipped bits")
    flips = trials.flips()
    seconds = time.monotonic() - started
    versions = host.about["versions"]
    return Row(trials.title, versions, trials.save_every, repeats, between, inside, len(calls), full, flips, seconds)


def measure(
    names: Sequence[str], plan: Plan, say: Callable[[str], None], *, package: str = "benchmarks.resilience_peers"
) -> list[Row]:
    """All settings of these trainers; one that isn't installed is said and left out."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="resilience-") as base:
        library = compiled_faults(Path(base))
        if library is None:
            say("no C compiler: kills inside a save and full disks are not measured")
        for name in names:
            with Host(f"{package}.{name}", library=library, limit=plan.limit) as host:
                if "missing" in host.about:
                    say(f"{name}: not installed ({host.about['missing']})")
                    continue
                for setting in host.about["settings"]:
                    with tempfile.TemporaryDirectory(dir=base) as place:
                        rows.append(measured(host, setting, plan, Path(place), say))
    return rows


def as_plain(rows: Sequence[Row], *, minutes: float) -> dict[str, Any]:
    """Rows as JSON can hold them."""
    return {"minutes": minutes, "rows": [asdict(row) for row in rows]}


def from_plain(plain: dict[str, Any]) -> tuple[list[Row], float]:
    """The rows and minutes of `as_plain`, after a trip through JSON."""

    def row(facts: dict[str, Any]) -> Row:
        between = {int(step): Outcome(**one) for step, one in facts["between"].items()}
        inside = facts["inside"] and {name: Outcome(**one) for name, one in facts["inside"].items()}
        full = facts["full"] and {name: FullDisk(one["said"], Outcome(**one["resumed"])) for name, one in facts["full"].items()}
        flips = facts["flips"] and Flips(
            **facts["flips"] | {"noticed": tuple(Outcome(**one) for one in facts["flips"]["noticed"])}
        )
        return Row(**facts | {"between": between, "inside": inside, "full": full, "flips": flips})

    return [row(facts) for facts in plain["rows"]], plain["minutes"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it into the page."""
    parser = argparse.ArgumentParser(description="What is left after kills, full disks and flipped bits.")
    parser.add_argument("--only", nargs="+", choices=PEERS, metavar="NAME", help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help="few kills and flips; the page is left alone")
    parser.add_argument("--limit", type=float, default=Plan.limit, help="seconds that one process may take")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument(
        "--again", type=Path, help="measure nothing: print the rows that --json wrote, and write --page from them"
    )
    parser.add_argument(
        "--page", type=Path, help="write the table into this page (default: docs/resilience.md after a whole run)"
    )
    options = parser.parse_args(arguments)
    plan = replace(QUICK if options.quick else Plan(), limit=options.limit)
    if options.again is not None:
        rows, minutes = from_plain(json.loads(options.again.read_text()))
    else:
        started = time.monotonic()
        rows = measure(options.only or PEERS, plan, lambda line: print(f"  {line}", file=sys.stderr, flush=True))
        minutes = (time.monotonic() - started) / 60
    rows.sort(key=lambda row: row.title != "stepwell")
    print(table(rows, plan.num_steps), "\n", details(rows), f"\n{minutes:.1f} minutes", sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(as_plain(rows, minutes=minutes), indent=2) + "\n")
    whole = not options.quick and options.only is None and options.again is None
    page = options.page or (Path(__file__).resolve().parents[1] / "docs" / "resilience.md" if whole else None)
    if page is not None:
        write_page(page, rows, num_steps=plan.num_steps, minutes=minutes)


if __name__ == "__main__":
    main()
