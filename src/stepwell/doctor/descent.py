"""Where a loss wants outputs to go: outputs moved freely down its gradient, without a model."""

from __future__ import annotations

import torch
from torch import Tensor

from stepwell.doctor.asking import Asked

NEAR = 0.9  # share of labels, or rank correlation, from which on outputs have come to the targets
STEPS = (60, 240, 960)
STEADY = 3.0  # times as much in the last stretch as in the one before, which has a quarter of its steps


def fall(item: Asked, *, sign: float = 1.0, num_steps: int = 60) -> Tensor | None:
    """Where the loss wants outputs to go: the model's outputs, moved freely down its gradient in steps of a twentieth of the
    targets' scale each. None where it has no finite gradient."""
    if item.task.kind == "quantity":
        size = 0.05 * max(float(item.targets.float().std()), 1e-6)
    else:
        size = 0.1
    start = item.constant() if item.task.kind == "quantity" else torch.zeros_like(item.outputs)
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    free = (start + size * noise).requires_grad_(True)
    mover = torch.optim.Adam([free], lr=size)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for _ in range(num_steps):
            mover.zero_grad()
            value = sign * item.loss(item.in_domain(free), item.targets)
            value.backward()  # type: ignore[no-untyped-call]
            if free.grad is None or not bool(torch.isfinite(free.grad).all()):
                return None
            mover.step()
    return item.in_domain(free.detach())


def near(item: Asked, *, sign: float = 1.0) -> float | None:
    """How near to the targets outputs come that follow the loss down: share of labels, or rank correlation."""
    try:
        ended = fall(item, sign=sign)
    except Exception:
        return None
    if ended is None:
        return None
    if item.task.kind == "quantity":
        return _rank_correlation(ended.flatten(), item.targets.flatten().float())
    if item.task.kind == "classes":
        guesses = item.task.guesses(ended)
    else:
        flat, yes = ended.flatten(), item.labels == 1
        guesses = (flat > (flat[yes].mean() + flat[~yes].mean()) / 2).long()
    return float((guesses == item.labels).float().mean())


def runs_away(item: Asked) -> bool:
    """Whether the loss wants outputs ever farther out.

    In four times the steps many rows go three times as far, by many spreads of the targets (only rows whose targets lie between
    others count: a count of 0 under a logarithm may be wanted far out); or the loss falls by as much a step as ever.
    """
    near, far = (fall(item, num_steps=number) for number in STEPS[:2])
    if near is None or far is None:
        return False
    start, spread = item.constant(), float(item.targets.float().std())
    moved, further = (near - start).abs(), (far - start).abs()
    wanted = item.targets.reshape(start.shape)
    between = (wanted > wanted.min()) & (wanted < wanted.max())
    gone = (further > 3 * moved) & (further > 8 * spread)
    if float(between.float().mean()) > 0.3 and float(gone[between].float().mean()) > 0.3:
        return True
    first, second, third = item(start) - item(near), item(near) - item(far), 0.0
    if second > abs(first):
        farthest = fall(item, num_steps=STEPS[2])
        third = 0.0 if farthest is None else item(far) - item(farthest)
    return third > STEADY * second > 0


def _rank_correlation(one: Tensor, other: Tensor) -> float:
    ranks = torch.stack([part.argsort().argsort().float() for part in (one, other)])
    return 0.0 if float(one.std()) < 1e-9 else float(torch.corrcoef(ranks)[0, 1])
