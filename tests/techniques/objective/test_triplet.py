"""Triplet loss: hand numbers, torch's own as oracle, one call of the model for all three."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.errors import DataError, JobError
from stepwell.techniques.objective.triplet import Triplet, triplet_losses


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(*values: float) -> Tensor:
    return torch.tensor([list(values)], dtype=torch.float64)


@pytest.mark.parametrize(
    ("positive", "negative", "loss"), [(0.5, 0.6, 0.2), (0.5, 0.9, 0.0), (0.5, 0.79, 0.01), (2.0, 1.0, 1.3), (0.4, 0.4, 0.3)]
)
def test_a_triplet_costs_what_it_costs_by_hand(positive: float, negative: float, loss: float) -> None:
    three = (row(0.0, 0.0), row(0.6, 0.8) * positive, row(-1.0, 0.0) * negative)
    batch = Batch(three)
    term = Triplet(margin=0.3).terms(three, batch)["triplet"]
    assert term.sum.item() == pytest.approx(loss, rel=1e-6, abs=1e-9)
    assert (term.unit, term.weight, Triplet().counts(batch)) == ("samples", 1.0, {"samples": 1})


@pytest.mark.parametrize("margin", [0.1, 0.3, 2.0])
def test_the_losses_are_torch_s(margin: float) -> None:
    three = [draws(20, 3, seed=seed) for seed in range(3)]
    expected = F.triplet_margin_loss(*three, margin=margin, p=2, eps=0.0, reduction="none")
    torch.testing.assert_close(triplet_losses(*three, margin=margin), expected, rtol=1e-9, atol=1e-12)


def test_three_equal_embeddings_cost_the_margin_and_have_a_finite_gradient() -> None:
    anchor = torch.ones(1, 3, requires_grad=True)
    loss = triplet_losses(anchor, torch.ones(1, 3), torch.ones(1, 3)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert anchor.grad is not None
    assert anchor.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_anchor_is_drawn_to_the_positive_and_driven_from_the_negative() -> None:
    anchor = torch.zeros(1, 2, requires_grad=True)
    triplet_losses(anchor, torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])).sum().backward()
    assert anchor.grad is not None
    torch.testing.assert_close(anchor.grad, torch.tensor([[-1.0, 1.0]]))


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_the_model_is_called_once_on_all_three_stacked(form: str) -> None:
    class Counting(nn.Module):
        sizes: tuple[int, ...] = ()

        def forward(self, inputs: Tensor) -> Tensor:
            self.sizes = (*self.sizes, len(inputs))
            return inputs * 2

    anchor, positive, negative = (draws(4, 2, seed=seed) for seed in range(3))
    forms: dict[str, Tree] = {
        "dict": {"negative": negative, "anchor": anchor, "positive": positive},
        "tuple": (anchor, positive, negative),
    }
    model = Counting()
    term = Triplet()(model, Batch(forms[form]))["triplet"]
    assert model.sizes == (12,)
    torch.testing.assert_close(term.sum, triplet_losses(2 * anchor, 2 * positive, 2 * negative).sum())


def test_a_model_that_takes_all_three_gets_them_as_they_are() -> None:
    class Own(nn.Module):
        def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return anchor, positive, 3 * negative

    three = [draws(4, 2, seed=seed) for seed in range(3)]
    term = Triplet(model_takes="all")(Own(), Batch(tuple(three)))["triplet"]
    torch.testing.assert_close(term.sum, triplet_losses(three[0], three[1], 3 * three[2]).sum())


def test_one_tensor_of_triplets_goes_to_the_model_as_it_is() -> None:
    triplets = draws(4, 3, 2)
    term = Triplet()(nn.Identity(), Batch(triplets))["triplet"]
    torch.testing.assert_close(term.sum, triplet_losses(*triplets.unbind(1)).sum())


def test_sample_weights_multiply_loss_and_count() -> None:
    three = tuple(draws(3, 2, seed=seed) for seed in range(3))
    batch = Batch(three, None, torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64))
    each = triplet_losses(*three, margin=5.0)
    torch.testing.assert_close(Triplet(margin=5.0).terms(three, batch)["triplet"].sum, each[0] + 2.5 * each[2])
    assert float(Triplet().counts(batch)["samples"]) == 3.5


@pytest.mark.parametrize("outputs", [torch.zeros(3, 2, 2), (torch.zeros(3, 2),) * 2, (torch.zeros(3, 2),) * 4])
def test_outputs_that_are_no_three_embeddings_are_refused(outputs: Any) -> None:
    with pytest.raises(DataError, match=r"^triplet got outputs"):
        Triplet().terms(outputs, Batch(torch.zeros(3, 2)))


def test_inputs_that_are_no_triplet_are_refused() -> None:
    with pytest.raises(DataError, match=r"^triplet got inputs in a tuple of 2; expected a dict of anchor, positive, negative"):
        Triplet().forward(nn.Identity(), Batch((torch.zeros(2, 4),) * 2))


@pytest.mark.parametrize("margin", [0.0, -1.0, math.inf, math.nan])
def test_a_margin_out_of_range_is_refused(margin: float) -> None:
    with pytest.raises(JobError, match=r"^triplet\.margin is"):
        Triplet(margin=margin)


def test_an_unknown_way_of_calling_is_refused_and_the_default_margin_is_three_tenths() -> None:
    with pytest.raises(JobError, match=r"^triplet\.model_takes is 'two'"):
        Triplet(model_takes="two")  # type: ignore[arg-type]
    assert Triplet() == Triplet(margin=0.3, model_takes="one")


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch((torch.zeros(0, 2),) * 3)
    assert Triplet().counts(batch) == {"samples": 0}
    assert Triplet()(nn.Identity(), batch)["triplet"].sum.item() == 0
