"""T6: a loader process that dies, raises or hangs never holds up a run, and no number of them changes a bit."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_samples import AT, OddError, Troubled, Varied, num_met, turned
from counted import report
from forked import Child, Marks, done, forked
from small_runs import EPOCH, Noisy, differences, remains, train, without_names
from torch import Tensor

from stepwell.core.batch import tree_leaves
from stepwell.core.errors import DataError
from stepwell.data import parcels, workers
from stepwell.data.examples import MapExamples
from stepwell.data.iterable import IterableSource
from stepwell.data.sources import ShuffledSource, eval_batches
from stepwell.engine.records.event_log import read_events

pytestmark = pytest.mark.usefixtures("loaded")
HUNG = 30.0  # seconds of a trial: nothing may take longer
NAME = "T6 workers"


@pytest.fixture(scope="module")
def expected(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run leaves in which nothing happens."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done(lambda: train("workers", folder))
    return without_names(remains(folder))


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event.detail for event in read_events(folder / "events.jsonl") if event.kind == kind]


def restarts(folder: Path) -> int:
    return sum(event.repeated for event in read_events(folder / "events.jsonl") if event.kind == "worker_restarted")


def digest(tensors: list[Tensor]) -> str:
    """Of the values, and of how they lie in memory."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(repr((tensor.dtype, tuple(tensor.shape), tensor.stride())).encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return found.hexdigest()


def batches_of(kind: str, num_workers: int, method: str = "fork") -> str:
    """A digest of two epochs' batches and of an evaluation's."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method(method, force=True)
    examples = MapExamples(Noisy()) if kind == "pairs" else MapExamples(Varied(), collate=turned)
    source = ShuffledSource(examples, batch_size=7, seed=3, workers=num_workers)
    drawn = [source.next(cursor) for cursor in range(2 * source.steps_per_epoch)]
    source.close()
    drawn += eval_batches(examples, batch_size=8, workers=num_workers, seed=3)
    return digest([leaf for batch in drawn for leaf in tree_leaves([batch.inputs, batch.targets])])


COUNTS = [(kind, number, "fork") for kind in ("pairs", "views") for number in (1, 2, 4)]
SPAWNED = [("pairs", 1, "spawn"), ("views", 2, "spawn"), ("pairs", 4, "spawn")]


@pytest.mark.parametrize(
    "cases", [[*COUNTS, ("views", 1, "spawn")], pytest.param(SPAWNED, marks=pytest.mark.slow)], ids=["share", "spawned"]
)
def test_no_number_of_workers_and_no_way_of_starting_them_changes_a_bit(cases: list[tuple[str, int, str]]) -> None:
    here = {kind: done(lambda kind=kind: batches_of(kind, 0)) for kind in ("pairs", "views")}
    different = [case for case in cases if done(lambda case=case: batches_of(*case), limit=120) != here[case[0]]]
    assert different == []
    report(NAME, floors={"trials": 3}, trials=len(cases), same_bits=len(cases))


DEATHS = ["SIGKILL", "SIGSEGV", "SIGBUS", "SIGTERM", "SIGABRT", "exit"]


@pytest.mark.parametrize(
    "chosen", [DEATHS[:3] + DEATHS[-1:], pytest.param(DEATHS * 4, marks=pytest.mark.slow)], ids=["share", "full"]
)
def test_a_worker_that_dies_is_started_again_at_the_same_place(
    memory: Path, expected: dict[str, bytes], chosen: list[str]
) -> None:
    wrong = {}
    for number, trouble in enumerate(chosen):
        folder, times = memory / str(number), 1 + number % 3
        data = Troubled(trouble, times, memory / f"{number}.met")
        done(partial(train, "workers", folder, data=data), limit=HUNG)
        told = events(folder, "worker_restarted")
        problems = differences(without_names(remains(folder)), expected)
        if problems or restarts(folder) != times or any(event["sample"] != AT for event in told):
            wrong[trouble, times] = (problems, told)
        assert trouble == "exit" or trouble in told[0]["cause"]
    assert wrong == {}
    report(NAME, floors={"trials": 4}, trials=len(chosen), went_on=len(chosen))


NAMED = [(trouble, 2) for trouble in ("SIGKILL", "exit", "raise", "sys.exit", "hang", "hang in C", "SIGSTOP")]


@pytest.mark.parametrize(("trouble", "number"), [*NAMED, ("raise", 0), ("sys.exit", 0)])
def test_what_does_not_pass_is_named_and_ends_the_run_with_its_state_saved(
    memory: Path, expected: dict[str, bytes], trouble: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LIMIT", 1.0)
    folder, note = memory / "run", memory / "met"
    ended = forked(lambda: train("workers", folder, data=Troubled(trouble, 99, note), workers=number), limit=HUNG)
    assert f"sample {AT}" in ended.error
    assert "is saved" in ended.error, ended.error
    if trouble in ("raise", "sys.exit"):
        said = "OddError: the file is cut off" if trouble == "raise" else "SystemExit: 1"
        assert ended.error.startswith(f"DataError: sample {AT} of the dataset can't be read: {said}, at ")
        assert "bad_samples.py" in ended.error
        assert num_met(note) == 1  # it isn't tried again
        assert (" of 2)" in ended.error) == bool(number)
        assert ended.code == 2
    elif trouble in ("SIGKILL", "exit"):
        assert ("was killed by SIGKILL (probably" if trouble == "SIGKILL" else "exit status 3") in ended.error
        assert num_met(note) == 1 + workers.MOST_RESTARTS == 1 + restarts(folder)
        assert ended.code == 3
    else:
        assert "has not moved for 1 seconds" in ended.error
        assert trouble == "SIGSTOP" or "bad_samples.py" in ended.error  # where it hangs
        assert ended.code == 3
    # Mended, the run goes on from the step before, and nothing shows.
    begun = done(lambda: {"from": last_step(folder), **train("workers", folder, data=Noisy(), workers=number)}, limit=HUNG)
    assert begun["from"] >= 0
    assert differences({**without_names(remains(folder)), "result.json": b""}, {**expected, "result.json": b""}) == []
    report(NAME, floors={"trials": 1}, trials=1, named=1)


def last_step(folder: Path) -> int:
    return max(int(place.name[5:]) for place in (folder / "checkpoints").glob("step-*"))


def test_an_exception_in_a_sample_stops_exactly_before_the_step_that_needs_it(memory: Path) -> None:
    folder = memory / "run"
    forked(lambda: train("workers", folder, data=Troubled("raise", 99, memory / "met")), limit=HUNG)
    source = ShuffledSource(MapExamples(range(96)), batch_size=16, seed=7)
    step = next(cursor for cursor in range(EPOCH) if AT in source.next(cursor).inputs.tolist())
    assert last_step(folder) == step
    report(NAME, floors={"trials": 1}, trials=1, named=1)


@pytest.mark.parametrize("trouble", ["raise", "SIGKILL"])
def test_trouble_in_an_evaluation_is_named_and_the_run_goes_on_with_that_evaluation(
    memory: Path, expected: dict[str, bytes], trouble: str
) -> None:
    folder, whole = memory / "run", memory / "whole"
    done(lambda: train("workers", whole, val=Noisy()))
    ended = forked(lambda: train("workers", folder, val=Troubled(trouble, 99, memory / "met")), limit=HUNG)
    assert f"sample {AT}" in ended.error
    assert f"up to step {EPOCH} is saved" in ended.error
    done(lambda: train("workers", folder, val=Noisy()), limit=HUNG)
    assert differences(without_names(remains(folder)), without_names(remains(whole))) == []
    report(NAME, floors={"trials": 1}, trials=1, named=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whom", ["process", "group"])
def test_a_signal_during_a_wait_is_heeded_within_seconds_at_the_exact_step(
    memory: Path, expected: dict[str, bytes], number: int, whom: str
) -> None:
    folder, note = memory / "run", memory / "met"

    def work() -> Any:
        os.setsid()
        return train("workers", folder, data=Troubled("hang", 99, note))

    child = Child(work, limit=HUNG)
    while not num_met(note):
        time.sleep(0.01)
    time.sleep(0.3)  # so that the run waits, too
    sent = time.monotonic()
    if whom == "process":
        child.send(number)
    else:
        os.killpg(child.pid, number)
    ended = child.wait()
    assert ended.code == 128 + number, ended.error
    assert time.monotonic() - sent < 10  # about one; the machine has others to serve
    done(lambda: train("workers", folder, data=Noisy()), limit=HUNG)
    assert differences(without_names(remains(folder)), expected) == []
    report(NAME, floors={"trials": 1}, trials=1, heeded=1)


@pytest.mark.parametrize("inline", ["apart", "inline"])
@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_workers_killed_at_any_instant_change_no_bit(inline: str, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a message: batches are large here, and go through the socket where there is no memfd."""

    class Large(Noisy):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return super().__getitem__(index)[0].repeat(20_000), torch.tensor(index)

    if inline == "inline":
        monkeypatch.setattr(parcels, "LARGEST_INLINE", 1 << 40)

    def work(num_workers: int, num_kills: int) -> Any:
        told: list[dict[str, Any]] = []
        source = ShuffledSource(MapExamples(Large()), batch_size=16, seed=7, workers=num_workers)
        source.watch = workers.Watch(tell=lambda kind, **detail: told.append(detail))
        draw, found, killed = random.Random(1), hashlib.sha256(), 0
        for cursor in range(3 * kills):
            found.update(source.next(cursor).inputs.numpy().tobytes())
            living = multiprocessing.active_children()
            if killed < num_kills and living:
                time.sleep(draw.random() * 0.02)
                os.kill(draw.choice(living).pid or 0, signal.SIGKILL)
                killed += 1
        source.close()
        return [found.hexdigest(), killed, len(told)]

    found, killed, num_told = done(lambda: work(2, kills), limit=120)
    assert found == done(lambda: work(0, 0), limit=120)[0]
    assert killed == kills
    assert 1 <= num_told <= kills  # one that was killed twice was replaced once
    report(NAME, floors={"trials": 8}, trials=kills, went_on=kills)


def children() -> list[int]:
    """Processes whose parent is this one, zombies too."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(place.parent.name))
    return found


def test_a_closed_source_leaves_no_process_and_no_zombie() -> None:
    def work() -> list[int]:
        source = ShuffledSource(MapExamples(Noisy()), batch_size=8, seed=0, workers=3)
        source.next(0)
        for process in multiprocessing.active_children()[:1]:
            process.kill()
        source.next(1)
        source.next(2)
        source.close()
        return children()

    assert done(work, limit=HUNG) == []
    report(NAME, floors={"trials": 1}, trials=1, cleared=1)


@pytest.mark.parametrize("doing", ["nothing", "hang", "hang in C"])
def test_workers_end_within_seconds_when_their_parent_is_killed(tmp_path: Path, doing: str) -> None:
    marks, note = Marks("a", "b"), tmp_path / "met"

    def work() -> None:
        data = Noisy() if doing == "nothing" else Troubled(doing, 99, note)
        source = ShuffledSource(MapExamples(data), batch_size=1, seed=0, workers=2, shuffle="none")
        source.next(0)
        marks["a"], marks["b"] = (process.pid or 0 for process in multiprocessing.active_children())
        for cursor in range(1, AT + 4 if doing != "nothing" else 5):
            source.next(cursor)
        time.sleep(60)

    child = Child(work, limit=HUNG)
    while marks["b"] < 0 or (doing != "nothing" and not num_met(note)):
        time.sleep(0.01)
    child.send(signal.SIGKILL)
    assert child.wait().killed
    deadline = time.monotonic() + 5
    while (alive := [pid for pid in marks.values().values() if running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive == []
    report(NAME, floors={"trials": 1}, trials=1, cleared=1)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def with_little_shared_memory() -> bool:
    """Whether this process has now a /dev/shm of its own, of one MiB; not every machine lets a process do so."""
    library = ctypes.CDLL(None)
    new_mounts, new_user, private_and_below = 0x00020000, 0x10000000, 0x44000
    if library.unshare(new_mounts) != 0 and library.unshare(new_mounts | new_user) != 0:
        return False
    library.mount(b"none", b"/", None, private_and_below, None)
    if library.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=1m") != 0:
        return False
    return os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize == 1 << 20


class Shared(Noisy):
    """A dataset that fills /dev/shm by itself, after all."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == AT:
            torch.zeros(1 << 20).share_memory_().fill_(1.0)
        return super().__getitem__(index)


def test_a_small_shared_memory_is_no_matter_to_batches_and_is_named_where_a_dataset_fills_it() -> None:
    def large() -> Any:
        little = with_little_shared_memory()
        return [little, batches_of("views", 2) == batches_of("views", 0)]

    little, same = done(large, limit=HUNG)
    assert same

    def own() -> None:
        if with_little_shared_memory():
            source = ShuffledSource(MapExamples(Shared()), batch_size=16, seed=0, workers=2)
            for cursor in range(EPOCH):
                source.next(cursor)

    ended = forked(own, limit=HUNG)
    if little:
        assert f"sample {AT}" in ended.error
        assert "SIGBUS" in ended.error or "shared memory" in ended.error or "No space left" in ended.error, ended.error
    report(NAME, floors={"trials": 2}, trials=2, with_1_MiB_of_shm=2 * int(little))


@pytest.mark.parametrize("limit", ["no memfd", "no large files"])
def test_batches_go_through_the_socket_where_there_is_no_memory_to_map(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str) -> int:
        raise OSError(24, "Too many open files")

    def work() -> bool:
        if limit == "no memfd":
            monkeypatch.setattr(os, "memfd_create", refused)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        return batches_of("views", 2) == batches_of("views", 0)

    assert done(work, limit=HUNG)
    report(NAME, floors={"trials": 1}, trials=1, same_bits=1)


def test_a_dataset_that_can_not_be_pickled_is_named_where_processes_are_spawned() -> None:
    class Local(Noisy):
        pass

    def work() -> None:
        multiprocessing.set_start_method("spawn", force=True)
        ShuffledSource(MapExamples(Local()), batch_size=4, seed=0, workers=1).next(0)

    ended = forked(work, limit=HUNG)
    assert ended.error.startswith("DataError: the dataset can't be handed to a worker process")
    report(NAME, floors={"trials": 1}, trials=1, named=1)


class Stream:
    """Items in order, of which one fails, a given number of times; with a state of its own where it is asked to have one."""

    def __init__(self, times: int) -> None:
        self.times, self.place = times, 0

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        while self.place < 20:
            if self.place == 9 and self.times:
                self.times -= 1
                raise OddError("the connection was lost")
            self.place += 1
            yield torch.tensor([float(self.place)]), self.place
        self.place = 0


class Restorable(Stream):
    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


@pytest.mark.parametrize("kind", [Stream, Restorable])
def test_a_stream_that_fails_is_named_and_goes_on_at_the_same_batch(kind: type[Stream]) -> None:
    source = IterableSource(kind(1), batch_size=4, seed=0)
    found = [source.next(cursor).targets.tolist() for cursor in range(2)]
    with pytest.raises(DataError, match=r"failed after 1 items of batch 2: OddError: the connection was lost, at .*test_workers"):
        source.next(2)
    resumed = IterableSource(kind(0), batch_size=4, seed=0)
    resumed.load_state_dict(source.state_dict())
    found += [resumed.next(cursor).targets.tolist() for cursor in range(2, 5)]
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16], [17, 18, 19, 20]]
    report(NAME, floors={"trials": 1}, trials=1, named=1)


def test_a_batch_that_can_not_travel_is_named() -> None:
    examples = MapExamples(Noisy(), collate=lambda items: {"inputs": torch.zeros(4), "names": lambda: 0})

    def work() -> None:
        ShuffledSource(examples, batch_size=4, seed=0, workers=1).next(0)

    ended = forked(work, limit=HUNG)
    assert ended.error.startswith("DataError: samples can't be put together into a batch")
    report(NAME, floors={"trials": 1}, trials=1, named=1)
