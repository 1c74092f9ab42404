"""One cycle in place of a constant rate, with the momentum the other way round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch.optim import Optimizer

from stepwell.doctor.setup import Setup
from stepwell.techniques.schedule.one_cycle import one_cycle

WARMUP, START, FINAL = 0.3, 25.0, 1e4  # of the technique `one_cycle`: share of the rise, peak / first rate, first / final rate
MOMENTUM_LOW, MOMENTUM_HIGH = 0.85, 0.95


@dataclass(frozen=True)
class Cycled(Setup):
    """A setup whose momentum is high, low and high again over its steps; the rate's own cycle is its `schedule`."""

    def build_optimizer(self) -> Optimizer:
        optimizer = super().build_optimizer()
        name = "momentum" if any(group.get("momentum", 0) for group in optimizer.param_groups) else "betas"
        if name == "betas" and not all("betas" in group for group in optimizer.param_groups):
            return optimizer
        momentum = _cycle(self.num_steps, MOMENTUM_HIGH, MOMENTUM_LOW, MOMENTUM_HIGH)
        done = 0

        def set_momentum(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            nonlocal done
            for group in optimizer.param_groups:
                group[name] = momentum(done) if name == "momentum" else (momentum(done), *group["betas"][1:])
            done += 1

        optimizer.register_step_pre_hook(set_momentum)
        return optimizer


def cycled(setup: Setup, peak: float) -> Setup:
    """The same steps under one cycle.

    Args:
        peak: the highest rate, in times of the setup's own.

    >>> import torch
    >>> from stepwell.doctor.setup import setup_of
    >>> data = torch.zeros(50, 1), torch.zeros(50, 1)
    >>> kept = {"loss": "mse", "batch_size": 5, "epochs": 1, "shuffle": True}
    >>> setup = cycled(setup_of(torch.nn.Linear(1, 1), data, None, optimizer={"name": "sgd", "lr": 0.1}, **kept), 3.0)
    >>> round(setup.lr, 6), [round(setup.schedule(step / 10), 4) for step in (0, 2, 9)]
    (0.3, [0.04, 1.0, 0.0])
    """
    num_steps = setup.num_steps
    rate = _cycle(num_steps, 1 / START, 1.0, 1 / (START * FINAL))
    faster = setup.with_rate(peak)
    values = {item.name: getattr(faster, item.name) for item in fields(Setup)}
    return Cycled(**{**values, "schedule": lambda share: rate(share * num_steps)})


def _cycle(num_steps: int, start: float, peak: float, end: float) -> Callable[[float], float]:
    return one_cycle(total=num_steps, warmup=max(WARMUP * num_steps, 1.0), start=start, peak=peak, end=end)
