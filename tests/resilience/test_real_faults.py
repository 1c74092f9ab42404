"""T2 with the operating system's own refusals: a full disk in memory, a limit on file sizes, calls that strace lets fail.

What needs root or strace counts as skipped where it can't run; `test_write_faults` covers the same calls everywhere.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from counted import report
from forked import done, forked
from small_runs import differences, remains, temporaries, train, without_names

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, verify_checkpoint
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.storage import write_bytes


@pytest.fixture(scope="module")
def expected(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    done(lambda: train("ema", folder))
    return remains(folder)


def wrong(folder: Path, expected: dict[str, bytes]) -> list[str]:
    """After a disk refused something: checkpoints that don't verify, leftovers, and other bytes after going on."""
    problems = []
    for place in checkpoints(folder / "checkpoints"):
        try:
            verify_checkpoint(place)
        except RunFolderError as error:
            problems.append(str(error))
    problems += [f"{name} was left" for name in temporaries(folder)]
    ended = forked(lambda: train("ema", folder))
    if ended.code != 0:
        return [*problems, f"exit {ended.code}: {ended.error}"]
    return problems + differences(without_names(remains(folder)), without_names(expected))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory of 1 MiB; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    mounted = (
        mounted and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode == 0
    )
    if not mounted:
        report("T2 real faults", skipped=1)
        pytest.skip("counted: mounting a disk needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(path: Path, leave: int) -> None:
    """Fill a disk but for about `leave` bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(file.tell() - leave, 0))


@pytest.mark.parametrize("leave", [0, 8192, 20480])
def test_a_full_disk_fails_saves_out_loud_and_space_brings_the_run_to_its_end(
    small_disk: Path, expected: dict[str, bytes], leave: int
) -> None:
    folder = small_disk / "run"

    def aim(moment: str, step: int) -> None:
        if (moment, step) == ("stepped", 7):
            fill(small_disk / "filler", leave)

    ended = forked(lambda: train("ema", folder, aim=aim, saving="wait"))
    saved = {event.step for event in read_events(folder / "events.jsonl") if event.kind == "saved"}
    assert ended.code in (2, 3)
    assert "expected" in ended.error
    assert all((folder / "checkpoints" / f"step-{step}").is_dir() for step in saved)
    (small_disk / "filler").unlink()
    verify_checkpoint(checkpoints(folder / "checkpoints")[0])
    ended = forked(lambda: train("ema", folder, saving="wait"))
    assert ended.code == 0, ended.error
    assert differences(without_names(remains(folder)), without_names(expected)) == []
    assert temporaries(folder) == []
    report("T2 real faults", full_disk=1)


@pytest.mark.parametrize("most", [300, 1200, 2500])
def test_a_limit_on_file_sizes_fails_saves_out_loud(memory: Path, expected: dict[str, bytes], most: int) -> None:
    def aim(moment: str, step: int) -> None:
        if (moment, step) == ("stepped", 7):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    ended = forked(lambda: train("ema", memory / "run", aim=aim))
    assert ended.code in (2, 3)
    assert "disk is full" in ended.error
    assert wrong(memory / "run", expected) == []
    report("T2 real faults", size_limit=1)


def test_a_device_in_a_files_place_is_neither_written_nor_read(memory: Path) -> None:
    """A link to /dev/full, which refuses every write with "no space left"."""
    (memory / "result.json").symlink_to("/dev/full")
    write_bytes(memory / "result.json", b"{}")  # replaces the link, and never opens what it leads to
    assert (memory / "result.json").read_bytes() == b"{}"
    assert not (memory / "result.json").is_symlink()
    (memory / "events.jsonl").symlink_to("/dev/full")
    from stepwell.engine.records.event_log import EventLog

    with pytest.raises(RunFolderError):
        EventLog(memory / "events.jsonl", "0" * 64)
    report("T2 real faults", devices=2)


TRAINED = """
import sys
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from small_runs import train
train("ema", Path({folder!r}))
"""
INJECTED = [  # the call, its error, what it is about, and the how manieth in each thread is refused
    ("fsync", "EIO", "checkpoints", 1),
    ("openat", "EMFILE", "checkpoints", 1),
    ("rename", "ENOSPC", "checkpoints/step-10", 1),
    ("write", "ENOSPC", "metrics/train.csv", 3),
    ("write", "EIO", "events.jsonl", 2),
    ("mkdir", "EROFS", "checkpoints", 1),
]


def strace_works() -> bool:
    tool = shutil.which("strace")
    return tool is not None and subprocess.run([tool, "-f", "-o", os.devnull, "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("call", "error", "path", "when"), INJECTED)
def test_calls_that_the_kernel_refuses_cost_no_checkpoint(
    memory: Path, expected: dict[str, bytes], call: str, error: str, path: str, when: int
) -> None:
    if not strace_works():
        report("T2 real faults", skipped=1)
        pytest.skip("counted: strace is not there, or may not trace")
    folder = memory / "run"
    code = TRAINED.format(here=str(Path(__file__).parent), folder=str(folder))
    target = str(folder / path)
    fault = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    tracing = ["strace", "-f", "-o", str(memory / "log"), "-P", target, *fault]
    ended = subprocess.run([*tracing, sys.executable, "-c", code], capture_output=True, text=True, cwd=memory)
    assert "INJECTED" in (memory / "log").read_text(), "the call was not met"
    assert ended.returncode == 0 or "RunFolderError" in ended.stderr or "TrainingStopped" in ended.stderr, ended.stderr[-800:]
    assert wrong(folder, expected) == []
    report("T2 real faults", strace=1)
