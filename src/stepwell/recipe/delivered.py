"""The delivered model of a run folder: built again from what stands beside its weights, never from code in a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stepwell.core.catalog import STAGES, lookup, record_of, settings_of
from stepwell.core.errors import RunFolderError, StepwellError
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.engine.records.storage import read_json
from stepwell.engine.records.tensors import read_tensors
from stepwell.models import registry
from stepwell.recipe.evidence.seals import require_delivered
from stepwell.recipe.run_paths import require_folder

# Of a model technique: those that add, replace or rename modules or tensors. What draws or freezes weights, or decides
# how they are computed, is over when a model is delivered.
SHAPING = ("head", "structure", "refine", "adapter")


@dataclass
class Delivered:
    """A trained model with what is needed to use it on new data.

    Args:
        model: with its weights, in evaluation mode.
        description: what stands in model.json.
    """

    model: nn.Module
    description: dict[str, Any]

    @property
    def preparation(self) -> Any:
        """What was fitted on the training data, see `stepwell.data.preparation`."""
        from stepwell.data.preparation import Preparation

        return Preparation.from_dict(self.description["preparation"])


def load_delivered(folder: Path) -> Delivered:
    """The model of a finished run.

    Raises:
        RunFolderError: no such run, it isn't finished, or its files don't fit together or were changed.
    """
    require_folder(Path(folder))
    place = Path(folder) / "model"
    if not place.is_dir():
        there = (Path(folder) / "job.yaml").exists()
        raise RunFolderError(
            f"{folder} holds no trained model",
            expected="the folder of a finished run",
            fix=f"Finish it first: `stepwell resume {folder}`" if there else "Give the folder that `stepwell train` printed",
        )
    delivered = read_delivered(place)
    require_delivered(Path(folder))
    return delivered


def read_delivered(place: Path) -> Delivered:
    """The model in a folder of model.safetensors and model.json: a run's model/, or an export of it.

    Raises:
        RunFolderError: its files are missing, damaged, or don't fit together.
    """
    place = Path(place)
    try:
        description = read_json(place / "model.json")
        weights = _weights(place)
        spec = description["model"]
        model = registry.build(spec["name"], Signature.from_dict(description["signature"]), spec["settings"], seed=0)
        for settings in description.get("techniques", []):
            item = lookup(settings["name"], slot="model").factory(**{k: v for k, v in settings.items() if k != "name"})
            model = item(model, Rng(0))  # whatever it draws is overwritten
        model.load_state_dict(weights)
        delivered = Delivered(model.eval(), description)
        if "preparation" in description:
            _ = delivered.preparation  # what can't be read is told here
    except MemoryError:
        raise
    except Exception as error:  # whatever a changed or hostile description makes of the builders
        told = error.what if isinstance(error, StepwellError) else f"{error}" or type(error).__name__
        raise RunFolderError(
            f"the model in {place} can't be loaded: {told}",
            expected="model.safetensors and model.json as a run wrote them",
            fix="Train again, or continue the run with `stepwell resume`",
        ) from error
    return delivered


def rebuilding(techniques: Iterable[Any]) -> list[dict[str, Any]]:
    """The model techniques that decide which modules and tensors a model has, in the order in which they act."""
    records = [(record, item) for item in techniques if (record := record_of(item)) is not None and record.slot == "model"]
    shaping = [(record, item) for record, item in records if record.stage in SHAPING]
    return [settings_of(item) for _, item in sorted(shaping, key=lambda pair: STAGES.index(pair[0].stage))]


def _weights(place: Path) -> dict[str, Any]:
    try:
        return read_tensors(place / "model.safetensors")
    except StepwellError as error:
        raise RuntimeError(error.what) from error


def load_model(folder: str) -> nn.Module:
    """Just the module, for example as a teacher."""
    return load_delivered(Path(folder)).model
