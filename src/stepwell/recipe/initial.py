"""Weights to start from: those of another run, or of a file, by name and shape."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.catalog import Field, record_of
from stepwell.core.errors import DataError, JobError, nearest
from stepwell.core.randomness import Rng
from stepwell.engine.records.checkpoint import checkpoints
from stepwell.engine.records.storage import read_bytes, read_json, sha256
from stepwell.engine.records.tensors import read_tensors
from stepwell.recipe.archive.foreign_weights import ENDINGS
from stepwell.recipe.evidence.seals import require_delivered
from stepwell.recipe.values.places import place_of
from stepwell.recipe.values.schema import mapping_at, settings_from

__all__ = ["InitialWeights", "Started", "initial_weights_from", "initialised", "read_weights", "start_from_"]

logger = logging.getLogger("stepwell.init_from")


@dataclass(frozen=True)
class InitialWeights:
    """Where a model's first weights come from.

    Args:
        path: a run folder of stepwell's, or a .safetensors file (`stepwell import` makes one of a .pt file).
        excepted: names of modules or tensors that keep their own first values, shell wildcards allowed: a head of
            another width. `except` in a job.
    """

    path: str
    excepted: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """As a job file has it."""
        return {"path": self.path, "except": list(self.excepted)}


@dataclass(frozen=True)
class Started:
    """What was loaded, for the record.

    Args:
        path: where from.
        sha256: of the file's bytes.
        loaded: names of the tensors that were set.
        kept: names of the model's tensors that were not, because they are excepted or the file has none of that name.
        unused: names in the file that the model doesn't have.
    """

    path: str
    sha256: str
    loaded: list[str]
    kept: list[str]
    unused: list[str]

    @property
    def summary(self) -> str:
        """In one line."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        parts += [f"{len(self.kept)} kept as they were ({_some(self.kept)})"] if self.kept else []
        parts += [f"{len(self.unused)} of the file not used ({_some(self.unused)})"] if self.unused else []
        return "; ".join(parts)


def initial_weights_from(value: Any) -> InitialWeights | None:
    """What stands under `init_from:`: a path, or {path: ..., except: [patterns]}.

    Raises:
        JobError: anything else.

    >>> initial_weights_from({"path": "runs/a", "except": ["head"]})
    InitialWeights(path='runs/a', excepted=('head',))
    """
    if value is None or isinstance(value, InitialWeights):
        return value
    if isinstance(value, (str, Path)):
        value = {"path": str(value)}
    example = "init_from: {path: runs/a1, except: [head]}"
    mapping = mapping_at(value, path="init_from", example=example, place=place_of(value))
    fields = {"path": Field("path", str, "runs/a1"), "except": Field("except", list[str], ["head"])}
    settings = settings_from(mapping, fields, path="init_from")
    if not settings.get("path"):
        raise JobError("init_from has no path", expected="a path", fix=f"Write for example {example}", where=place_of(mapping))
    return InitialWeights(settings["path"], tuple(settings.get("except", ())))


def start_from_(model: nn.Module, spec: InitialWeights, *, base: Path) -> Started:
    """Load weights into a model, in place.

    Args:
        model: not yet changed by techniques.
        spec: where from, and what is left alone.
        base: the folder that a relative path starts from; the working directory where nothing is there.

    Raises:
        DataError: the file is missing or holds no weights.
        JobError: a pattern that matches nothing, a tensor of another shape that isn't excepted, or nothing to load.
    """
    file = weights_file(spec.path, base)
    known, own = read_weights(file), model.state_dict()
    excepted = _matched(own, spec.excepted)
    wrong = [name for name in own if name in known and name not in excepted and known[name].shape != own[name].shape]
    if wrong:
        name = wrong[0]
        raise JobError(
            f"{name} has shape {tuple(own[name].shape)} in the model and {tuple(known[name].shape)} in {file.name}"
            + (f", and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""),
            expected="the same shapes, but for what is excepted",
            fix=f"Leave it out: init_from: {{path: {spec.path}, except: [{name.rpartition('.')[0] or name}]}}",
        )
    loaded = [name for name in own if name in known and name not in excepted]
    if not loaded and len(excepted) == len(own):
        raise JobError(
            "init_from.except covers every tensor of the model",
            expected="something left to load",
            fix="Except the head alone, or leave init_from out",
        )
    if not loaded:
        first = next(iter(own), "")
        raise JobError(
            f"no tensor of {file.name} has the name of one in the model, such as {first!r}",
            expected="the weights of a model of the same kind",
            fix=f"For {first!r}: {nearest(first, known)}"[:400],
        )
    adapters = sorted(name for name in known if name not in own and name.endswith(("lora_a", "lora_b")))
    if adapters:  # without them the weights are those from before the training
        raise JobError(
            f"{file.name} holds the adapters of a LoRA run ({_some(adapters)}), which the model has no place for",
            expected="weights that adapters are merged into",
            fix="Merge them first: stepwell.recipe.adapters.merge_adapter(model), then save and give those weights",
        )
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(known[name])
    started = Started(
        str(spec.path),
        sha256(read_bytes(file)),
        loaded,
        [name for name in own if name not in loaded],
        [name for name in known if name not in own],
    )
    missing = [name for name in started.kept if name not in excepted]
    (logger.warning if missing or started.unused else logger.info)("init_from %s: %s", spec.path, started.summary)
    return started


def initialised(parts: Any, base: Path, *, run: Path | None = None) -> dict[str, Any]:
    """Start the model of a run's ingredients from its job's `init_from`; what goes into the run's manifest.

    Args:
        run: the folder of a run that goes on. With a checkpoint its weights come from there; one that was cut off before
            its first starts from the same weights again.

    Raises:
        DataError: they are gone, or not those that the run was started with.
    """
    from stepwell.recipe.resolve import Derived

    spec = parts.job.init_from
    if spec is None:
        return {}
    before = None if run is None else _started_before(run)
    if before is not None and run is not None and checkpoints(run / "checkpoints"):
        started = before
    else:
        started = start_from_(parts.model, spec, base=base)
        _refuse_redrawing(parts, spec, started.loaded)
    if before is not None and started.sha256 != before.sha256:
        raise DataError(
            f"the weights of init_from have changed since {run} was started",
            expected=f"a file with sha256 {before.sha256[:12]}, found {started.sha256[:12]}",
            fix="Put the old weights back, or train anew",
        )
    parts.derived.append(Derived("init_from", started.summary, f"sha256 {started.sha256[:12]}"))
    return {"init_from": asdict(started)}


def _started_before(run: Path) -> Started | None:
    """What a run's manifest says of its first weights."""
    try:
        return Started(**read_json(run / "manifest.json")["init_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_redrawing(parts: Any, spec: InitialWeights, loaded: list[str]) -> None:
    """Refuse a technique that would draw anew what was just loaded; found by trying it on a copy."""
    for item in parts.job.recipe.techniques:
        record = record_of(item)
        if record is None or record.slot != "model" or record.stage != "init":
            continue
        try:
            drawn = item(copy.deepcopy(parts.model), Rng(0)).state_dict()
        except Exception:  # whatever is wrong with it is said where it is applied
            continue
        own = parts.model.state_dict()
        lost = [name for name in loaded if name in drawn and not torch.equal(drawn[name], own[name])]
        if lost:
            raise JobError(
                f"{record.id} would draw {_some(lost)} anew, which init_from has loaded",
                expected="weights from one of the two",
                fix=f"Leave {record.id} out (of a preset: without: [{record.id}]), or name those tensors in init_from.except",
                where=place_of(item),
            )


def weights_file(path: str, base: Path) -> Path:
    """The file of weights that a path names: a run folder's is model/model.safetensors.

    Raises:
        DataError: there is none.
    """
    places = [Path(base, Path(path).expanduser()), Path(path).expanduser()]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(
            f"init_from names {str(path)!r}, which does not exist",
            expected="a run folder or a file of weights",
            fix="Check the path",
        )
    if found.is_file():
        return found
    inside = found / "model" / "model.safetensors"
    if not inside.is_file():
        begun = (found / "job.yaml").exists()
        raise DataError(
            f"{found} holds no model",
            expected="the folder of a finished run, or a file of weights",
            fix=f"Finish the run first: `stepwell resume {found}`" if begun else "Name another folder, or the file itself",
        )
    require_delivered(found)
    return inside


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        DataError: another kind of file, a damaged one, or one without tensors.
        RunFolderError: it is a link, a pipe or a device.
    """
    suffix = file.suffix.lower()
    if suffix in ENDINGS:
        raise DataError(
            f"{file.name} is no safetensors file",
            expected="weights that can be read without trusting their file",
            fix=f"Convert it once: `stepwell import {file}`, and give {file.with_suffix('.safetensors').name}",
        )
    if suffix != ".safetensors":
        raise _unreadable(file, f"its name ends in {suffix!r}" if suffix else "its name has no ending")
    tensors = read_tensors(file)
    if not tensors:
        raise _unreadable(file, "it holds no tensors by name")
    # Written while the model was wrapped: every name then starts alike.
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _unreadable(file: Path, why: str) -> DataError:
    return DataError(
        f"{file.name} can't be read as weights ({why})",
        expected="a .safetensors file",
        fix="Save it anew: safetensors.torch.save_file(model.state_dict(), path)",
    )


def _matched(own: Mapping[str, Tensor], patterns: tuple[str, ...]) -> set[str]:
    covered: set[str] = set()
    for pattern in patterns:
        found = {name for name in own if any(fnmatchcase(part, pattern) for part in _prefixes(name))}
        if not found:
            known = dict.fromkeys(part for name in own for part in _prefixes(name))
            raise JobError(
                f"init_from.except has {pattern!r}, which matches no module or tensor of the model",
                expected="the name of a module, or a pattern such as 'head*'",
                fix=nearest(pattern, known),
            )
        covered |= found
    return covered


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
