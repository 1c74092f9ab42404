"""The step's backward against torch's public one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.engine import backward as module


@pytest.mark.parametrize("engine", ["direct", "public"])
def test_gradients_have_the_bits_of_torch_autograd_backward(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "public":
        monkeypatch.setattr(module, "_ENGINE", None)

    def sums(model: nn.Module) -> list[Tensor]:
        outputs = model(torch.linspace(-1, 1, 30).reshape(6, 5))
        return [outputs.pow(2).sum(), outputs.sum(0)]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    slopes = [torch.tensor(0.3), torch.tensor([0.1, -0.2, 0.7])]
    torch.autograd.backward(sums(model), slopes)
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    module.backward(sums(model), slopes)
    got = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(got) == len(expected) == 4
    assert all(torch.equal(a, b) for a, b in zip(got, expected))


def test_torch_still_has_the_engine_that_is_called_directly() -> None:
    assert module._ENGINE is not None
