"""Whatever is tried, what the user gave is afterwards as it was, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from stepwell.data.loading import host_state_kept, seed_host_
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import one_thread


@contextmanager
def undisturbed(setup: Setup) -> Iterator[None]:
    """One thread, global generators that start at 0, and gradients possible; afterwards they, and the model, are as before.

    Trials run on copies, but a loss may reach the user's own model by its name (a penalty on weights, a second forward pass):
    then gradients, buffers and modes change, and are put back.
    """
    kept = [setup.model] + ([setup.loss] if isinstance(setup.loss, nn.Module) else [])
    with ExitStack() as stack:
        stack.enter_context(host_state_kept())
        for module in kept:
            stack.enter_context(_kept(module))
        stack.enter_context(one_thread())
        stack.enter_context(torch.inference_mode(False))
        seed_host_(0)
        yield


@contextmanager
def _kept(module: nn.Module) -> Iterator[None]:
    """Values, gradients and modes are put back where they changed."""
    modes = [(part, part.training) for part in module.modules()]
    trained = [(part, part.grad, part.requires_grad) for part in module.parameters() if not nn.parameter.is_lazy(part)]
    gradients = [gradient for _, gradient, _ in trained if gradient is not None]
    values = [_Value(part) for part in [*module.parameters(), *module.buffers(), *gradients]]
    try:
        yield
    finally:
        for part, gradient, requires_grad in trained:
            part.grad = gradient
            part.requires_grad_(requires_grad)
        for value in values:
            value.put_back()
        for inner, training in modes:
            inner.training = training


class _Value:
    """A tensor and what it held; it is written to only if somebody else did."""

    def __init__(self, part: Tensor) -> None:
        self.part = part
        self.held = None if nn.parameter.is_lazy(part) else part.detach().clone()

    def put_back(self) -> None:
        # Version counters don't tell: batch norm writes its buffers past them.
        if self.held is not None and not torch.equal(self.part, self.held):
            self.part.data.copy_(self.held)
