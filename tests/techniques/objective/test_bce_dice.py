"""Cross-entropy plus Dice: hand numbers, torch's losses of pixels and the Dice technique as oracles."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.slots import Objective
from stepwell.techniques import Dice, Mixup
from stepwell.techniques.objective.bce_dice import BceDice


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(*shape: int, num: int = 2, seed: int = 1) -> Tensor:
    return torch.randint(num, shape, generator=torch.Generator().manual_seed(seed))


def loss(objective: Objective, outputs: Tensor, batch: Batch) -> float:
    counts = objective.counts(batch)
    return sum(term.weight * float(term.sum) / float(counts[term.unit]) for term in objective.terms(outputs, batch).values())


def test_one_mask_worked_by_hand() -> None:
    # Scores 0: p = 1/2 everywhere. Cross-entropy log 2 a pixel; Dice 1 - (2 * 1/2 + 1) / (1 + 1 + 1) = 1/3.
    outputs, batch = torch.zeros(1, 1, 2), Batch(torch.zeros(1), torch.tensor([[[1, 0]]]))
    terms = BceDice().terms(outputs, batch)
    assert [(name, term.unit, term.weight) for name, term in terms.items()] == [("bce", "pixels", 0.5), ("dice", "samples", 0.5)]
    assert terms["bce"].sum.item() == pytest.approx(2 * math.log(2), rel=1e-6)
    assert terms["dice"].sum.item() == pytest.approx(1 / 3, rel=1e-6)
    assert {unit: float(count) for unit, count in BceDice().counts(batch).items()} == {"samples": 1.0, "pixels": 2.0}


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["integers", "floats"])
def test_one_score_per_pixel_is_the_weighted_sum_of_torch_s_mean_and_the_mean_dice(weight: float, kind: str) -> None:
    outputs, truth = draws(4, 1, 2, 3), masks(4, 2, 3)
    batch = Batch(outputs, truth if kind == "integers" else truth.double())
    pixels = F.binary_cross_entropy_with_logits(outputs.squeeze(1), truth.double()).item()
    expected = weight * pixels + (1 - weight) * loss(Dice(), outputs, batch)
    assert loss(BceDice(weight=weight), outputs, batch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["numbers", "classes first", "classes last"])
def test_several_classes_are_the_weighted_sum_of_torch_s_cross_entropy_and_the_mean_dice(form: str) -> None:
    outputs, numbers = draws(4, 3, 2, 5), masks(4, 2, 5, num=3)
    mass = F.one_hot(numbers, 3).double()
    batch = Batch(outputs, {"numbers": numbers, "classes first": mass.movedim(-1, 1), "classes last": mass}[form])
    expected = 0.3 * F.cross_entropy(outputs, numbers).item() + 0.7 * loss(Dice(), outputs, batch)
    assert loss(BceDice(weight=0.3), outputs, batch) == pytest.approx(expected, rel=1e-12)
    assert list(BceDice().terms(outputs, batch)) == ["cross_entropy", "dice"]


def test_smooth_reaches_the_overlap() -> None:
    outputs, batch = torch.zeros(1, 1, 2), Batch(torch.zeros(1), torch.tensor([[[1, 0]]]))
    assert BceDice(smooth=3.0).terms(outputs, batch)["dice"].sum.item() == pytest.approx(1 - 4 / 5, rel=1e-6)


def test_ignored_pixels_are_in_neither_sum_nor_count() -> None:
    numbers = masks(2, 2, 3, num=3)
    numbers[0, 0] = 9
    outputs = draws(2, 3, 2, 3)
    made, batch = BceDice(ignore_index=9), Batch(outputs, numbers)
    expected = F.cross_entropy(outputs, numbers, ignore_index=9, reduction="sum")
    torch.testing.assert_close(made.terms(outputs, batch)["cross_entropy"].sum, expected)
    assert {unit: float(count) for unit, count in made.counts(batch).items()} == {"samples": 2.0, "pixels": 9.0}
    single = masks(2, 2, 3)
    single[0, 0] = 9
    kept = single != 9
    plain = F.binary_cross_entropy_with_logits(outputs[:, 0][kept], single[kept].double(), reduction="sum")
    torch.testing.assert_close(made.terms(outputs[:, 0], Batch(outputs, single))["bce"].sum, plain)


def test_sample_weights_multiply_both_sums_and_both_counts() -> None:
    outputs, truth, weights = draws(3, 2, 2), masks(3, 2, 2), torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    batch, made = Batch(outputs, truth, weights), BceDice()
    alone = [made.terms(outputs[[i]], Batch(outputs[[i]], truth[[i]])) for i in range(3)]
    for name, term in made.terms(outputs, batch).items():
        torch.testing.assert_close(term.sum, alone[0][name].sum + 2.5 * alone[2][name].sum)
    assert {unit: float(count) for unit, count in made.counts(batch).items()} == {"samples": 3.5, "pixels": 14.0}
    soft = made.counts(Batch(outputs, truth.double(), weights))
    assert {unit: float(count) for unit, count in soft.items()} == {"samples": 3.5, "pixels": 14.0}
    mass = F.one_hot(truth, 2).double()
    mixed = made.counts(Batch(outputs, mass, weights))
    assert {unit: float(count) for unit, count in mixed.items()} == {"samples": 3.5, "pixels": 14.0}


def test_masks_mixed_as_class_numbers_are_the_mixed_masks() -> None:
    from stepwell.core.randomness import Rng

    outputs, truth = draws(8, 1, 2, 3), masks(8, 2, 3)
    by_class = Mixup(alpha=1.0, num_classes=2)(Batch(outputs, truth), Rng(3))
    by_value = Mixup(alpha=1.0)(Batch(outputs, truth.double()), Rng(3))
    assert loss(BceDice(), outputs, by_class) == pytest.approx(loss(BceDice(), outputs, by_value), rel=1e-6)


def test_terms_and_counts_of_a_batch_are_those_of_its_parts() -> None:
    batch = Batch(draws(13, 3, 2, 3), masks(13, 2, 3, num=3), draws(13, seed=2).abs())
    made, parts = BceDice(), batch.split([5, 7, 1])
    assert made.decomposable
    for name, term in made.terms(batch.inputs, batch).items():
        torch.testing.assert_close(sum(made.terms(part.inputs, part)[name].sum for part in parts), term.sum, rtol=1e-12, atol=0)
    for unit, count in made.counts(batch).items():
        assert sum(float(made.counts(part)[unit]) for part in parts) == pytest.approx(float(count), rel=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"^bce_dice got outputs"):
        BceDice().terms(torch.zeros(4, 2, 3), Batch(torch.zeros(4), torch.zeros(4, 3, 2)))


@pytest.mark.parametrize("weight", [-0.01, 1.01, math.nan])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(JobError, match=r"^bce_dice\.weight is"):
        BceDice(weight=weight)


@pytest.mark.parametrize("smooth", [0.0, -1.0, math.inf, math.nan])
def test_a_smooth_out_of_range_is_refused(smooth: float) -> None:
    with pytest.raises(JobError, match=r"^bce_dice\.smooth is"):
        BceDice(smooth=smooth)


def test_the_defaults_are_one_half_and_a_smooth_of_one() -> None:
    assert BceDice() == BceDice(weight=0.5, smooth=1.0, ignore_index=-100)


def test_an_empty_batch_counts_nothing_and_costs_nothing() -> None:
    batch = Batch(torch.zeros(0, 2, 2), torch.zeros(0, 2, 2))
    assert BceDice().counts(batch) == {"samples": 0, "pixels": 0}
    assert [term.sum.item() for term in BceDice().terms(torch.zeros(0, 2, 2), batch).values()] == [0, 0]
