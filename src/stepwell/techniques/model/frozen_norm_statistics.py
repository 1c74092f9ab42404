"""Frozen norm statistics: batch norms keep the running mean and variance they came with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError, nearest
from stepwell.core.modules.freezing import hold_statistics, norms_of
from stepwell.core.randomness import Rng

__all__ = ["FrozenNormStatistics", "hold_statistics"]


def _chosen(model: nn.Module, patterns: Sequence[str] | None) -> list[nn.Module]:
    held = norms_of(model, ["*"])
    if isinstance(model, _BatchNorm) and model.track_running_stats:
        held = [model]
    if not held:
        raise JobError(
            "frozen_norm_statistics found no batch norm with running statistics in the model",
            expected="a model with batch norm",
            fix="Leave it out: other norms keep no statistics",
        )
    if patterns is None:
        return held
    chosen: list[nn.Module] = []
    for pattern in patterns:
        found = norms_of(model, [pattern])
        if not found:
            known = [name for name, module in model.named_modules() if any(module is norm for norm in held)]
            raise JobError(
                f"frozen_norm_statistics.patterns has {pattern!r}, which covers no batch norm",
                expected="the name of a module, or a pattern such as 'layer1*'",
                fix=nearest(pattern, known),
            )
        chosen += [norm for norm in found if not any(norm is other for other in chosen)]
    return chosen


@technique(id="frozen_norm_statistics", slot="model", stage="freeze", paper="Ioffe and Szegedy 2015, arXiv:1502.03167")
class FrozenNormStatistics:
    """Train with the running mean and variance of batch norms as they are; their weights and biases are still trained.

    What: batch norms behave as in evaluation, so neither do their statistics move nor does a sample see the others of
    its batch. Why: fine-tuning with small batches, whose statistics are too noisy to replace those of pretraining. When
    not: training from scratch; data unlike those of pretraining, whose statistics are wrong then.

    Args:
        patterns: modules, e.g. ["backbone", "layer[1-3]"]; a module covers everything inside it; None for all.

    Raises:
        JobError: no batch norm with running statistics; a pattern that covers none.

    Paper: Ioffe and Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167, section 3.1 (inference).

    >>> import torch
    >>> model = FrozenNormStatistics()(nn.Sequential(nn.BatchNorm1d(2)), Rng(0)).train()
    >>> _ = model(torch.tensor([[1.0, 5.0], [2.0, 7.0]]))
    >>> model[0].running_mean.tolist()
    [0.0, 0.0]
    """

    patterns: list[str] | None = None

    def __post_init__(self) -> None:
        names, kind = self.patterns, (list, tuple)
        good = names is None or (isinstance(names, kind) and bool(names) and all(isinstance(name, str) for name in names))
        require(good, "frozen_norm_statistics.patterns", names, "a list of names", 'Write e.g. ["backbone"], or leave it out')

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        hold_statistics(_chosen(model, self.patterns))
        return model
