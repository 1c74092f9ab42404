"""Dropout that leaves too little."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn
from torch.nn import functional

from stepwell.doctor.dropped import dropped_shares


class _Functional(nn.Module):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.first, self.last = share, mlp(4, 16), nn.Linear(16, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.last(functional.dropout(self.first(inputs).relu(), self.share, self.training))
        return outputs


def _zeros(model: nn.Module) -> float:
    """The share of zeros that reaches the last layer, over inputs that rectified units let through."""
    seen: list[Tensor] = []
    last = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    units = next(part for part in model.modules() if isinstance(part, nn.Linear))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        kept = units.bias.clone()
        units.bias.fill_(100.0)
        model(torch.zeros(500, 4))
        units.bias.copy_(kept)
    handle.remove()
    return float((seen[0] == 0).float().mean())


def _modules(share: float) -> nn.Module:
    return nn.Sequential(mlp(4, 16), nn.ReLU(), nn.Dropout(share), mlp(16, 2))


@pytest.mark.parametrize("make", [_modules, _Functional])
def test_nine_tenths_dropped_are_told_and_a_fifth_is_left_of_it(make: type[_Functional]) -> None:
    model = make(0.9)
    bench = bench_of(model, signs(), signs(seed=1), optimizer={"name": "sgd", "lr": 0.01})
    (found,) = said("dropout", bench)
    assert found.id == "dropout_too_high"
    assert found.evidence["dropout"] == [0.9]
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup).model.train()
    assert _zeros(mended) == pytest.approx(0.2, abs=0.03)
    assert _zeros(model.train()) == pytest.approx(0.9, abs=0.03)
    assert dropped_shares(model.train(), signs()[0]) == [0.9]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_usual_shares_are_no_reason_to_speak(share: float) -> None:
    bench = bench_of(_modules(share), signs(), optimizer={"name": "sgd", "lr": 1e-4})
    assert bench.unfit
    assert ids("dropout", bench) == []


def test_heavy_dropout_under_which_rows_are_learnt_is_no_fault() -> None:
    model = nn.Sequential(mlp(4, 64), nn.ReLU(), nn.Dropout(0.6), mlp(64, 2))
    bench = bench_of(model, signs(), signs(seed=1), optimizer={"name": "adam", "lr": 0.02}, epochs=10)
    assert ids("dropout", bench) == []
