"""A trained model for use elsewhere: its weights, or a graph that needs no Python of ours, with what it takes to feed it."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from stepwell.core.batch import Tree
from stepwell.core.catalog import lookup
from stepwell.core.errors import DataError, JobError, RunFolderError, nearest
from stepwell.core.modules.low_rank import adapted_layers
from stepwell.core.signature import Signature
from stepwell.engine.records.storage import read_json, whole_folder, write_into
from stepwell.engine.records.strict_json import worded
from stepwell.engine.records.tensors import encode_tensors, read_tensors
from stepwell.recipe.adapters import merge_adapter
from stepwell.recipe.archive.export_graph import (
    example_inputs,
    input_facts,
    onnx_bytes,
    output_names,
    program_bytes,
    require_onnx,
)
from stepwell.recipe.archive.export_words import INSIDE, OUTSIDE, input_words, output_words, snippet
from stepwell.recipe.delivered import load_delivered
from stepwell.recipe.evidence.seals import require_delivered

__all__ = ["Exported", "Format", "export"]

Format = Literal["safetensors", "torch-export", "onnx"]
_FILES = {"safetensors": "model.safetensors", "torch-export": "model.pt2", "onnx": "model.onnx"}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: the new folder.
        files: in it.
        snippet: the lines that load it; load.py in the folder has them too.
        notes: what is in it and what isn't.
    """

    folder: Path
    files: list[Path]
    snippet: str
    notes: list[str] = field(default_factory=list)


def export(
    folder: str | Path, *, to: Format, out: str | Path | None = None, model: nn.Module | None = None, inputs: Tree | None = None
) -> Exported:
    """Write the delivered model of a finished run for use elsewhere.

    Args:
        folder: of the run.
        to: "safetensors" (weights, and how to build the model), "torch-export" (a graph that torch alone runs) or "onnx" (one
            that ONNX runtimes run; needs the extra `export`). Graphs take any number of rows, and are compared with the model.
        out: a new folder; beside the run's, RUN-FORMAT, where None: the run itself stays as it is.
        model: of a run of `fit` alone, whose folder doesn't say how to build it: the module; it is left as it is.
        inputs: with `model`: inputs of any few rows, as the module is called with.

    Returns:
        The new folder: the model, model.json (inputs, preparation, meaning of the outputs) and load.py. Adapters of LoRA are
        merged into the weights.

    Raises:
        RunFolderError: no finished run, or `out` is there already.
        JobError: another format, packages that are missing, or a model that torch can't export.
    """
    folder = Path(folder).expanduser()
    if to not in get_args(Format):
        raise JobError(f"to is {to!r}", expected=", ".join(get_args(Format)), fix=nearest(str(to), get_args(Format)))
    if to == "onnx":
        require_onnx()
    named = folder if folder.name not in ("", "..") else folder.resolve()
    place = named.with_name(f"{named.name}-{to}") if out is None else Path(out).expanduser()
    if place.exists() or place.is_symlink():
        raise RunFolderError(f"{place} exists already", expected="a new folder", fix="Choose another --out, or remove it")
    subject = _subject(folder, model, inputs)
    contents = {_FILES[to]: _content(subject, to), "model.json": _json(subject.facts(to))}
    loader = to if to != "safetensors" or subject.rebuilt else "weights"
    facts = input_facts(subject.inputs) if subject.inputs is not None else []
    contents["load.py"] = snippet(loader, "FOLDER", facts).replace("Path('FOLDER')", "Path(__file__).parent").encode() + b"\n"
    with whole_folder(place) as temporary:
        for name, content in contents.items():
            write_into(temporary / name, [content])
    return Exported(place, [place / name for name in contents], snippet(loader, str(place), facts), subject.notes(to))


@dataclass
class _Subject:
    """What is exported: a model with its description, or weights alone."""

    model: nn.Module | None
    weights: dict[str, Any]
    description: dict[str, Any]
    inputs: Tree | None
    merged: int = 0

    @property
    def rebuilt(self) -> bool:
        """Whether the description says how to build the model."""
        return "model" in self.description

    def facts(self, to: Format) -> dict[str, Any]:
        """What model.json says."""
        facts = {key: value for key, value in self.description.items() if key != "load"} | {"export": to}
        if self.inputs is not None and self.model is not None:
            facts["inputs"] = [
                {key: value for key, value in item.items() if key != "keyword"} for item in input_facts(self.inputs)
            ]
            facts["outputs"] = output_names(_called(self.model, self.inputs))
        prepared = self.description.get("preparation")
        if prepared is not None:
            facts["how_inputs_are_made"] = input_words(prepared)
            facts["what_outputs_mean"] = output_words(prepared["target"], str(self.description.get("task")))
        return facts | {"notes": self.notes(to)}

    def notes(self, to: Format) -> list[str]:
        """For whoever made it."""
        inside = "weights by name, as the model's state_dict has them" if to == "safetensors" else INSIDE
        outside = OUTSIDE if self.rebuilt else "how raw data become inputs: the run was made from Python, and doesn't know"
        notes = [f"inside: {inside}", f"outside: {outside}"]
        return notes + ([f"{self.merged} LoRA adapters were merged into the weights"] if self.merged else [])


def _subject(folder: Path, model: nn.Module | None, inputs: Tree | None) -> _Subject:
    description: Any = None
    with suppress(OSError, ValueError):  # the loader says what is wrong with it
        description = read_json(folder / "model" / "model.json")
    known = not isinstance(description, dict) or "model" in description
    if known:
        if model is not None:
            raise JobError(f"{folder} says how to build its model", expected="no model=", fix="Leave model= and inputs= out")
        delivered = load_delivered(folder)
        merged = _merged_(delivered.model)
        description = dict(delivered.description)
        if merged:
            description["techniques"] = [item for item in description.get("techniques", []) if not _is_adapter(item)]
        signature = Signature.from_dict(description["signature"])
        given = example_inputs(signature, 3)
        return _Subject(delivered.model, delivered.model.state_dict(), description, given, merged)
    try:
        weights = read_tensors(folder / "model" / "model.safetensors")
    except OSError as error:
        raise RunFolderError(f"{folder} holds no weights: {error}", expected="a finished run", fix="Train it again") from error
    require_delivered(folder)
    if model is None:
        return _Subject(None, weights, description, None)
    if inputs is None:
        raise JobError("model is given without inputs", expected="inputs of a few rows", fix="Give inputs=x[:4], for example")
    model = copy.deepcopy(model).cpu().eval()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(
            f"the weights of {folder} don't fit the model given: {str(error).splitlines()[-1].strip()[:200]}",
            expected="the module that fit trained",
            fix="Build it as it was then",
        ) from error
    merged = _merged_(model)
    return _Subject(model, model.state_dict(), description, inputs, merged)


def _merged_(model: nn.Module) -> int:
    count = len(adapted_layers(model))
    if count:
        merge_adapter(model)
    return count


def _is_adapter(settings: dict[str, Any]) -> bool:
    return lookup(settings["name"], slot="model").stage == "adapter"


def _content(subject: _Subject, to: Format) -> bytes:
    if to == "safetensors":
        return encode_tensors(subject.weights)
    if subject.model is None or subject.inputs is None:
        raise JobError(
            "this run was made from Python, and its folder doesn't say how to build the model",
            expected="the module, and inputs of a few rows",
            fix=f'In Python: stepwell.export(folder, to="{to}", model=module, inputs=x[:4])',
        )
    return program_bytes(subject.model, subject.inputs) if to == "torch-export" else onnx_bytes(subject.model, subject.inputs)


def _called(model: nn.Module, inputs: Tree) -> Tree:
    from stepwell.core.slots import call_model
    from stepwell.engine.evaluate import evaluating

    with evaluating(model):
        return call_model(model, inputs)


def _json(value: Any) -> bytes:
    return (json.dumps(worded(value), indent=2, allow_nan=False) + "\n").encode()
