"""Rate groups: a factor on the learning rate for named parts of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.modules.freezing import matched_names

__all__ = ["LrGroups", "lr_factors"]


def lr_factors(model: nn.Module, patterns: Mapping[str, float], *, others: float = 1.0) -> dict[str, float]:
    """The factor of every parameter, by name, each tensor once: the last pattern that covers it says which.

    Args:
        patterns: names of modules or parameters, wildcards allowed -> factor; a module covers everything inside it. Where
            several cover a tensor the last one wins, so the general comes first and the exception after it.
        others: the factor of what no pattern covers.

    Raises:
        JobError: a pattern that covers nothing.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> lr_factors(model, {"0": 0.1, "*.bias": 2.0})
    {'0.weight': 0.1, '0.bias': 2.0, '1.weight': 1.0, '1.bias': 2.0}
    """
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    factors = dict.fromkeys(first.values(), others)
    for pattern, factor in patterns.items():
        for name in matched_names(model, [pattern], "lr_groups.patterns"):
            # A tied tensor has several names, and is trained under the first.
            factors[first[id(model.get_parameter(name))]] = factor
    return factors


@technique(
    id="lr_groups",
    slot="optimizer",
    role="groups",
    paper="Howard & Ruder 2018, arXiv:1801.06146 (discriminative fine-tuning)",
)
class LrGroups:
    """Give named parts of a model rates of their own (discriminative rates).

    What: the rate of each named part is the configured one times its factor, under whatever schedule. Why: a pretrained
    body needs small steps where a new head needs large ones. When not: for a factor per layer of a deep model, layerwise_lr
    writes the list; to keep a part as it is, freeze it.

    Args:
        patterns: modules or parameters -> factor, e.g. {backbone: 0.1, backbone.layer4: 0.5}; wildcards allowed, a module
            covers everything inside it, each factor finite and >= 0. Where several cover a tensor the last one wins.
        others: factor of what no pattern covers, finite and >= 0.

    Raises:
        JobError: no pattern, a pattern that covers nothing, a factor outside its range.

    Paper: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, arXiv:1801.06146,
    section 3.2.

    >>> LrGroups(patterns={"0": 0.1})(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)))
    {'0.weight': {'lr': 0.1}, '0.bias': {'lr': 0.1}}
    """

    patterns: dict[str, float]
    others: float = 1.0

    def __post_init__(self) -> None:
        good = isinstance(self.patterns, Mapping) and len(self.patterns) > 0
        fix = "Write e.g. patterns: {backbone: 0.1}"
        require(good, "lr_groups.patterns", self.patterns, "names with their factors", fix)
        for pattern, factor in self.patterns.items():
            good = isinstance(factor, (int, float)) and 0 <= factor < math.inf
            require(good, f"lr_groups.patterns[{pattern!r}]", factor, "a finite number of at least 0", fix)
        require(0 <= self.others < math.inf, "lr_groups.others", self.others, "a finite number of at least 0", "Write e.g. 1.0")

    def __call__(self, model: nn.Module) -> dict[str, dict[str, float]]:
        factors = lr_factors(model, self.patterns, others=self.others)
        # A factor of 1 is left out: it would only make a second group of the same settings.
        return {name: {"lr": factor} for name, factor in factors.items() if factor != 1.0}
