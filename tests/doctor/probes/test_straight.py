"""Layers with nothing between them."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, noise, said
from torch import Tensor, nn


def _corners(num_rows: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The sign of the product of two columns: no straight cut tells it."""
    inputs = noise(num_rows, 2, seed=seed)
    return inputs, (inputs[:, 0] * inputs[:, 1] > 0).long()


def test_three_linear_layers_on_a_bent_law_miss_something_and_bend_once_mended() -> None:
    model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.2), nn.Linear(16, 16), nn.Linear(16, 2))
    bench = bench_of(model, _corners(), _corners(200, seed=1))
    (found,) = said("straight", bench)
    assert (found.id, found.proof, found.evidence["num_layers"]) == ("missing_nonlinearity", "certain", 3)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup).model.eval()
    a, b = torch.randn(5, 2), torch.randn(5, 2)
    assert float((mended(a) + mended(b) - mended(a + b) - mended(torch.zeros(5, 2))).abs().max()) > 1e-3


def test_linear_layers_on_a_linear_law_and_bent_layers_are_healthy() -> None:
    straight = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    assert ids("straight", bench_of(straight, law(), law(seed=1), loss=nn.MSELoss())) == []
    bent = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    assert ids("straight", bench_of(bent, _corners(), _corners(200, seed=1))) == []


def test_units_at_their_rails_arent_taken_for_straight() -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.Sigmoid(), nn.Linear(8, 2))
    nn.init.constant_(model[0].bias, 15.0)  # type: ignore[arg-type]
    assert ids("straight", bench_of(model, _corners(), _corners(200, seed=1))) == []


def test_layers_with_batch_norms_between_them_are_straight_too() -> None:
    model = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 2))
    (found,) = said("straight", bench_of(model, _corners(), _corners(200, seed=1)))
    assert found.id == "missing_nonlinearity"


def test_units_that_all_lie_on_one_side_for_inputs_far_from_zero_arent_taken_for_straight() -> None:
    far, far_val = ((inputs + 1e4, targets) for inputs, targets in (_corners(), _corners(200, seed=1)))
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    assert ids("straight", bench_of(model, far, far_val)) == []


def test_branches_that_start_at_zero_bend_once_trained() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
            nn.init.zeros_(self.inner[2].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.inner[2].bias)  # type: ignore[arg-type]

        def forward(self, rows: Tensor) -> Tensor:
            outputs: Tensor = rows + self.inner(rows)
            return outputs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(Block(), Block(), nn.Linear(2, 2))
    assert ids("straight", bench_of(model, _corners(), _corners(seed=1))) == []
