"""Parts that stay in evaluation while the model trains.

Rule: after model.train(), or after a forward pass that follows it, a part that behaves otherwise in training (it has running
statistics or draws) is in evaluation. Deliberate for a frozen backbone, so training it must help.
Source: PyTorch's forum on `train()` of frozen batch norm.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.modules import in_training


def probe(bench: Bench) -> Iterator[Suspicion]:
    model = bench.setup.copied().model
    model.train()
    still = _in_evaluation(model)
    within = not still
    if within:
        with seeded_defaults(0), torch.no_grad():
            model(bench.first_batch.inputs)
        still = _in_evaluation(model)
    if not still:
        return
    all_there = [name for name, part in model.named_modules() if _has_modes(part)]
    yield Suspicion(
        "eval_mode_in_training",
        f"after model.train(){' and a forward pass' if within else ''}, {len(still)} of {len(all_there)} norm and dropout layers "
        "are in evaluation: " + ", ".join(still[:3]),
        "norm layers keep the statistics of their start instead of those of the data",
        {"num_still": len(still), "num_layers": len(all_there), "names": still[:20]},
        Remedy("Leave eval() out of the forward pass" if within else "Let train() reach all parts", in_training),
        proof="mechanism",
        weight=0.95,
        explains=("unnormalised_inputs", "lr_too_high", "exploding_gradient", "overfitting", "underfitting", "lr_too_low"),
    )


def _in_evaluation(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if _has_modes(part) and not part.training]


def _has_modes(part: nn.Module) -> bool:
    if isinstance(part, _NormBase):
        return part.track_running_stats and part.running_mean is not None
    return isinstance(part, _DropoutNd) and part.p > 0
