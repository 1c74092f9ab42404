"""The hashes under which a run's log has what the run delivered, and the refusal of a model that no longer fits its own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.storage import read_bytes, sha256

MODEL = ("model/model.safetensors", "model/model.json")


def metrics_hash(folder: Path) -> str:
    """SHA-256 over a run's metric files: of each its path in the run, a line feed and the SHA-256 of its bytes.

    Args:
        folder: of the run.

    Raises:
        OSError, RunFolderError: one can't be read.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "metrics").mkdir()
    >>> before = metrics_hash(folder)
    >>> _ = (folder / "metrics" / "train.csv").write_text("step\\n1\\n")
    >>> metrics_hash(folder) == before
    False
    """
    paths = (path for path in (folder / "metrics").rglob("*") if path.is_file() and not path.is_symlink())
    # What begins with a dot is a leftover of a killed process, and may be cleaned away.
    names = sorted(path.relative_to(folder).as_posix() for path in paths if not path.name.startswith("."))
    return sha256("".join(f"{name}\n{sha256(read_bytes(folder / name))}\n" for name in names).encode())


def require_delivered(folder: Path) -> None:
    """Refuse a run's model that isn't the one the run has delivered: neither torch nor safetensors notice a flipped bit.

    Nothing is said of a run whose log has no such hash: it was cut off while it delivered, or the log is gone or older.

    Args:
        folder: of the run.

    Raises:
        RunFolderError: a file of the model was changed.
    """
    known: Any = None
    with suppress(OSError, RunFolderError):  # an audit says what is wrong with the log
        for event in read_events(folder / "events.jsonl"):
            if event.kind == "finished":
                known = event.detail.get("files")
            elif event.kind == "stopped":
                known = None  # from here on the files are written anew
    for name in MODEL if isinstance(known, dict) else ():
        if name in known and (found := sha256(read_bytes(folder / name))) != known[name]:
            raise RunFolderError(
                f"{folder / name} was damaged or changed since the run delivered it",
                expected=f"a file with sha256 {str(known[name])[:12]}, found {found[:12]}",
                fix=f"Write it anew from the run's checkpoints: `stepwell resume {folder}`",
            )
