"""Targets in another shape than outputs."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, mlp, said
from torch import Tensor, nn


def test_flat_targets_against_a_column_of_outputs_are_a_mismatch() -> None:
    inputs, targets = law()
    (found,) = said("target_shape", bench_of(mlp(4, 8, 1), (inputs, targets.squeeze(1)), loss=nn.MSELoss()))
    assert (found.id, found.proof) == ("target_shape_mismatch", "certain")
    assert (found.evidence["outputs"], found.evidence["targets"]) == ([200, 1], [200])


def test_the_mended_loss_compares_row_with_row() -> None:
    inputs, targets = law()
    bench = bench_of(mlp(4, 8, 1), (inputs, targets.squeeze(1)), loss=nn.MSELoss())
    (found,) = said("target_shape", bench)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    outputs = torch.tensor([[1.0], [2.0]])
    assert float(mended.loss(outputs, torch.tensor([1.0, 4.0]))) == 2.0  # ((1 - 1)^2 + (2 - 4)^2) / 2


def test_targets_in_the_outputs_shape_are_none() -> None:
    assert ids("target_shape", bench_of(mlp(4, 8, 1), law(), loss=nn.MSELoss())) == []


def test_a_loss_that_reshapes_by_itself_is_none() -> None:
    inputs, targets = law()

    def loss(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (outputs.squeeze(1) - wanted).square().mean()

    assert ids("target_shape", bench_of(mlp(4, 8, 1), (inputs, targets.squeeze(1)), loss=loss)) == []


def test_one_output_for_three_targets_is_one_output_too_few() -> None:
    inputs, _ = law()
    bench = bench_of(mlp(4, 8, 1), (inputs, inputs[:, :3]), loss=nn.MSELoss())
    (found,) = said("target_shape", bench)
    assert (found.id, found.evidence["num_targets"]) == ("wrong_num_outputs", 3)
    assert found.remedy.change is not None
    assert found.remedy.change(bench.setup).model(inputs).shape == (200, 3)


def test_shapes_that_broadcast_in_batches_of_one_size_only_are_a_mismatch() -> None:
    class Follows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.layer(inputs)
            return outputs

    inputs = torch.randn(96, 8, 1, generator=torch.Generator().manual_seed(0))
    train = inputs, inputs[:, :, 0] ** 2
    settings = {"loss": nn.SmoothL1Loss(), "batch_size": 8}
    (found,) = said("target_shape", bench_of(Follows(), train, **settings))
    assert (found.id, found.proof, found.evidence["outputs"]) == ("target_shape_mismatch", "certain", [8, 8, 1])
    assert ids("target_shape", bench_of(Follows(), (inputs, train[1].unsqueeze(-1)), **settings)) == []


def test_outputs_that_all_lie_on_one_side_of_their_targets_do_not_hide_the_pairing() -> None:
    # There absolute errors add up to the same, whichever target a row gets.
    layer = nn.Linear(4, 1)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, -50.0)
    inputs, targets = law()
    assert ids("target_shape", bench_of(layer, (inputs, targets[:, 0]), loss=nn.L1Loss())) == ["target_shape_mismatch"]
    assert ids("target_shape", bench_of(layer, (inputs, targets), loss=nn.L1Loss())) == []
