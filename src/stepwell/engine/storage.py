"""Writing files so that a crash leaves the old or the new content, never half of either."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepwell.core.errors import RunFolderError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a three-part error."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunFolderError(
                f"the disk is full while writing {path}",
                expected="free space",
                fix="Free some space, then continue with `stepwell resume`; earlier checkpoints are whole",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunFolderError(
                f"no permission to write {path}", expected="a writable folder", fix="Choose another --out"
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise RunFolderError(
                f"{path} is in the way: a file, not a folder", expected="a folder", fix="Choose another --out"
            ) from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename into place."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with explained(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON; numbers that JSON has no word for are written as null."""
    write_bytes(path, (json.dumps(finite_only(value), indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def finite_only(value: Any) -> Any:
    """The same tree with every non-finite float as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite_only(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_only(item) for item in value]
    return value


def flush_folder(folder: Path) -> None:
    """Make a rename inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(content: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()
