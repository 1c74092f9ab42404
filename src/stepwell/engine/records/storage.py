"""All reading and writing of run folders. A crash, a full disk or a power cut leaves the old or the new content, never half.

Every call to the operating system that changes a file goes through this module's `os`, so that a test can let any one
of them fail. Folders are the owner's alone (0700), and so are files (0600). What is read must be a regular file: a link, a
pipe or a device that somebody planted is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.strict_json import parse_json, worded

PIECE = 1 << 20  # bytes handed over in one call: a signal or another thread waits for no more than that
MOST_JSON = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # what a system says of a name under which something is
_temporaries = count()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal into a three-part error."""
    try:
        yield
    except OSError as error:
        raise _told(path, error) from error


def _told(path: Path, error: OSError) -> RunFolderError:
    if error.errno in _FULL:
        return RunFolderError(
            f"the disk is full while writing {path}",
            expected="free space",
            fix="Free some space, then continue with `stepwell resume`; earlier checkpoints are whole",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunFolderError(f"no permission to write {path}", expected="a writable folder", fix="Choose another --out")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return RunFolderError(f"{path} is in the way: a file, not a folder", expected="a folder", fix="Choose another --out")
    if error.errno == errno.ELOOP:
        return RunFolderError(f"{path} is a link", expected="a file of the run's own", fix="Put the file itself there")
    return RunFolderError(
        f"{path} can't be read or written: {error.strerror or error}",
        expected="a disk that works",
        fix="See the message of the operating system; earlier checkpoints are whole",
    )


def make_folder(path: Path) -> None:
    """Create a folder and those above it; one that exists stays as it is.

    Raises:
        OSError: a file is in the way, or no permission.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not path.is_dir():
            raise


def claim_folder(path: Path) -> None:
    """Create a folder that nobody has yet; of several who try at once one succeeds.

    Raises:
        FileExistsError: it is there.
    """
    os.mkdir(path, 0o700)


def remove_empty(path: Path) -> None:
    """Remove a folder in which nothing is; what is not there needn't be removed.

    Raises:
        OSError: something is in it.
    """
    with suppress(FileNotFoundError):
        os.rmdir(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename into place, flush the folder."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{next(_temporaries)}")
    with explained(path):
        try:
            write_into(temporary, [content])
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON; floats that JSON has no word for become "NaN", "Infinity" and "-Infinity"."""
    write_bytes(path, (json.dumps(worded(value), indent=2, allow_nan=False) + "\n").encode())


def write_into(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a new file that nothing reads yet, and flush it to the disk; the SHA-256 of what was written.

    Raises:
        OSError: it exists, or can't be written whole.
    """
    digest = hashlib.sha256()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for block in _blocks(pieces):
            _write_all(handle, block)
            digest.update(block)
        os.fsync(handle)
    finally:
        os.close(handle)
    return digest.hexdigest()


def _blocks(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes with small pieces put together: a call for each of many small tensors would cost more than the bytes."""
    small: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        if len(piece) < PIECE:
            small.append(piece)
            size += len(piece)
        if size >= PIECE or len(piece) >= PIECE:
            yield b"".join(small)
            small, size = [], 0
        if len(piece) >= PIECE:
            yield piece
    yield b"".join(small)


def _write_all(handle: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while len(rest):
        rest = rest[os.write(handle, rest[:PIECE]) :]


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, renamed to it when the block ends well, and removed otherwise.

    A folder that is there already is replaced; its content stays readable until the new one is whole.
    """
    temporary = place.with_name(f".{place.name}.tmp-{os.getpid()}-{next(_temporaries)}")
    with explained(place):
        try:
            try:
                os.mkdir(temporary, 0o700)
            except FileNotFoundError:
                make_folder(place.parent)
                os.mkdir(temporary, 0o700)
            yield temporary
            flush_folder(temporary)
            try:
                os.rename(temporary, place)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                _replace_folder(temporary, place)
            else:
                flush_folder(place.parent)
        except BaseException:
            with suppress(OSError):
                remove(temporary)
            raise


def _replace_folder(temporary: Path, place: Path) -> None:
    """Move what is at `place` aside and `temporary` there, or leave all as it was."""
    old = temporary.with_name(temporary.name + "-old")
    os.rename(place, old)
    try:
        os.rename(temporary, place)
    except BaseException:
        os.rename(old, place)
        raise
    flush_folder(place.parent)
    remove(old)


class Appender:
    """A file that grows line by line. Each line is one write, so that a reader meets whole lines and at most one torn end.

    Args:
        path: created where it doesn't exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = _open_own(path, os.O_CREAT | os.O_APPEND)

    def append(self, line: bytes) -> None:
        """Write a line, which ends with a line feed."""
        assert self._handle is not None, "closed"
        size = os.fstat(self._handle).st_size
        try:
            _write_all(self._handle, line)
        except OSError:
            with suppress(OSError):  # the next line must not continue a torn one
                os.ftruncate(self._handle, size)
            raise

    def sync(self) -> None:
        """Flush to the disk."""
        assert self._handle is not None, "closed"
        os.fsync(self._handle)

    def fileno(self) -> int:
        """The operating system's number of the open file, for locks."""
        assert self._handle is not None, "closed"
        return self._handle

    def close(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)


def _open_own(path: Path, flags: int) -> int:
    """A file that is written where it is, so it must be the run's alone: regular, and without a second name elsewhere."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o600)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise _not_own(path, "is a pipe") from error
    facts = os.fstat(handle)
    if stat.S_ISREG(facts.st_mode) and facts.st_nlink <= 1:
        return handle
    os.close(handle)
    raise _not_own(path, "has a second name elsewhere" if stat.S_ISREG(facts.st_mode) else "is no regular file")


def _not_own(path: Path, what: str) -> RunFolderError:
    return RunFolderError(
        f"{path} {what}", expected="a file of the run's own", fix="Copy the run folder whole (cp -r), and use the copy"
    )


def cut(path: Path, size: int) -> None:
    """Shorten a file to `size` bytes: what a crash left of an unfinished line goes."""
    with explained(path):
        handle = _open_own(path, 0)
        try:
            os.ftruncate(handle, size)
            os.fsync(handle)
        finally:
            os.close(handle)


def read_bytes(path: Path, *, most: int | None = None) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it isn't there or can't be read.
        RunFolderError: it is a link, a pipe, a device or a folder, or longer than `most` bytes.
    """
    handle, size = _open_regular(path)
    try:
        if most is not None and size > most:
            raise RunFolderError(
                f"{path} has {size} bytes", expected=f"at most {most}", fix="Put the file that the run wrote there"
            )
        pieces, num_left = [], size  # what is appended meanwhile is of a later time
        while num_left and (piece := os.read(handle, min(num_left, 16 * PIECE))):
            pieces.append(piece)
            num_left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    finally:
        os.close(handle)


def opened(path: Path) -> BinaryIO:
    """A regular file, open for reading in parts. Raises as `read_bytes` does."""
    return os.fdopen(_open_regular(path)[0], "rb")


def _open_regular(path: Path) -> tuple[int, int]:
    """The handle of a regular file, and its size."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _told(path, error) from error
        raise
    facts = os.fstat(handle)
    if stat.S_ISREG(facts.st_mode):
        return handle, facts.st_size
    os.close(handle)
    raise RunFolderError(f"{path} is no regular file", expected="a file of the run's own", fix="Put the file itself there")


def read_json(path: Path) -> Any:
    """Read JSON as `write_json` wrote it: no duplicate keys, no bare NaN, no depth that would exhaust the stack.

    Raises:
        OSError: it isn't there or can't be read.
        ValueError: it isn't such JSON.
    """
    return parse_json(read_bytes(path, most=MOST_JSON))


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; what is not there needn't be removed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        if not path.is_dir() or path.is_symlink():
            raise
        for item in list(path.iterdir()):
            remove(item)
        os.rmdir(path)


def discard(path: Path, *, names: Iterable[str] = ()) -> None:
    """Remove a folder at once for whoever looks: it takes a temporary's name first, which a start sweeps away.

    Args:
        names: of files that are in it, so that it needn't be listed first.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{next(_temporaries)}")
    os.rename(path, temporary)
    try:
        for name in names:
            os.unlink(temporary / name)
        os.rmdir(temporary)
    except OSError:
        remove(temporary)


def rename(old: Path, new: Path) -> None:
    """Rename, and make it last."""
    os.rename(old, new)
    flush_folder(new.parent)


def flush_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> list[str]:
    """Tidy up after a process that was killed: its temporaries go, and what it had only just moved away comes back.

    Only for whoever holds the run's lock.
    """
    found = sorted(folder.glob(".*.tmp-*")) if folder.is_dir() else []
    for old in [path for path in found if path.name.endswith("-old")]:
        place = folder / old.name[1 : old.name.index(".tmp-")]
        if not place.exists():
            rename(old, place)
    for path in found:
        if path.exists() or path.is_symlink():
            remove(path)
    return [path.name for path in found]


def free_bytes(folder: Path) -> int | None:
    """Free space for this user where a folder lies, or None where it can't be told."""
    try:
        facts = os.statvfs(folder)
    except FileNotFoundError:
        return free_bytes(folder.parent) if folder.parent != folder else None
    except OSError:
        return None
    return facts.f_bavail * facts.f_frsize


def sha256(content: bytes | memoryview) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()
