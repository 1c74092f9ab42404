"""Contrastive loss: hand numbers, torch's distance as oracle, one call of the model for both sides of a pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError, JobError
from stepwell.techniques.objective.contrastive import Contrastive, contrastive_losses


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Counting(nn.Module):
    """A linear embedding with batch norm that records how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)).double()
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        made: Tensor = self.layers(inputs)
        return made


@pytest.mark.parametrize(
    ("distance", "same", "loss"),
    [
        (0.5, 1.0, 0.25),
        (0.5, 0.0, 0.25),
        (0.2, 0.0, 0.64),
        (3.0, 1.0, 9.0),
        (3.0, 0.0, 0.0),
        (0.2, 0.75, 0.75 * 0.04 + 0.25 * 0.64),
    ],
)
def test_a_pair_at_a_distance_costs_what_it_costs_by_hand(distance: float, same: float, loss: float) -> None:
    left, right = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.6, 0.8]], dtype=torch.float64) * distance
    batch = Batch((left, right), torch.tensor([same]))
    term = Contrastive(margin=1.0).terms((left, right), batch)["contrastive"]
    assert term.sum.item() == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert (term.unit, term.weight, Contrastive().counts(batch)) == ("samples", 1.0, {"samples": 1})


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_the_losses_are_those_of_torch_s_distance_put_into_the_formula(margin: float) -> None:
    left, right, same = draws(9, 3), draws(9, 3, seed=1), torch.tensor([1, 0, 0, 1, 0, 0, 0, 1, 0])
    distance = F.pairwise_distance(left, right, eps=0.0)
    expected = torch.where(same == 1, distance**2, F.relu(margin - distance) ** 2)
    torch.testing.assert_close(contrastive_losses(left, right, same.double(), margin=margin), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_two_equal_embeddings_have_a_finite_gradient(same: float) -> None:
    left = torch.ones(1, 3, requires_grad=True)
    contrastive_losses(left, torch.ones(1, 3), torch.tensor([same])).sum().backward()
    assert left.grad is not None
    assert left.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_like_pairs_are_pulled_together_and_unlike_ones_pushed_apart() -> None:
    left = torch.zeros(2, 1, requires_grad=True)
    contrastive_losses(left, torch.full((2, 1), 0.5), torch.tensor([1.0, 0.0])).sum().backward()
    assert left.grad is not None
    # d^2 has slope -2 * 0.5 towards the right one; (1 - d)^2 pushes with 2 * 0.5.
    torch.testing.assert_close(left.grad, torch.tensor([[-1.0], [1.0]]))


@pytest.mark.parametrize("form", ["dict", "tuple", "list"])
def test_the_model_is_called_once_on_both_sides_stacked(form: str) -> None:
    left, right, model = draws(3, 4), draws(3, 4, seed=1), Counting()
    forms: dict[str, Tree] = {"dict": {"right": right, "left": left}, "tuple": (left, right), "list": [left, right]}
    batch = Batch(forms[form], torch.tensor([1, 0, 1]))
    term = Contrastive()(model, batch)["contrastive"]
    assert model.sizes == [6]
    # Batch norm sees all six: the same as embedding them together.
    both = model(torch.cat([left, right]))
    expected = Contrastive().terms((both[:3], both[3:]), batch)["contrastive"]
    torch.testing.assert_close(term.sum, expected.sum)


def test_a_member_may_be_a_tree_of_several_inputs() -> None:
    class Sum(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first + second

    left, right = (
        {"first": draws(3, 2), "second": draws(3, 2, seed=1)},
        {"first": draws(3, 2, seed=2), "second": draws(3, 2, seed=3)},
    )
    outputs = Contrastive().forward(Sum(), Batch((left, right), torch.ones(3)))
    torch.testing.assert_close(outputs[0], left["first"] + left["second"])
    torch.testing.assert_close(outputs[1], right["first"] + right["second"])


def test_a_model_that_takes_both_gets_them_as_they_are() -> None:
    class Towers(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return torch.stack([left, 2 * right], dim=1)

    left, right, same = draws(3, 2), draws(3, 2, seed=1), torch.tensor([1, 0, 1])
    made = Contrastive(model_takes="all")
    for inputs in ({"left": left, "right": right}, (left, right)):
        term = made(Towers(), Batch(inputs, same))["contrastive"]
        torch.testing.assert_close(term.sum, contrastive_losses(left, 2 * right, same.double()).sum())


def test_one_tensor_of_pairs_goes_to_the_model_as_it_is() -> None:
    pairs, same = draws(3, 2, 4), torch.tensor([1, 0, 1])
    term = Contrastive()(nn.Identity(), Batch(pairs, same))["contrastive"]
    torch.testing.assert_close(term.sum, contrastive_losses(pairs[:, 0], pairs[:, 1], same.double()).sum())


def test_sample_weights_multiply_loss_and_count() -> None:
    left, right, same = draws(3, 2), draws(3, 2, seed=1), torch.tensor([1.0, 0.0, 1.0])
    batch = Batch((left, right), same, torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64))
    each = contrastive_losses(left, right, same.double())
    torch.testing.assert_close(Contrastive().terms((left, right), batch)["contrastive"].sum, each[0] + 2.5 * each[2])
    assert float(Contrastive().counts(batch)["samples"]) == 3.5


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_targets_may_be_a_column_of_any_type(dtype: torch.dtype) -> None:
    left, right, same = draws(3, 2), draws(3, 2, seed=1), torch.tensor([1, 0, 1])
    plain = Contrastive().terms((left, right), Batch((left, right), same))["contrastive"].sum
    column = Contrastive().terms((left, right), Batch((left, right), same.to(dtype).unsqueeze(1)))["contrastive"].sum
    assert torch.equal(plain, column)


@pytest.mark.parametrize("shape", [(2,), (3, 2), (4,), ()])
def test_another_number_of_targets_than_pairs_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^contrastive got 3 pairs and targets"):
        Contrastive().terms((draws(3, 2), draws(3, 2)), Batch((draws(3, 2), draws(3, 2)), torch.zeros(shape)))


@pytest.mark.parametrize(
    "outputs",
    [torch.zeros(3, 2), torch.zeros(3, 3, 2), (torch.zeros(3, 2),), (torch.zeros(3, 2), torch.zeros(3, 3)), [torch.zeros(3)] * 2],
)
def test_outputs_that_are_no_pair_of_embeddings_are_refused(outputs: Any) -> None:
    with pytest.raises(DataError, match=r"^contrastive got outputs"):
        Contrastive().terms(outputs, Batch(torch.zeros(3, 2), torch.zeros(3)))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}, "a dict of a, b"),
        ({"left": torch.zeros(2, 4)}, "a dict of left"),
        ((torch.zeros(2, 4),) * 3, "a tuple of 3"),
        ([torch.zeros(2, 4)], "a list of 1"),
    ],
)
def test_inputs_that_are_no_pair_are_refused(inputs: Tree, said: str) -> None:
    with pytest.raises(DataError, match=rf"^contrastive got inputs in {said}; expected a dict of left, right") as raised:
        Contrastive().forward(nn.Identity(), Batch(inputs, torch.zeros(2)))
    assert "contrastive.model_takes: all" in raised.value.fix


def test_sides_of_different_lengths_are_refused() -> None:
    batch = Batch((torch.zeros(2, 4), torch.zeros(2, 5)), torch.zeros(2))
    with pytest.raises(DataError, match=r"^contrastive got members of different shapes: left \(2, 4\), right \(2, 5\)"):
        Contrastive().forward(nn.Identity(), batch)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.inf, math.nan])
def test_a_margin_out_of_range_is_refused(margin: float) -> None:
    with pytest.raises(JobError, match=r"^contrastive\.margin is"):
        Contrastive(margin=margin)


def test_an_unknown_way_of_calling_is_refused_and_the_default_margin_is_one() -> None:
    with pytest.raises(JobError, match=r"^contrastive\.model_takes is 'two'"):
        Contrastive(model_takes="two")  # type: ignore[arg-type]
    assert Contrastive() == Contrastive(margin=1.0, model_takes="one")
    assert contrastive_losses(torch.zeros(1, 1), torch.tensor([[0.25]]), torch.zeros(1)).item() == pytest.approx(0.5625)


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    empty = torch.zeros(0, 2)
    batch = Batch((empty, empty), torch.zeros(0))
    assert Contrastive().counts(batch) == {"samples": 0}
    assert Contrastive()(nn.Identity(), batch)["contrastive"].sum.item() == 0


def test_terms_and_counts_of_a_batch_are_those_of_its_parts() -> None:
    batch = Batch({"left": draws(13, 2), "right": draws(13, 2, seed=1)}, torch.arange(13) % 2, draws(13, seed=2).abs())
    made, parts, model = Contrastive(), batch.split([5, 7, 1]), nn.Identity()
    assert made.decomposable
    whole = made(model, batch)["contrastive"].sum
    torch.testing.assert_close(sum(made(model, part)["contrastive"].sum for part in parts), whole, rtol=1e-12, atol=0)
