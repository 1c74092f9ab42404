"""Freeze: named parts of a model keep their weights; the rest is trained (feature extraction)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError
from stepwell.core.modules.freezing import allow_holding, claim, matched_names, norms_of, set_held
from stepwell.core.randomness import Rng

__all__ = ["Freeze", "freeze_"]


def freeze_(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Take the gradient from every parameter that the patterns cover; gives their names.

    Args:
        patterns: names of modules or parameters, wildcards allowed; a module covers everything inside it.

    >>> freeze_(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), ["0"])
    ['0.weight', '0.bias']
    """
    names = matched_names(model, patterns, "freeze.patterns")
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return names


@technique(id="freeze", slot="model", stage="freeze", paper="Yosinski et al. 2014, arXiv:1411.1792")
class Freeze:
    """Keep named parts of a model as they are and train the rest.

    What: the parameters get no gradient. Why: a pretrained body with a new head on little data (feature
    extraction). When not: data far from what the body was trained on; thaw it in time with `unfreezing`.

    Args:
        patterns: modules or parameters, e.g. ["backbone", "blocks.[0-3]", "*.embedding"]; a module covers everything
            inside it.
        norm_statistics: "frozen" lets batch norms inside use their running statistics unchanged; "updated" goes on
            averaging and normalises with the batch's.

    Raises:
        JobError: a pattern that covers nothing; nothing left to train.

    Paper: Yosinski et al., "How transferable are features in deep neural networks?", NeurIPS 2014, arXiv:1411.1792.

    >>> model = Freeze(patterns=["0"])(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), Rng(0))
    >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ['1.weight', '1.bias']
    """

    patterns: list[str]
    norm_statistics: Literal["frozen", "updated"] = "frozen"

    def __post_init__(self) -> None:
        good = isinstance(self.patterns, (list, tuple)) and bool(self.patterns) and all(isinstance(p, str) for p in self.patterns)
        require(good, "freeze.patterns", self.patterns, "a list of names", 'Write e.g. patterns: ["backbone"]')
        choice = self.norm_statistics
        require(
            choice in ("frozen", "updated"), "freeze.norm_statistics", choice, '"frozen" or "updated"', "The default is frozen"
        )

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        claim(model, freeze_(model, self.patterns), "freeze")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise JobError(
                f"freeze.patterns {self.patterns} covers every parameter",
                expected="something left to train",
                fix="Leave the head out of the patterns",
            )
        if self.norm_statistics == "frozen":
            for norm in norms_of(model, self.patterns):
                allow_holding(norm)
                set_held(norm, True)
        return model
