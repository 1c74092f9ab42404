"""Cross-entropies of real numbers."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, mlp, noise, said
from torch import Tensor, nn


def test_a_cross_entropy_over_the_rows_of_a_batch_is_the_wrong_loss() -> None:
    inputs, targets = law()
    for outputs in (1, 3):
        wanted = targets if outputs == 1 else torch.cat([targets, -targets, 2 * targets], 1)
        (found,) = said("entropy_of_quantities", bench_of(mlp(4, 8, outputs), (inputs, wanted), loss=nn.CrossEntropyLoss()))
        assert (found.id, found.proof) == ("wrong_loss", "certain")
        assert found.remedy.change is not None
        assert isinstance(found.remedy.change(bench_of(mlp(4, 8, 1), law()).setup).loss, nn.MSELoss)


def test_a_model_and_targets_without_columns_are_asked_too() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(4, 8, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.layers(inputs).squeeze(1)
            return outputs

    inputs, targets = law()
    assert ids("entropy_of_quantities", bench_of(Flat(), (inputs, targets.squeeze(1)))) == ["wrong_loss"]
    assert ids("entropy_of_quantities", bench_of(Flat(), (inputs, targets.squeeze(1)), loss=nn.MSELoss())) == []


def test_losses_of_quantities_and_shares_of_classes_are_healthy() -> None:
    assert ids("entropy_of_quantities", bench_of(mlp(4, 8, 1), law(), loss=nn.L1Loss())) == []
    shares = noise(200, 3).softmax(1)
    assert ids("entropy_of_quantities", bench_of(mlp(4, 8, 3), (noise(200, 4), shares))) == []


def test_a_loss_that_has_no_value_for_some_outputs_is_no_cross_entropy() -> None:
    inputs, targets = law()
    loss = nn.PoissonNLLLoss(log_input=False, eps=0.0)
    assert ids("entropy_of_quantities", bench_of(mlp(4, 8, 1), (inputs, targets.exp()), loss=loss)) == []
