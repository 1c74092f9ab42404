"""capacity_too_small: the network can't express what the data hold, however it is trained.

Rule: its training rows stay badly judged at every rate tried, a simple method does better on unseen rows, and the same
network with a wide branch beside it reaches more validation skill. It is asked last, for a branch of its own helps against nearly
everything; but before other rates and more epochs where all that is known of a row goes through one or two units.
Source: Zhang et al., ICLR 2017, arXiv:1611.03530: a network large enough fits any labels of its training rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.wider import wider

NARROW = 4
ONE_OR_TWO = 2
MISSING = 0.05


def probe(bench: Bench) -> Iterator[Suspicion]:
    own = bench.own
    if own.failed or not bench.unfit or not bench.complete or (bench.reference is not None and bench.room < MISSING):
        return
    widths = hidden_widths(bench.setup.model)
    narrow = bool(widths) and min(widths) <= NARROW
    yield Suspicion(
        "capacity_too_small" if narrow else "underfitting",
        f"training rows are judged at {own.last.train_skill or 0.0:.2f} at the end, and hardly better at any rate"
        + (f"; the narrowest layer has {min(widths)} units" if narrow else ""),
        "the network can't express what the data hold",
        {"train_skill": own.last.train_skill, "narrowest": min(widths) if widths else None, "attainable": _known(bench)},
        Remedy("Take more units, or more layers with activations between them", wider),
        weight=0.57 if narrow and min(widths) <= ONE_OR_TWO else 0.2,
        explains=("underfitting", "too_few_epochs", "lr_too_low"),
    )


def hidden_widths(model: nn.Module) -> list[int]:
    """Units of each layer but the last."""
    widths = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            widths.append(module.out_features)
        elif isinstance(module, nn.modules.conv._ConvNd):
            widths.append(module.out_channels)
        elif isinstance(module, nn.RNNBase):
            widths.append(module.hidden_size)
    return widths[:-1]


def _known(bench: Bench) -> float | None:
    return None if bench.reference is None else bench.reference.best
