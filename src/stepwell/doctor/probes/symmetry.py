"""Units of a layer that start alike and stay alike.

Rule: all rows of a trainable weight before the last one are equal, or all columns of an embedding, and after three steps of the
setup's own optimizer on a copy there are still at most a quarter as many kinds of rows as rows (an LSTM has four kinds, its
gates), and of columns still one. Zero heads and residual branches part within those steps. Certain. Source: Goodfellow, Bengio &
Courville, Deep Learning, section 8.4: initial parameters must break symmetry.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.gradient_flow import flow_of, tables_of
from stepwell.doctor.probes.held import held_tensors
from stepwell.doctor.remedies.modules import drawn_anew

STEPS = 3
ROUNDING = 1e-6  # of the largest gradient over its weights


def probe(bench: Bench) -> Iterator[Suspicion]:
    setup = bench.setup
    held = held_tensors(setup)
    theirs = None if held is None else {id(part) for part in held}
    alike = [name for name, part in _weights(setup.model) if _same_rows(part) and (theirs is None or id(part) in theirs)]
    flat = _flat_tables(setup.model)
    if not alike and not flat:
        return
    course = bench.run(setup, STEPS)
    if course.failed:
        return
    after = dict(course.model.named_parameters())
    names = [name for name in alike if _num_kinds(after[name]) <= max(1, len(after[name]) // 4)]
    names += [name for name in _without_gradient(bench, alike) if name not in names]
    names += [name for name in flat if _stays_flat(setup.model.get_parameter(name), after[name])]
    if not names:
        return
    first = after[names[0]]
    num_units = first.shape[1] if names[0] in flat else len(first)
    yield Suspicion(
        "symmetric_init",
        f"all {num_units} units of {names[0]} are the same unit, before and after {STEPS} steps"
        + (f", and so in {len(names) - 1} further layers" if len(names) > 1 else ""),
        "units that start alike get the same gradient and stay one unit",
        {"names": names[:20], "num_units": num_units, "num_steps": STEPS, "num_layers": len(names)},
        Remedy("Draw the weights: leave them as the layers' classes do", drawn_anew(names)),
        proof="certain",
        weight=0.93,
        explains=(
            *("dead_relu", "vanishing_gradient", "capacity_too_small", "underfitting", "lr_too_low", "too_few_epochs"),
            *("saturated_activation", "init_too_large", "detached_graph"),
        ),
    )


def _without_gradient(bench: Bench, alike: list[str]) -> list[str]:
    """Units that are alike, and whose gradient is nothing but rounding: what follows them is alike too, and its parts cancel."""
    ratios = flow_of(bench.setup, bench.first_batch).ratios
    return [name for name in alike if ratios.get(name, 1.0) < ROUNDING * max(ratios.values(), default=0.0)]


def _flat_tables(model: nn.Module) -> list[str]:
    """Embeddings of which all columns are alike: there a unit is a column."""
    tables = tables_of(model)
    found = [(name, part) for name, part in model.named_parameters() if id(part) in tables and part.requires_grad]
    return [name for name, part in found if part.dim() == 2 and part.shape[1] > 1 and _same_rows(part.T)]


def _stays_flat(before: Tensor, after: Tensor) -> bool:
    """Whether rows have moved, each by the same in all columns."""
    moved = (after.detach() != before.detach()).any(1)
    return bool(moved.any()) and _same_rows(after.detach()[moved].T)


def _weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Trainable weights of several units; embeddings' rows are inputs, not units."""
    tables = tables_of(model)
    return [
        (name, part)
        for name, part in model.named_parameters()
        if part.requires_grad and part.dim() >= 2 and len(part) > 1 and id(part) not in tables
    ]


def _same_rows(part: Tensor) -> bool:
    flat = part.detach().flatten(1)
    return float((flat - flat[:1]).abs().max()) <= 1e-5 * float(flat.abs().max())


def _num_kinds(part: Tensor) -> int:
    """How many rows differ from all others, to 1e-4 of the largest value."""
    flat = part.detach().flatten(1)
    return len(torch.unique((flat / flat.abs().max().clamp(min=1e-30) * 1e4).round(), dim=0))
