"""A wide branch beside a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stepwell.doctor.remedies.wider import MOST_INPUTS, wider
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup


def _setup(model: nn.Module, inputs: object) -> Setup:
    rows = Rows(inputs, torch.zeros(6), 6)
    return Setup(model, rows, None, nn.MSELoss(), {"name": "sgd", "lr": 0.1}, 4, 1)


def test_outputs_are_those_of_the_model_and_of_two_wide_layers_over_standardised_inputs() -> None:
    model, inputs = nn.Linear(2, 3), torch.tensor([[1.0, 5.0], [3.0, 5.0], [1.0, 5.0], [3.0, 5.0], [1.0, 5.0], [3.0, 5.0]])
    mended = wider(_setup(model, inputs)).model
    standard = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).repeat(3, 1)  # mean 2 and spread 1; a column that stays at 5
    torch.testing.assert_close(mended(inputs), model(inputs) + mended.branch(standard))
    assert [part.out_features for part in mended.branch if isinstance(part, nn.Linear)] == [128, 128, 3]


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.uint8])
def test_whole_numbers_are_taken_as_kinds(dtype: torch.dtype) -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, 1))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.float().sum(1, keepdim=True) * self.scale

    inputs = torch.tensor([[0, 1, 1], [1, 0, 1]] * 3).to(dtype)
    mended = wider(_setup(Sums(), inputs)).model
    assert mended.branch[0].in_features == 6  # three places, two kinds
    assert mended(inputs).shape == (6, 1)


def test_the_optimizer_holds_the_branch_too_and_the_given_model_is_as_it_was() -> None:
    model = nn.Linear(2, 1).eval()
    setup = _setup(model, torch.zeros(6, 2)).with_optimizer(params=[model.weight])
    (group,) = wider(setup).build_optimizer().param_groups
    assert len(group["params"]) == 2 + 6
    assert not model.training


def test_inputs_or_outputs_that_are_no_single_tensor_of_rows_are_refused() -> None:
    class Mean(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.mean()

    class First(nn.Module):
        def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
            return inputs[0]

    for model, inputs in ((Mean(), torch.zeros(6, 2)), (First(), (torch.zeros(6, 2), torch.zeros(6)))):
        with pytest.raises(ValueError, match="one tensor"):
            wider(_setup(model, inputs))
    with pytest.raises(ValueError, match="at most"):
        wider(_setup(nn.Identity(), torch.zeros(6, MOST_INPUTS + 1)))
