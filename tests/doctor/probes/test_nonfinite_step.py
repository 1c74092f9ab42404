"""What became non-finite first."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, mlp, said
from torch import Tensor, nn


def test_weights_that_a_huge_rate_drives_to_overflow_are_the_networks() -> None:
    bench = bench_of(
        mlp(4, 8, 1), law(), loss=lambda outputs, targets: outputs.abs().mean(), optimizer={"name": "sgd", "lr": 1e38}
    )
    (found,) = said("nonfinite_step", bench)
    assert found.id == "exploding_gradient"
    assert found.evidence["step"] == bench.own.nonfinite
    assert found.evidence["outputs_finite"] is False
    assert found.evidence["last_loss"] == bench.own.losses[-2]


def test_a_logarithm_of_zero_is_the_losses_from_the_first_step_on() -> None:
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    (found,) = said("nonfinite_step", bench_of(model, law(), loss=lambda outputs, targets: (outputs.square()).log().mean()))
    assert found.id == "unstable_loss"
    assert found.evidence == {"step": 1, "outputs_finite": True, "largest_output": 0.0, "last_loss": None}


def test_a_root_below_zero_is_found_at_the_step_where_it_comes() -> None:
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.fill_(1.05)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean() + 0 * (outputs.mean()).sqrt()

    # Each step lowers the bias by the rate, 0.5: 1.05, 0.55, 0.05, -0.45 on rows of zeros.
    train = torch.zeros(64, 4), torch.zeros(64, 1)
    (found,) = said("nonfinite_step", bench_of(model, train, loss=loss, optimizer={"name": "sgd", "lr": 0.5}))
    assert (found.id, found.evidence["step"]) == ("unstable_loss", 4)


def test_a_finite_training_is_no_reason_to_speak() -> None:
    assert ids("nonfinite_step", bench_of(mlp(4, 8, 1), law(), loss=nn.MSELoss())) == []


def _root(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1).sqrt().mean()


def test_a_root_that_has_a_value_and_no_slope_is_the_losses() -> None:
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    bench = bench_of(model, (torch.zeros(64, 4), torch.zeros(64, 1)), loss=_root)
    (found,) = said("nonfinite_step", bench)
    assert (found.id, found.evidence) == ("unstable_loss", {"step": 1, "place": "loss"})


def test_a_root_within_the_model_is_the_networks() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)
            nn.init.zeros_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(inputs).square().sqrt()

    (found,) = said("nonfinite_step", bench_of(Rooted(), law(), loss=nn.MSELoss()))
    assert (found.id, found.evidence["place"]) == ("unstable_gradient", "layer.bias")
