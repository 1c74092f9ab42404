"""Weights that other programs saved with torch.save, converted once to safetensors: the only place where such files are read.

They are pickles. The reader takes tensors and plain containers alone, and runs in a process of its own with limits on
memory and time: what a hostile file makes of it ends there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stepwell.core.errors import DataError, StepwellError, nearest
from stepwell.engine.records.storage import read_bytes, remove, sha256, write_bytes

__all__ = ["Foreign", "ImportedWeights", "import_weights", "read_foreign"]

# The unpickler before 2.6 could be made to run code (CVE-2025-32434), the one before 2.10 to write where it must not
# (CVE-2026-24747).
OLDEST_TORCH = (2, 10)
KEYS = ("state_dict", "model_state_dict", "model")
ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
MEMORY = 1 << 30  # bytes beyond what the process holds when it starts, and beyond what the file's own tensors need
SECONDS = 120.0


@dataclass(frozen=True)
class ImportedWeights:
    """What was converted.

    Args:
        path: of the new safetensors file.
        names: of its tensors.
        num_bytes: of the new file.
        sha256: of the new file.
        key: under which key of the old file the tensors stood; None where it held nothing else.
        left_out: names beside the tensors that stood for something else.
    """

    path: str
    names: list[str]
    num_bytes: int
    sha256: str
    key: str | None
    left_out: list[str]


def import_weights(
    file: str | Path, *, out: str | Path | None = None, key: str | None = None, memory: int = MEMORY, seconds: float = SECONDS
) -> ImportedWeights:
    """Convert a foreign .pt, .pth, .bin or .ckpt file of weights to safetensors. No code in it can run.

    Args:
        file: saved by torch.save: a state_dict, or a mapping that holds one.
        out: the new file, which must not exist; the old one's name with .safetensors where None.
        key: where the state_dict stands in the file; the usual ones are tried where None.
        memory: bytes that reading may take, beyond five times the file's size.
        seconds: that reading may take.

    Raises:
        DataError: it isn't there, holds anything but tensors and plain containers, holds no state_dict, or passes the
            limits; or this torch is older than 2.10.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"epoch": 3, "state_dict": torch.nn.Linear(2, 1).state_dict()}, Path(folder, "old.pt"))
    ...     imported = import_weights(Path(folder, "old.pt"))
    >>> imported.names, imported.key
    (['bias', 'weight'], 'state_dict')
    """
    source = Path(file).expanduser()
    place = source.with_suffix(".safetensors") if out is None else Path(out).expanduser()
    _check_places(source, place)
    command = [sys.executable, "-P", "-m", "stepwell.recipe.archive.foreign_weights", str(source), str(place), json.dumps(key)]
    limit = memory + 5 * source.stat().st_size
    # The same packages as here, whatever put them on the path.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    child = subprocess.Popen(
        [*command, str(limit), str(int(seconds) + 1)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        told, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise _passed(source, f"took more than {seconds:g} seconds") from error
    finally:
        child.kill()
        child.wait()
        for left in place.parent.glob(f".{place.name}.tmp-{child.pid}-*"):
            with suppress(OSError):
                remove(left)
    try:
        answer = json.loads(told)
    except ValueError as error:  # it was ended before it could say anything
        raise _passed(source, f"ended the process that read it (exit code {child.returncode})") from error
    if "what" in answer:
        raise DataError(**answer)
    return ImportedWeights(**answer)


@dataclass(frozen=True)
class Foreign:
    """What a foreign file holds.

    Args:
        tensors: by name.
        key: under which they stood, or None.
        left_out: names beside them that stand for something else.
    """

    tensors: dict[str, Tensor]
    key: str | None
    left_out: list[str]


def read_foreign(file: Path, *, key: str | None = None) -> Foreign:
    """The tensors of a foreign file. Only `import_weights` calls this, in a process of its own.

    Raises:
        DataError: see `import_weights`.
    """
    import io

    import torch

    _require_torch(str(torch.__version__))
    content = read_bytes(file)
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        raise _refused(file, _reason(str(error) or type(error).__name__)) from error
    found, used = _state_dict(file, value, key)
    tensors = {name: item for name, item in found.items() if isinstance(name, str) and isinstance(item, Tensor)}
    if not tensors:
        raise _refused(file, "it holds no tensors by name" + (f" under {used!r}" if used else ""))
    return Foreign(tensors, used, [str(name) for name in found if name not in tensors])


def _check_places(source: Path, place: Path) -> None:
    if not source.is_file() or source.is_symlink():
        kind = "is a link" if source.is_symlink() else "is no file" if source.exists() else "does not exist"
        raise DataError(f"{source} {kind}", expected="a file of weights", fix="Check the path")
    if source.suffix.lower() not in ENDINGS:
        there = ", which needs no import" if source.suffix == ".safetensors" else ""
        raise DataError(
            f"{source.name} ends in {source.suffix!r}{there}",
            expected=f"a file saved by torch.save: {', '.join(ENDINGS)}",
            fix="Give that file; a .safetensors file goes into init_from as it is",
        )
    if place.exists() or place.is_symlink():
        raise DataError(f"{place} exists already", expected="a new file", fix="Choose another --out")
    if place.suffix != ".safetensors" or not place.parent.is_dir():
        raise DataError(
            f"{place} can't be written" if place.suffix == ".safetensors" else f"{place.name} does not end in .safetensors",
            expected="a path such as weights.safetensors, in a folder that exists",
            fix="Give another --out",
        )


def _require_torch(version: str) -> None:
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_TORCH:
        raise DataError(
            f"torch {version} has known holes in its reader of foreign files",
            expected="torch 2.10 or newer",
            fix="Update torch, or convert the file elsewhere: safetensors.torch.save_file(state_dict, path)",
        )


def _state_dict(file: Path, value: Any, key: str | None) -> tuple[Mapping[Any, Any], str | None]:
    if not isinstance(value, Mapping):
        raise _refused(file, f"it holds a {type(value).__name__}, not a state_dict")
    if key is not None:
        if not isinstance(value.get(key), Mapping):
            known = [str(name) for name, item in value.items() if isinstance(item, Mapping)]
            raise DataError(
                f"{file.name} has no state_dict under {key!r}", expected="the key of a mapping in it", fix=nearest(key, known)
            )
        return value[key], key
    for usual in KEYS:
        if isinstance(value.get(usual), Mapping):
            return value[usual], usual
    if not any(isinstance(item, Tensor) for item in value.values()):
        inside = [str(name) for name, item in value.items() if isinstance(item, Mapping)]
        if inside:
            raise DataError(
                f"{file.name} holds no state_dict under a usual key",
                expected=f"one under {', '.join(KEYS)}, or the key",
                fix=f"Say which it is: --key {inside[0]}; it holds {', '.join(inside[:10])}",
            )
    return value, None


def _reason(message: str) -> str:
    """What torch says, without its advice to trust the file."""
    names = re.search(r"GLOBAL ([\w.]+)", message)
    if names:
        return f"it needs {names[1]}, which is more than tensors and plain containers"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("WeightsUnpickler error", "Unsupported"))] or lines
    bare = re.fullmatch(r"\w+", told[0])  # the opcode or the kind of error of an unpickler that met no pickle
    return "its content is no state_dict" if bare or "weights_only" in told[0] else told[0][:150]


def _refused(file: Path, why: str) -> DataError:
    return DataError(
        f"{file.name} can't be imported ({why})",
        expected="tensors by name, as torch.save(model.state_dict(), path) writes them",
        fix="Save it so where you trust it, or as safetensors; stepwell runs nothing that is in a file",
    )


def _passed(file: Path, what: str) -> DataError:
    return DataError(
        f"{file.name} {what}",
        expected="a file that is read within the limits on memory and time",
        fix="Where you trust the file, give import_weights more memory= or seconds=",
    )


def _limit(memory: int, seconds: int) -> None:
    """From here on this process gets no more."""
    import resource

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in ((resource.RLIMIT_AS, held + memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (min(most, hard), min(most, hard)) if hard >= 0 else (most, most))


def _convert(file: Path, place: Path, key: str | None) -> dict[str, Any]:
    from stepwell.engine.records.tensors import encode_tensors

    read = read_foreign(file, key=key)
    content = encode_tensors(read.tensors)
    write_bytes(place, content)
    return asdict(ImportedWeights(str(place), sorted(read.tensors), len(content), sha256(content), read.key, read.left_out))


def _answer(file: str, place: str, key: str, memory: str, seconds: str) -> dict[str, Any]:
    """In the child: convert within the limits, and say how it went."""
    import safetensors.torch  # noqa: F401 (loaded before memory is short)
    import torch

    torch.set_num_threads(1)  # a pool's stacks would count
    _limit(int(memory), int(seconds))
    try:
        return _convert(Path(file), Path(place), json.loads(key))
    except StepwellError as error:
        told = error
    except (MemoryError, RuntimeError):
        told = _passed(Path(file), "needs more memory than it may")
    return {"what": told.what, "expected": told.expected, "fix": told.fix}


if __name__ == "__main__":
    os.write(1, json.dumps(_answer(*sys.argv[1:])).encode())
