"""Class numbers as quantities."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said
from torch import Tensor, nn

CENTRES = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])  # on a ring: neighbours are next to each other


def _clouds(num_rows: int = 240, seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.arange(num_rows) % 4
    return CENTRES[labels] + 0.4 * noise(num_rows, 2, seed=seed), labels.float().unsqueeze(1)


def test_numbers_of_clouds_in_no_order_are_a_wrong_loss_and_get_an_output_each() -> None:
    inputs, targets = _clouds()
    crossed = torch.tensor([0.0, 2.0, 1.0, 3.0])[targets.long()]  # on the ring: 0, 2, 1, 3, so steps are 2, 1, 2 and 3
    bench = bench_of(mlp(2, 8, 1), (inputs, crossed), loss=nn.MSELoss())
    (found,) = said("class_numbers", bench)
    assert (found.id, found.proof) == ("wrong_loss", "certain")
    assert found.evidence["step_to_next_class"] == pytest.approx(2.0, abs=0.2)
    assert found.remedy.change is not None
    assert found.remedy.change(bench.setup).model(inputs).shape == (240, 4)


def test_counts_whose_order_matters_are_healthy() -> None:
    inputs = noise(300, 2)
    counts = (2 + 1.2 * inputs[:, :1]).round().clamp(0, 4)
    assert ids("class_numbers", bench_of(mlp(2, 8, 1), (inputs, counts), loss=nn.MSELoss())) == []


def test_other_quantities_are_silent() -> None:
    inputs = noise(100, 2)
    assert ids("class_numbers", bench_of(mlp(2, 8, 1), (inputs, inputs[:, :1]), loss=nn.MSELoss())) == []
