"""Ways in which a checkpoint's files can be damaged, and what must come of each."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stepwell.core.errors import RunFolderError

Damage = Callable[[Path], None]
"""Damages the newest checkpoint in a folder of checkpoints."""


@dataclass(frozen=True)
class Case:
    """One way to damage a checkpoint.

    Args:
        kind: e.g. "flip"; what: where, in words.
    """

    kind: str
    what: str
    damage: Damage


FILES = ("state.safetensors", "state.json", "manifest.json")


def newest(folder: Path) -> Path:
    return max(folder.glob("step-*"), key=lambda path: int(path.name[5:]))


def older(folder: Path) -> Path:
    return min(folder.glob("step-*"), key=lambda path: int(path.name[5:]))


def _changed(name: str, change: Callable[[bytearray], None]) -> Damage:
    def damage(folder: Path) -> None:
        path = newest(folder) / name
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return damage


def _flip(position: int, bit: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[position] ^= 1 << bit

    return change


def _zero(start: int, length: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        stop = min(start + length, len(content))
        content[start:stop] = bytes(stop - start) if any(content[start:stop]) else b"\xff" * (stop - start)

    return change


def _cut(size: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        del content[size:]

    return change


def _grown(more: bytes) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content.extend(more)

    return change


def _space(position: int) -> Callable[[bytearray], None]:
    """JSON means the same with one more space between two of its words."""

    def change(content: bytearray) -> None:
        places = [index for index, byte in enumerate(content) if byte in b",:"]
        place = places[position % len(places)]
        content[place + 1 : place + 1] = b" "

    return change


def flips(folder: Path, number: int, draw: random.Random) -> Iterator[Case]:
    """Single bits, in every file."""
    for index in range(number):
        name = FILES[index % 3]
        position = draw.randrange((newest(folder) / name).stat().st_size)
        bit = draw.randrange(8)
        yield Case("flip", f"bit {bit} of byte {position} of {name}", _changed(name, _flip(position, bit)))


def cuts(folder: Path, number: int) -> Iterator[Case]:
    """Files that end too early, evenly from empty to one byte too short."""
    for name in FILES:
        size = (newest(folder) / name).stat().st_size
        for index in range(number):
            yield Case("cut", f"{name} after byte {size * index // number}", _changed(name, _cut(size * index // number)))
        yield Case("cut", f"{name} without its last byte", _changed(name, _cut(size - 1)))


def zeros(folder: Path, number: int, draw: random.Random) -> Iterator[Case]:
    """Blocks of zeros (of ones, where there are zeros already), as a disk gives that lost a sector."""
    for index in range(number):
        name = FILES[index % 3]
        size = (newest(folder) / name).stat().st_size
        length = draw.choice((16, 64, 512, 4096))
        start = draw.randrange(max(size - 1, 1)) // length * length
        yield Case("zeroed", f"{length} bytes of {name} from {start}", _changed(name, _zero(start, length)))


def spaces(number: int) -> Iterator[Case]:
    """Bytes that don't change what the JSON says."""
    for index in range(number):
        for name in FILES[1:]:
            yield Case("space", f"one more in {name}, after mark {index}", _changed(name, _space(index)))
    for name in FILES:
        for more in (b"\n", b" ", b"\0", b"{}"):
            yield Case("grown", f"{name} by {more!r}", _changed(name, _grown(more)))


def whole_files() -> Iterator[Case]:
    """Files that are missing, another step's, twice there, too many or something else than files."""
    for name in FILES:
        yield Case("missing", name, lambda folder, name=name: (newest(folder) / name).unlink())
        yield Case("swapped", name, lambda folder, name=name: _swap(folder, name))
        yield Case("doubled", name, lambda folder, name=name: shutil.copy(newest(folder) / name, newest(folder) / f"{name}.bak"))
        yield Case("empty folder", name, lambda folder, name=name: _as_folder(newest(folder) / name))
        yield Case("link", name, lambda folder, name=name: _as_link(newest(folder) / name))
    for extra in ("extra.json", ".hidden", "state.safetensors.tmp", "core", "state.pt"):
        yield Case("extra", extra, lambda folder, extra=extra: (newest(folder) / extra).write_bytes(b"x"))
    yield Case("extra", "a folder", lambda folder: (newest(folder) / "more").mkdir())
    yield Case("swapped", "all files", lambda folder: [_swap(folder, name) for name in FILES] and None)
    yield Case("missing", "all files", lambda folder: [path.unlink() for path in newest(folder).iterdir()] and None)
    yield Case("renamed", "to a later step", lambda folder: newest(folder).rename(folder / "step-99") and None)


def _swap(folder: Path, name: str) -> None:
    shutil.copy(older(folder) / name, newest(folder) / name)


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_link(path: Path) -> None:
    beside = path.parent.parent.parent / f"elsewhere-{path.name}"
    shutil.move(path, beside)
    path.symlink_to(beside)


def _edited(change: Callable[[dict], None]) -> Damage:  # type: ignore[type-arg]
    def damage(folder: Path) -> None:
        path = newest(folder) / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage


def edits() -> Iterator[Case]:
    """Manifests that were written by hand."""

    def take_out(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["files"].pop("state.json")

    changes: dict[str, Callable[[dict], None]] = {  # type: ignore[type-arg]
        "another step": lambda m: m.update(step=m["step"] + 1),
        "a later format": lambda m: m.update(schema=m["schema"] + 1),
        "format 1": lambda m: m.update(schema=1),
        "format 0": lambda m: m.update(schema=0),
        "no format": lambda m: m.pop("schema"),
        "no files": lambda m: m.update(files={}),
        "one file fewer": take_out,
        "one file more": lambda m: m["files"].update(other={"bytes": 0, "sha256": ""}),
        "a path upwards": lambda m: m["files"].update({"../../job.yaml": {"bytes": 0, "sha256": ""}}),
        "another length": lambda m: m["files"]["state.json"].update(bytes=m["files"]["state.json"]["bytes"] - 1),
        "no length": lambda m: m["files"]["state.json"].pop("bytes"),
        "another sum": lambda m: m["files"]["state.json"].update(sha256="0" * 64),
        "no sum": lambda m: m["files"]["state.json"].pop("sha256"),
        "sums in capitals": lambda m: m["files"]["state.json"].update(sha256=m["files"]["state.json"]["sha256"].upper()),
        "no sum of its own": lambda m: m.pop("sha256"),
        "another sum of its own": lambda m: m.update(sha256="f" * 64),
        "lists for objects": lambda m: m.update(files=list(m["files"])),
        "words for numbers": lambda m: m.update(step=str(m["step"])),
        "one key more": lambda m: m.update(note="harmless"),
    }
    for what, change in changes.items():
        yield Case("edited", what, _edited(change))
    for what, text in {
        "a list": "[]",
        "null": "null",
        "nothing": "",
        "deep": "[" * 100_000,
        "NaN": "NaN",
        "UTF-16": "\ufeff{}",
    }.items():
        yield Case(
            "edited", what, lambda folder, text=text: (newest(folder) / "manifest.json").write_text(text, "utf-8") and None
        )


def cases(folder: Path, *, num_flips: int, num_cuts: int, num_zeros: int, num_spaces: int) -> list[Case]:
    """All of them, for a folder of checkpoints; the order and the places are the same in every run."""
    draw = random.Random(0)
    found = [*flips(folder, num_flips, draw), *cuts(folder, num_cuts), *zeros(folder, num_zeros, draw), *spaces(num_spaces)]
    return [*found, *whole_files(), *edits()]


def unnoticed(folder: Path, case: Case, expected: dict[str, bytes], told: list[str]) -> list[str]:
    """What is wrong with how a damaged newest checkpoint is met: each problem in words.

    Args:
        folder: holds two checkpoints, the newer of which is damaged here.
        expected: files of the older one.
        told: warnings that were logged; emptied here.
    """
    from stepwell.engine.records.checkpoint import load_checkpoint, newest_checkpoint

    before = {path.name: int(path.name[5:]) for path in folder.glob("step-*")}
    good = older(folder)
    lost = max(before.values()) - min(before.values())
    case.damage(folder)
    damaged = newest(folder)
    lost += int(damaged.name[5:]) - max(before.values())
    content = _content(damaged)
    told.clear()
    try:
        load_checkpoint(damaged)
        return ["the damaged one was loaded"]
    except RunFolderError:
        pass
    found = newest_checkpoint(folder)
    problems = []
    if found is None or found[0] != good:
        problems.append(f"went on from {found and found[0].name}")
    if {path.name: path.read_bytes() for path in good.iterdir()} != expected:
        problems.append("the older one was touched")
    if not any(f"{lost} steps" in line for line in told):
        problems.append(f"the {lost} steps that are lost were not told: {told}")
    kept = [path for path in folder.iterdir() if path.name.startswith(".corrupt-")]
    if [_content(path) for path in kept] != [content] or damaged.exists():
        problems.append(f"the damaged one was not kept: {[path.name for path in folder.iterdir()]}")
    return problems


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: b"(folder)" if path.is_dir() else path.read_bytes() for path in sorted(folder.iterdir())}
