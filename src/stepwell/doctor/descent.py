"""Where a loss wants outputs to go: outputs moved freely down its gradient, without a model."""

from __future__ import annotations

import torch
from torch import Tensor

from stepwell.doctor.asking import Asked


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
    """Whether in four times the steps most rows go three times as far, by many spreads of the targets.

    Only rows whose targets lie between others count: a target at an end (a count of 0 under a logarithm) may be wanted there."""
    near, far = (fall(item, num_steps=number) for number in (60, 240))
    if near is None or far is None:
        return False
    start, spread = item.constant(), float(item.targets.float().std())
    moved, further = (near - start).abs(), (far - start).abs()
    wanted = item.targets.reshape(start.shape)
    between = (wanted > wanted.min()) & (wanted < wanted.max())
    gone = (further > 3 * moved) & (further > 8 * spread)
    return float(between.float().mean()) > 0.3 and float(gone[between].float().mean()) > 0.5


def _rank_correlation(one: Tensor, other: Tensor) -> float:
    ranks = torch.stack([part.argsort().argsort().float() for part in (one, other)])
    return 0.0 if float(one.std()) < 1e-9 else float(torch.corrcoef(ranks)[0, 1])
