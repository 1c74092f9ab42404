"""stepwell trains PyTorch models by recipes: stacks of techniques, each switched on by one line.

The public names are found when first asked for: `import stepwell` imports none of them, nor torch.

>>> import stepwell
>>> "fit" in dir(stepwell)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell import techniques
    from stepwell.core.batch import Batch
    from stepwell.doctor.diagnose import diagnose
    from stepwell.doctor.lr_finder import find_lr
    from stepwell.engine.train_step import TrainStep
    from stepwell.models.registry import model
    from stepwell.recipe.archive.export import export
    from stepwell.recipe.archive.foreign_weights import import_weights
    from stepwell.recipe.archive.runs import runs
    from stepwell.recipe.estimators import Classifier, Regressor
    from stepwell.recipe.evidence.audit import audit
    from stepwell.recipe.evidence.diff import diff
    from stepwell.recipe.evidence.replay import replay
    from stepwell.recipe.evidence.verify import verify
    from stepwell.recipe.fit import fit
    from stepwell.recipe.job import Job, Recipe
    from stepwell.recipe.verbs import check, evaluate, explain, predict, resume, schedule, train
    from stepwell.report.card import write_card
    from stepwell.report.page import write_report

__version__ = "0.1.0"

# Public name -> where it lives. (The report function is not called `report`: that is the package that holds it.)
_HOMES = {
    "Batch": "stepwell.core.batch",
    "Classifier": "stepwell.recipe.estimators",
    "Job": "stepwell.recipe.job",
    "Recipe": "stepwell.recipe.job",
    "Regressor": "stepwell.recipe.estimators",
    "TrainStep": "stepwell.engine.train_step",
    "audit": "stepwell.recipe.evidence.audit",
    "check": "stepwell.recipe.verbs",
    "diagnose": "stepwell.doctor.diagnose",
    "diff": "stepwell.recipe.evidence.diff",
    "evaluate": "stepwell.recipe.verbs",
    "explain": "stepwell.recipe.verbs",
    "export": "stepwell.recipe.archive.export",
    "find_lr": "stepwell.doctor.lr_finder",
    "fit": "stepwell.recipe.fit",
    "import_weights": "stepwell.recipe.archive.foreign_weights",
    "model": "stepwell.models.registry",
    "predict": "stepwell.recipe.verbs",
    "replay": "stepwell.recipe.evidence.replay",
    "resume": "stepwell.recipe.verbs",
    "runs": "stepwell.recipe.archive.runs",
    "schedule": "stepwell.recipe.verbs",
    "train": "stepwell.recipe.verbs",
    "verify": "stepwell.recipe.evidence.verify",
    "write_card": "stepwell.report.card",
    "write_report": "stepwell.report.page",
}

__all__ = [
    "Batch",
    "Classifier",
    "Job",
    "Recipe",
    "Regressor",
    "TrainStep",
    "__version__",
    "audit",
    "check",
    "diagnose",
    "diff",
    "evaluate",
    "explain",
    "export",
    "find_lr",
    "fit",
    "import_weights",
    "model",
    "predict",
    "replay",
    "resume",
    "runs",
    "schedule",
    "techniques",
    "train",
    "verify",
    "write_card",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "techniques":
        return importlib.import_module("stepwell.techniques")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"stepwell has no {name!r}; its names are {', '.join(__all__)}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
