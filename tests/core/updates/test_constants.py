"""Numbers as tensors: made once, for each device and dtype, and good for training whoever asked first."""

from __future__ import annotations

import torch

from stepwell.core.updates.constants import numbers_like


def test_the_same_numbers_are_one_tensor_for_each_dtype() -> None:
    single, double = torch.zeros(3), torch.zeros(3, dtype=torch.float64)
    assert numbers_like([1.0, 2.0], single) is numbers_like((1.0, 2.0), single)
    assert numbers_like([1.0, 2.0], double).dtype == torch.float64
    assert numbers_like([1.0, 2.0], single).tolist() == [1.0, 2.0]
    assert numbers_like([1.0, 3.0], single).tolist() == [1.0, 3.0]


def test_one_number_is_a_scalar_and_a_list_of_one_is_not() -> None:
    assert numbers_like(0.25, torch.zeros(3)).shape == ()
    assert numbers_like([0.25], torch.zeros(3)).shape == (1,)


def test_numbers_first_asked_for_in_inference_mode_can_be_trained_with() -> None:
    with torch.inference_mode():
        numbers_like([0.125, 8.0], torch.zeros(2))
    outputs = torch.ones(2, requires_grad=True)
    (outputs * numbers_like([0.125, 8.0], outputs)).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [0.125, 8.0]
