"""Making room among runs: first a plan that says what would go, then its execution. Nothing goes that a run still needs."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stepwell.core.check import require
from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, step_of
from stepwell.engine.records.run_folder import RunFolder
from stepwell.engine.records.storage import read_json, remove, rename
from stepwell.recipe.archive.leftovers import Removal, leftovers, strays
from stepwell.recipe.archive.runs import PARTS, in_use, run_folders, size_on_disk
from stepwell.recipe.values.parts import parse_size

__all__ = ["Cleaning", "Removal", "carry_out", "parse_age", "plan_cleaning"]

What = Literal["checkpoints", "all"]
_ENDINGS = (".yaml", ".json", ".jsonl", ".csv", ".html", ".png")  # of what a run writes beside its parts
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}


@dataclass(frozen=True)
class Cleaning:
    """A plan, or what became of one.

    Args:
        removals: what goes.
        spared: run folders that were left alone, and why.
    """

    removals: list[Removal] = field(default_factory=list)
    spared: dict[Path, str] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """What it frees."""
        return sum(removal.num_bytes for removal in self.removals)


@dataclass(frozen=True)
class _Run:
    """A run that nobody uses, and what of it could go."""

    folder: Path
    changed: float  # seconds since 1970
    num_bytes: int
    candidates: list[Removal]  # the least needed first


def plan_cleaning(
    dir: str | Path = "runs",
    *,
    keep: int | None = None,
    max_size: str | None = None,
    older: str | None = None,
    only: What = "checkpoints",
) -> Cleaning:
    """What can go below a folder; nothing is changed.

    Leftovers of killed processes always can, and damaged checkpoints that were set aside where a whole one is there. Of what
    else could go, that goes which every given limit lets go: none given, none goes. A run in use is left alone. Of the
    checkpoints of a run the newest whole one and the best one stay, and where none is whole, all.

    Args:
        dir: searched with all folders in it.
        keep: how many of each run's checkpoints stay, newest first, or (only="all") of the runs, >= 1.
        max_size: of everything below the folder, such as "2 GiB": the oldest go until it fits.
        older: of runs that nothing was written to for so long, such as "30d", "2w" or "12h".
        only: "checkpoints" touches no result, model or metric; "all" takes whole runs.

    Raises:
        RunFolderError: there is no such folder.
        JobError: a limit that isn't one.
    """
    root = Path(dir).expanduser()
    if not root.is_dir():
        raise RunFolderError(f"there is no folder {root}", expected="a folder with runs", fix="Give the folder that holds them")
    require(keep is None or keep >= 1, "keep", keep, "a whole number from 1", "To remove a run whole, use only all")
    require(only in ("checkpoints", "all"), "only", only, "checkpoints or all", "Leave it out for checkpoints")
    age = None if older is None else parse_age(older)
    most = None if max_size is None else parse_size(max_size, name="max_size")
    plan = Cleaning(strays(root))
    found = []
    for folder in run_folders(root):
        if in_use(folder):
            plan.spared[folder] = "in use"
            continue
        plan.removals.extend(leftovers(folder))
        if (keep, most, age) == (None, None, None):
            continue
        foreign = _foreign(folder) if only == "all" else None
        if foreign is None:
            found.append(_run(folder, keep, only))
        else:
            plan.spared[folder] = f"holds {foreign}, which is not the run's"
    found.sort(key=lambda run: run.changed)
    if only == "all" and keep is not None:
        found = found[:-keep]
    if age is not None:
        found = [run for run in found if time.time() - run.changed > age]
    candidates = [removal for run in found for removal in run.candidates]
    if most is not None:
        candidates = _until(candidates, size_on_disk(root) - plan.num_bytes - most)
    plan.removals.extend(candidates)
    return plan


def carry_out(plan: Cleaning) -> Cleaning:
    """Remove what a plan says, and say what was removed. A run that is in use by now is left alone.

    Raises:
        RunFolderError: something can't be removed; what was removed until then is gone.
    """
    done = Cleaning([], dict(plan.spared))
    for run in dict.fromkeys(removal.run for removal in plan.removals):
        removals = [removal for removal in plan.removals if removal.run == run]
        held = None if run is None else RunFolder(run)
        try:
            if held is not None and run is not None and run.is_dir():
                held.lock()
        except StepwellError as error:
            assert run is not None
            done.spared[run] = error.what
            continue
        try:
            for removal in removals:
                _remove(removal)
                done.removals.append(removal)
        finally:
            if held is not None:
                held.close()
    return done


def parse_age(text: str) -> float:
    """Seconds of an age: hours, days or weeks.

    >>> parse_age("12h"), parse_age("30 d")
    (43200.0, 2592000.0)
    """
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*([hdw])[a-z]*\s*", text)
    require(found is not None, "older", text, "a number with h, d or w", "Write for example 30d")
    assert found is not None
    return float(found[1]) * _DAYS[found[2]] * 86400


def _run(folder: Path, keep: int | None, only: What) -> _Run:
    size, changed = size_on_disk(folder), _changed(folder)
    if only == "all":
        return _Run(folder, changed, size, [Removal(folder, folder, size, f"run, last written to {_ago(changed)}")])
    return _Run(folder, changed, size, _spare_checkpoints(folder, keep or 1))


def _spare_checkpoints(folder: Path, keep: int) -> list[Removal]:
    """Checkpoints of a run that needn't stay, oldest first; none where no other one is whole."""
    places = checkpoints(folder / "checkpoints")
    if len(places) < 2:
        return []
    for place in places:
        try:
            state = load_checkpoint(place)
        except StepwellError:
            continue
        stay = {item.name for item in places[:keep]} | {place.name} | _best_names(folder, state)
        gone = [item for item in reversed(places) if item.name not in stay]
        return [Removal(item, folder, size_on_disk(item), f"checkpoint of step {step_of(item)}") for item in gone]
    return []


def _foreign(folder: Path) -> str | None:
    """Something in a run folder that no run puts there, such as another run: then the folder is not taken whole."""
    for item in sorted(folder.iterdir()):
        known = item.name in PARTS if item.is_dir() else item.suffix in _ENDINGS or item.name == "lock"
        if not known and not item.name.startswith("."):
            return item.name
    return None


def _best_names(folder: Path, state: dict[str, Any]) -> set[str]:
    """Checkpoints of the best evaluation: the newest state's own word, and the result's."""
    told: list[Any] = [state.get("best")]
    with suppress(OSError, ValueError):
        result = read_json(folder / "result.json")
        told.append(result.get("best") if isinstance(result, dict) else None)
    return {f"step-{best['step']}" for best in told if isinstance(best, dict) and "step" in best}


def _until(candidates: list[Removal], excess: int) -> list[Removal]:
    chosen = []
    for removal in candidates:
        if excess <= 0:
            break
        chosen.append(removal)
        excess -= removal.num_bytes
    return chosen


def _remove(removal: Removal) -> None:
    """Out of sight first, in one move: a crash in the middle leaves a leftover, never half a checkpoint or half a run."""
    path = removal.path
    away = path.with_name(f".{path.name}.tmp-{os.getpid()}-0") if not path.name.startswith(".") else path
    try:
        if away != path:
            rename(path, away)
        remove(away)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFolderError(
            f"{path} can't be removed: {error.strerror or error}", expected="a folder of your own", fix="Change its permissions"
        ) from error


def _changed(folder: Path) -> float:
    """When anything in a run was last written."""
    times = [0.0]
    for place, _, files in os.walk(folder):
        with suppress(OSError):
            times += [Path(place, name).lstat().st_mtime for name in files if name != "lock"]
    return max(times)


def _ago(changed: float) -> str:
    days = max(time.time() - changed, 0.0) / 86400
    return "today" if days < 1 else f"{days:.0f} day{'s' if round(days) != 1 else ''} ago"
