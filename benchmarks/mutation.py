"""Do the tests notice? Change one token of a technique at a time and run its tests: python -m benchmarks.mutation

A mutant lives when the technique's own tests, the examples in its file and its contract tests all still pass. What is
changed is a copy: the checkout stays as it is. Mutants that do the same as the code are listed, with the reason, in
`mutation_equivalents.txt`; they are run too, and one that a test notices after all is reported.

    python -m benchmarks.mutation --only adamw one_cycle --list-survivors
    python -m benchmarks.mutation --sample 20 --seed 1
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.mutants import Mutant, mutants

BAR = 0.10  # share of mutants that may live
COPIED = ("src", "tests", "docs", "examples", "pyproject.toml", "README.md", "LICENSE")
MEMORY = 24 << 30  # address space in bytes: a mutant that asks for more is stopped before the machine is
EQUIVALENTS = "benchmarks/mutation_equivalents.txt"


@dataclass(frozen=True)
class Technique:
    """A technique file, its text, and what is run for it, as paths in the checkout."""

    id: str
    file: str
    source: str
    tests: tuple[str, ...]


@dataclass
class Tally:
    """What came of a technique's mutants."""

    technique: Technique
    seconds: float = 0.0
    killed: int = 0
    survivors: list[Mutant] = field(default_factory=list)
    equivalents: list[Mutant] = field(default_factory=list)
    wrongly_listed: list[Mutant] = field(default_factory=list)
    broken: str = ""

    @property
    def num(self) -> int:
        """Mutants that could be noticed."""
        return self.killed + len(self.survivors)


def techniques(root: Path, only: list[str]) -> list[Technique]:
    """Every technique file of a checkout, or those asked for by id."""
    found = []
    for file in sorted((root / "src/stepwell/techniques").glob("*/*.py")):
        if file.stem != "__init__" and (not only or file.stem in only):
            tests = sorted((root / "tests/techniques").rglob(f"test_{file.stem}.py"))
            paths = tuple(str(test.relative_to(root)) for test in tests)
            found.append(Technique(file.stem, str(file.relative_to(root)), file.read_text(encoding="utf-8"), paths))
    unknown = set(only) - {technique.id for technique in found}
    if unknown:
        raise SystemExit(f"no technique file is called {', '.join(sorted(unknown))}")
    return found


def equivalents(text: str) -> dict[tuple[str, str, str], str]:
    """The reviewed list: (file, line, line after the change) -> why no test can notice.

    >>> equivalents("a.py: x < 1 => x <= 1\\n    x is never 1\\n")
    {('a.py', 'x < 1', 'x <= 1'): 'x is never 1'}
    """
    listed: dict[tuple[str, str, str], str] = {}
    key = None
    for line in text.splitlines():
        if line.startswith("    ") and key:
            listed[key] = f"{listed[key]} {line.strip()}".strip()
        elif line.strip() and not line.startswith("#"):
            file, change = line.split(": ", 1)
            before, after = change.split(" => ", 1)
            key = (file, before.strip(), after.strip())
            listed[key] = ""
    nameless = [key for key, reason in listed.items() if not reason]
    if nameless:
        raise SystemExit(f"{EQUIVALENTS}: no reason stands under {nameless[0][1]} => {nameless[0][2]}")
    return listed


# --- one worker: a process that has loaded all that isn't changed, with a copy of the checkout of its own


class Contract:
    """A pytest plugin: of the contract tests, those of one technique."""

    def __init__(self, id: str) -> None:
        self.id = id

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if "/contract/" not in item.nodeid or self.holds(item.nodeid)]

    def holds(self, node: str) -> bool:
        words = node.partition("[")[2].rstrip("]").split("-")
        return any(word.split(".")[0] == self.id for word in words)


def serve(connection: Connection, root: str) -> None:
    """Answer (file, its text, what to run, the time it may take) with pytest's exit code, "timeout", and the seconds."""
    os.chdir(root)
    sys.dont_write_bytecode = True  # a stale cache would be taken for a mutant of the same length
    sys.path[:0] = [str(Path(root) / "src"), root]
    os.environ |= {
        "PYTHONPATH": str(Path(root) / "src"),
        "OMP_NUM_THREADS": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": f"{root}/.hypothesis",
    }
    tried: set[str] = set()
    core = Path(root) / "src/stepwell/core"
    preload(["pytest", *(f"stepwell.core.{path.stem}" for path in sorted(core.glob("[!_]*.py")))], tried)
    assert not [name for name in sys.modules if name.startswith("stepwell.techniques.")], "core may import no technique"
    while (task := connection.recv()) is not None:
        file, text, id, runs, limit = task
        place = Path(root) / file
        kept = place.read_bytes()
        started = time.monotonic()
        place.write_text(text, encoding="utf-8")
        try:
            outcome = forked(id, runs, limit)
        finally:
            place.write_bytes(kept)
        seconds = time.monotonic() - started
        modules = Path(root) / "modules.json"
        if modules.exists():  # what the tests needed is loaded once for all that follow
            preload(json.loads(modules.read_text(encoding="utf-8")), tried)
            modules.unlink()
        connection.send((outcome, seconds))


def preload(names: list[str], tried: set[str]) -> None:
    """Import what can be imported, each once."""
    for name in names:
        if name in tried:
            continue
        tried.add(name)
        try:
            importlib.import_module(name)
        except Exception:  # an optional part, or one that can only be imported from another
            continue


def forked(id: str, runs: list[list[str]], limit: float) -> int | str:
    """Run pytest in a child, once per list of paths, until one fails."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            with open("log.txt", "w", encoding="utf-8") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = run_tests(id, runs)
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.01)


def run_tests(id: str, runs: list[list[str]]) -> int:
    import pytest

    quiet = ["-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", os.getcwd()]
    code = 0
    for paths in runs:
        code = code or int(pytest.main([*quiet, *paths], plugins=[Contract(id)]))
    foreign = [name for name, module in list(sys.modules.items()) if is_installed(module)]
    Path("modules.json").write_text(json.dumps(foreign), encoding="utf-8")
    return code


def is_installed(module: Any) -> bool:
    """Whether a module comes from outside the checkout, so that it is the same for every mutant."""
    file = getattr(module, "__file__", None) or ""
    return "site-packages" in file and "/plugins/" not in file


# --- all of them


class Workers:
    """A few workers, each with its own copy of the checkout; a task waits until one is free."""

    def __init__(self, root: Path, folder: Path, num: int) -> None:
        self.free: SimpleQueue[Connection] = SimpleQueue()
        self.connections, self.processes = [], []
        context = get_context("spawn")
        for number in range(num):
            copy = folder / str(number)
            copy.mkdir()
            for name in COPIED:
                copy_over(root / name, copy / name)
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, str(copy)))  # no daemon: tests may start processes
            process.start()
            self.processes.append(process)
            self.connections.append(ours)
            self.free.put(ours)

    def ask(self, *task: Any) -> tuple[int | str, float]:
        """Have a worker do a task, and wait for it."""
        connection = self.free.get()
        connection.send(task)
        answer: tuple[int | str, float] = connection.recv()
        self.free.put(connection)
        return answer

    def close(self) -> None:
        for connection, process in zip(self.connections, self.processes):
            connection.send(None)
            process.join()


def copy_over(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(
            source,
            target,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "data" if source.name == "examples" else ""),
        )
    elif source.exists():
        shutil.copy2(source, target)


def tallies(root: Path, chosen: dict[Technique, list[Mutant]], workers: Workers, num: int, least: float) -> Iterator[Tally]:
    """What came of each technique's mutants, in the order given; each may take `least` seconds or 3 times what its tests take."""
    listed = equivalents(read(root / EQUIVALENTS))
    with ThreadPoolExecutor(num) as pool:
        for technique, changed in chosen.items():
            started = time.monotonic()
            runs = [[*technique.tests, technique.file], ["tests/contract"] if (root / "tests/contract").exists() else []]
            runs = [paths for paths in runs if paths]
            tally = Tally(technique)
            code, seconds = workers.ask(technique.file, technique.source, technique.id, runs, 600.0)
            if code != 0 or not technique.tests:
                tally.broken = "has no test file" if not technique.tests else f"its tests fail as it is (exit code {code})"
                yield tally
                continue
            limit = max(least, 3 * seconds)
            tasks = [(technique.file, mutant.applied(technique.source), technique.id, runs, limit) for mutant in changed]
            for mutant, (outcome, _) in zip(changed, pool.map(lambda task: workers.ask(*task), tasks)):
                known = (str(Path(technique.file).relative_to("src/stepwell/techniques")), mutant.before, mutant.after) in listed
                if outcome != 0:
                    tally.killed += 1
                    if known:
                        tally.wrongly_listed.append(mutant)
                else:
                    (tally.equivalents if known else tally.survivors).append(mutant)
            tally.seconds = time.monotonic() - started
            yield tally


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these techniques alone")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of each technique, drawn at random, instead of all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--list-survivors", action="store_true", help="print every mutant that lives, as its line before and after"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds that a mutant may always take")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    given = parser.parse_args(arguments)

    chosen = {}
    for technique in techniques(given.root, given.only):
        every = mutants(technique.source)
        if given.sample is not None and given.sample < len(every):
            every = sorted(random.Random(f"{given.seed} {technique.id}").sample(every, given.sample), key=every.index)
        chosen[technique] = every
    done = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        workers = Workers(given.root, Path(folder), given.workers)
        print(f"{'technique':<28}{'mutants':>8}{'killed':>8}{'alive':>7}{'same':>6}{'seconds':>9}")
        try:
            for tally in tallies(given.root, chosen, workers, given.workers, given.limit):
                done.append(tally)
                show(tally, list_survivors=given.list_survivors)
        finally:
            workers.close()
    return summary(done)


def show(tally: Tally, *, list_survivors: bool) -> None:
    """A technique's line, and below it what needs eyes."""
    if tally.broken:
        print(f"{tally.technique.id:<28}{tally.broken}", flush=True)
        return
    counts = f"{tally.num:>8}{tally.killed:>8}{len(tally.survivors):>7}{len(tally.equivalents):>6}{tally.seconds:>9.0f}"
    print(f"{tally.technique.id:<28}{counts}", flush=True)
    for mutant in tally.survivors if list_survivors else []:
        print(f"    {tally.technique.file}:{mutant.line}\n      - {mutant.before}\n      + {mutant.after}", flush=True)
    for mutant in tally.wrongly_listed:
        print(f"    a test notices what {EQUIVALENTS} lists: {mutant.before} => {mutant.after}", flush=True)


def summary(done: list[Tally]) -> int:
    """The last line, and the exit code: 1 where more than the bar live, something is broken or wrongly listed."""
    num, alive = sum(tally.num for tally in done), sum(len(tally.survivors) for tally in done)
    same = sum(len(tally.equivalents) for tally in done)
    share = alive / num if num else 0.0
    print(f"{alive} of {num} mutants live: {share:.1%} (at most {BAR:.0%} may), beside {same} that do the same as the code")
    wrong = [tally for tally in done if tally.broken or tally.wrongly_listed]
    return int(share > BAR or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
