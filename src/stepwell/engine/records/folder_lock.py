"""The lock that keeps two runs from sharing a folder, and says who holds it.

The operating system's lock on the file decides (`flock`); it ends with the process that holds it, however that ends. Where
a file system has no such locks, the file's being there decides, and a holder that no longer lives is known by its process
number, start time and boot.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stepwell.core.errors import RunFolderError
from stepwell.engine.records import storage
from stepwell.engine.records.strict_json import parse_json

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_TRIES, _PAUSE = 5, 0.02  # seconds: whoever only asks who holds a lock has it for an instant too
_SETTLE = 0.1  # seconds within which two that took the same stale file notice each other
_MOST = 4096
_STALE = ".lock.tmp-"  # swept away with other leftovers if its process is killed just then


@dataclass(frozen=True)
class Holder:
    """A process that works in a run folder.

    Args:
        pid: its number.
        started: when it started, in the machine's ticks since boot; "" where that isn't known.
        boot: which start of the machine it runs in.
        host: the machine's name.
    """

    pid: int
    started: str = ""
    boot: str = ""
    host: str = ""

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" on {self.host}" if self.host else "")

    @property
    def lives(self) -> bool:
        """Whether it may still be running; of another machine's process that can't be told, so it may."""
        here = this_process()
        if self.host != here.host:
            return True
        if self.boot != here.boot:
            return False
        if self.started:
            return _started(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it is another user's
            return True
        return True


def this_process() -> Holder:
    """The one that asks."""
    boot = _text(Path("/proc/sys/kernel/random/boot_id")).strip()
    return Holder(os.getpid(), _started(os.getpid()), boot, platform.node())


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock file `path` now, or None. The file stays as it is.

    Raises:
        RunFolderError: it is no regular file.
    """
    try:
        file = storage.opened(path)
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            told = _read(path)
            if error.errno not in _NO_LOCKS:
                return told or Holder(0)
            return told if told is not None and told.lives else None
    return None


def is_lock(path: Path) -> bool:
    """Whether a file in a run folder is its lock, or a stale one on its way out."""
    return path.name == "lock" or path.name.startswith(_STALE)


class FolderLock:
    """A run folder's lock.

    Args:
        path: the file, named "lock", in the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: storage.Appender | None = None
        self._created: bytes | None = None

    def take(self) -> None:
        """Take the lock until `release` or the end of the process.

        Raises:
            RunFolderError: another process has it.
            OSError: the file can't be written.
        """
        for attempt in range(_TRIES):
            time.sleep(_PAUSE if attempt else 0)
            file = storage.Appender(self.path)
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_its_place(file):
                    storage.cut(self.path, 0)
                    file.append(_line())
                    self._file, file = file, None  # type: ignore[assignment]
                    _held.add(self)
                    return
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return self._take_by_creating()
            finally:
                if file is not None:
                    file.close()
        raise self._in_use()

    def release(self) -> None:
        """Let go; the file stays where the operating system's lock decides."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
        if self._created is not None:
            created, self._created = self._created, None
            with suppress(OSError):
                if storage.read_bytes(self.path, most=_MOST) == created:
                    storage.remove(self.path)

    def forget(self) -> None:
        """In a forked child, such as a data worker: the lock is the parent's alone, and has to end with it."""
        if self._file is not None:
            self._file.close()
        self._file = self._created = None

    def _is_at_its_place(self, file: storage.Appender) -> bool:
        # A run that failed at its start takes its folder away again, and the file that was opened before with it.
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _take_by_creating(self) -> None:
        mine = _line()
        for _ in range(_TRIES):
            if self.path.exists():
                told = _read(self.path)
                if told is not None and told.lives:
                    break
                self._move_away(told)
            try:
                storage.write_into(self.path, [mine])
            except FileExistsError:
                continue
            time.sleep(_SETTLE)
            if self.path.exists() and storage.read_bytes(self.path, most=_MOST) == mine:
                self._created = mine
                return
            break
        raise self._in_use()

    def _move_away(self, stale: Holder | None) -> None:
        """Take a stale file away; one that another process has put there meanwhile goes back."""
        aside = self.path.with_name(f"{_STALE}{os.getpid()}")
        with suppress(FileNotFoundError):
            storage.rename(self.path, aside)
            if _read(aside) == stale:
                storage.remove(aside)
            else:
                storage.rename(aside, self.path)

    def _in_use(self) -> RunFolderError:
        return in_use(self.path.parent, _read(self.path))


def in_use(folder: Path, holder: Holder | None) -> RunFolderError:
    """The refusal to work in a folder where another process does."""
    return RunFolderError(
        f"{folder} is in use by {holder if holder is not None and holder.pid else 'another process'}",
        expected="a folder that no other run writes to",
        fix="Wait for that run to end, or choose another --out",
    )


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)


def _line() -> bytes:
    return (json.dumps(asdict(this_process())) + "\n").encode()


def _read(path: Path) -> Holder | None:
    """Whom a lock file names; earlier versions wrote the number alone."""
    for _ in range(_TRIES):
        try:
            content = storage.read_bytes(path, most=_MOST)
        except (OSError, RunFolderError):
            content = b""
        if content.strip():
            break
        time.sleep(_PAUSE)  # who has just taken it is about to write its name
    try:
        told = parse_json(content)
        if isinstance(told, int):
            return Holder(told)
        return Holder(int(told["pid"]), *(str(told.get(name, ""))[:200] for name in ("started", "boot", "host")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _started(pid: int) -> str:
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()  # the program's name may hold anything
    return fields[19] if len(fields) > 19 else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
