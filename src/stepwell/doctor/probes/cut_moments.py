"""Moments of a sequence that outputs depend on and gradients don't reach.

Rule: of a random mix of the outputs, the gradient is exactly 0 at some moments of the inputs (of a text, of its embedded tokens)
in all rows, and not at others; and values moved by 1 % of their spread at these moments change the outputs of most rows. A state
that is detached at each step does it. A model that only looks at the last moment, or that picks moments by their maximum, passes:
there such a move changes nothing.
Leaving the call out that cuts must help, for some cut long sequences on purpose.
Source: Williams & Peng, Neural Computation 1990, on truncated backpropagation: what is cut can't be learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.probes.detached import culprits, mended
from stepwell.doctor.rows import tensors

FEWEST = 3  # moments
NUDGE, CHANGED = 1e-2, 1e-5  # of the values' spread, and of the outputs'
MOST = 0.5  # of the rows
MOST_ROWS = 64
Run = Callable[[Tensor], Tensor]


def probe(bench: Bench) -> Iterator[Suspicion]:
    model = bench.setup.copied().model.eval()
    inputs = bench.some.take(slice(0, MOST_ROWS)).inputs
    if not isinstance(inputs, Tensor):
        return
    with seeded_defaults(0), torch.enable_grad():
        values, run = _float_values(model, inputs)
        if values is None or values.dim() != 3 or values.shape[1] < FEWEST:
            return
        still = _without_gradient(values, run)
        if not bool(still.any()) or bool(still.all()) or not _changes(values, run, still):
            return
        _, calls = calls_of(model, inputs)
    ops = culprits(calls)
    change = mended(ops)
    yield Suspicion(
        "detached_graph",
        f"outputs depend on {int(still.sum())} of {len(still)} moments that no gradient reaches",
        "the way back through time is cut" + (f" by {', '.join(ops)}" if ops else "") + ": what lies before can't be learnt",
        {"num_moments": len(still), "num_cut": int(still.sum()), "calls": ops},
        Remedy(
            "Keep the state as it is from step to step of a row" + (f": leave {', '.join(ops)} out" if ops else ""),
            change,
        ),
        proof="mechanism",
        weight=0.9,
        explains=("underfitting", "capacity_too_small", "vanishing_gradient", "lr_too_low", "too_few_epochs"),
    )


def _float_values(model: nn.Module, inputs: Tensor) -> tuple[Tensor | None, Run]:
    """The inputs, or their tokens as the first embedding gives them, and what the model makes of other values there."""
    if inputs.is_floating_point():
        return inputs.clone(), lambda values: _mixed(model(values))
    table = next((part for part in model.modules() if isinstance(part, nn.Embedding)), None)
    if table is None:
        return None, lambda values: values
    seen: list[Tensor] = []

    def run(values: Tensor) -> Tensor:
        first = iter([values])
        handle = table.register_forward_hook(lambda module, given, output: next(first, None))
        try:
            return _mixed(model(inputs))
        finally:
            handle.remove()

    handle = table.register_forward_hook(lambda module, given, output: seen.append(output.detach()))
    try:
        model(inputs)
    finally:
        handle.remove()
    return (seen[0].clone() if seen else None), run


def _mixed(outputs: object) -> Tensor:
    """Each row's outputs in a random mix, (num_rows,)."""
    draw = torch.Generator().manual_seed(0)
    parts = [part for part in tensors(outputs) if part.is_floating_point()]
    mixes = [(torch.randn(part.shape[1:], generator=draw) * part).reshape(len(part), -1).sum(1) for part in parts]
    return torch.stack(mixes).sum(0)


def _without_gradient(values: Tensor, run: Run) -> Tensor:
    """Moments that get none in any row, (num_moments,)."""
    free = values.clone().requires_grad_(True)
    mixed = run(free)
    if not mixed.requires_grad:
        return torch.ones(values.shape[1], dtype=torch.bool)
    slope = torch.autograd.grad(mixed.sum(), free, allow_unused=True)[0]
    if slope is None:
        return torch.ones(values.shape[1], dtype=torch.bool)
    return ~(slope != 0).any(2).any(0)


def _changes(values: Tensor, run: Run, still: Tensor) -> bool:
    """Whether slightly other values at these moments change what comes out of most rows, as they do where nothing chooses."""
    draw = torch.Generator().manual_seed(1)
    other = values.clone()
    other[:, still] += NUDGE * values.std() * torch.randn(other[:, still].shape, generator=draw)
    with torch.no_grad():
        before, after = run(values), run(other)
    return float(((after - before).abs() > CHANGED * before.std()).float().mean()) > MOST
