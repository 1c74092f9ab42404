"""The lock of a run folder: who holds it, that only one does, and when it is stale."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.folder_lock import FolderLock, Holder, holder_of, this_process
from stepwell.engine.records.run_folder import RunFolder


def told(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def test_the_lock_says_which_process_of_which_machine_and_boot_holds_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    lock.take()
    here = told(tmp_path / "lock")
    assert here["pid"] == os.getpid()
    assert here["host"] == platform.node()
    assert here["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    assert here["started"] == Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    assert holder_of(tmp_path / "lock") == this_process()
    lock.release()
    assert holder_of(tmp_path / "lock") is None


def test_a_folder_in_use_names_its_holder_and_leaves_the_lock_as_it_is(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run")
    first.create("job: 1\n")
    before = (tmp_path / "run" / "lock").read_bytes()
    attempts: list[Callable[[], None]] = [
        RunFolder(tmp_path / "run").lock,
        lambda: RunFolder(tmp_path / "run").create("job: 1\n"),
    ]
    for attempt in attempts:
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on {platform.node()}") as refused:
            attempt()
        assert refused.value.exit_code == 2
    assert (tmp_path / "run" / "lock").read_bytes() == before
    first.close()
    RunFolder(tmp_path / "run").lock()


def test_what_a_killed_process_left_does_not_block_the_next_one(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom stepwell.engine.records.folder_lock import FolderLock\n"
        "FolderLock(pathlib.Path(sys.argv[1])).take()\nos.kill(os.getpid(), 9)"
    )
    dead = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")])
    assert dead.wait() == -9
    assert told(tmp_path / "lock")["pid"] == dead.pid
    lock = FolderLock(tmp_path / "lock")
    lock.take()
    assert told(tmp_path / "lock")["pid"] == os.getpid()


def test_a_lock_whose_file_was_taken_away_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    lost: list[str] = []

    def flock(file: Any, kind: int) -> None:
        real(file, kind)
        if not lost:  # a run that failed at its start takes its folder's files away just now
            (tmp_path / "lock").unlink()
            lost.append("lock")

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = FolderLock(tmp_path / "lock")
    lock.take()
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match="in use"):
        FolderLock(tmp_path / "lock").take()


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="is a link"):
        RunFolder(tmp_path).lock()
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.mark.usefixtures("no_flock")
def test_without_the_system_s_locks_the_file_s_being_there_decides(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    lock.take()
    assert holder_of(tmp_path / "lock") == this_process()
    with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on"):
        FolderLock(tmp_path / "lock").take()
    lock.release()
    assert not (tmp_path / "lock").exists()
    FolderLock(tmp_path / "lock").take()


HERE = this_process()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(
    ("holder", "stale"),
    [
        (HERE, False),
        (Holder(HERE.pid, str(int(HERE.started) - 1), HERE.boot, HERE.host), True),  # the number was given again
        (Holder(2**22 + 1, "5", HERE.boot, HERE.host), True),  # above the largest number that a process can have
        (Holder(HERE.pid, HERE.started, "another boot", HERE.host), True),
        (Holder(2**22 + 1, "5", "another boot", "another machine"), False),  # nobody here can tell
    ],
)
def test_without_the_system_s_locks_start_time_and_boot_say_whether_a_holder_lives(
    tmp_path: Path, holder: Holder, stale: bool
) -> None:
    content = json.dumps({"pid": holder.pid, "started": holder.started, "boot": holder.boot, "host": holder.host})
    (tmp_path / "lock").write_text(content, encoding="utf-8")
    if stale:
        FolderLock(tmp_path / "lock").take()
        assert told(tmp_path / "lock")["started"] == HERE.started
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
        return
    with pytest.raises(RunFolderError, match=f"in use by process {holder.pid} on {holder.host}"):
        FolderLock(tmp_path / "lock").take()
    assert (tmp_path / "lock").read_text(encoding="utf-8") == content


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"pid": "x"}'])
def test_a_lock_file_that_names_nobody_is_stale(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content, encoding="utf-8")
    FolderLock(tmp_path / "lock").take()
    assert told(tmp_path / "lock")["pid"] == os.getpid()
