"""Dice loss: hand numbers, a loop over pixels as oracle, every shape that masks come in."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.techniques import LabelSmoothing, Mixup
from stepwell.techniques.objective.dice import Dice, batch_dice_loss, dice_losses


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(*shape: int, num: int = 2, seed: int = 1) -> Tensor:
    return torch.randint(num, shape, generator=torch.Generator().manual_seed(seed))


def loop(probabilities: list[float], truth: list[float], smooth: float) -> float:
    """Of one mask, as the formula is read."""
    shared = sum(p * m for p, m in zip(probabilities, truth))
    return 1 - (2 * shared + smooth) / (sum(probabilities) + sum(truth) + smooth)


def per_sample(probabilities: Tensor, truth: Tensor, smooth: float = 1.0) -> list[float]:
    return [loop(p.flatten().tolist(), m.flatten().tolist(), smooth) for p, m in zip(probabilities, truth)]


def test_two_samples_worked_by_hand() -> None:
    # Sure scores. Sample 0: 2 of 3 found, 1 too many: 1 - (4 + 1) / (3 + 3 + 1). Sample 1: empty and left empty: 0.
    outputs = torch.tensor([[[99.0, 99.0, -99.0, 99.0]], [[-99.0] * 4]])
    batch = Batch(outputs, torch.tensor([[[1, 1, 1, 0]], [[0, 0, 0, 0]]]))
    term = Dice().terms(outputs, batch)["dice"]
    assert term.sum.item() == pytest.approx(2 / 7, rel=1e-6)
    assert (term.unit, term.weight, float(Dice().counts(batch)["samples"])) == ("samples", 1.0, 2.0)


def test_an_empty_mask_answered_with_one_pixel_costs_one_half_by_hand() -> None:
    outputs = torch.tensor([[[99.0, -99.0]]])
    batch = Batch(outputs, torch.zeros(1, 1, 2))
    assert Dice(smooth=1.0).terms(outputs, batch)["dice"].sum.item() == pytest.approx(0.5)
    assert Dice(smooth=3.0).terms(outputs, batch)["dice"].sum.item() == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shapes", [((4, 2, 3), (4, 2, 3)), ((4, 1, 2, 3), (4, 2, 3)), ((4, 1, 2, 3), (4, 1, 2, 3)), ((4, 6), (4, 6))]
)
def test_one_score_per_pixel_is_the_mean_of_a_loop_over_samples_in_every_shape_and_type(
    dtype: torch.dtype, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    outputs, truth = draws(*shapes[0]) * 2, masks(*shapes[1])
    batch = Batch(outputs, truth.to(dtype))
    loss = Dice().terms(outputs, batch)["dice"].sum / Dice().counts(batch)["samples"]
    expected = per_sample(outputs.sigmoid(), truth)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-12)


def test_soft_masks_are_taken_as_they_are() -> None:
    outputs, truth = draws(3, 2, 3), draws(3, 2, 3, seed=1).sigmoid()
    loss = Dice(smooth=0.5).terms(outputs, Batch(outputs, truth))["dice"].sum
    assert loss.item() == pytest.approx(sum(per_sample(outputs.sigmoid(), truth, 0.5)), rel=1e-12)


def several(outputs: Tensor, mass: Tensor) -> float:
    """Sum over samples of the mean over classes; mass (N, H, W, C)."""
    guess, total = outputs.softmax(1), 0.0
    for sample in range(len(outputs)):
        losses = [
            loop(guess[sample, k].flatten().tolist(), mass[sample, ..., k].flatten().tolist(), 1.0)
            for k in range(outputs.shape[1])
        ]
        total += sum(losses) / len(losses)
    return total


@pytest.mark.parametrize("form", ["numbers", "numbers with a 1", "classes first", "classes last"])
def test_several_classes_are_the_mean_of_a_loop_over_them(form: str) -> None:
    outputs, numbers = draws(3, 4, 2, 5), masks(3, 2, 5, num=4)
    mass = torch.nn.functional.one_hot(numbers, 4).double()
    forms = {
        "numbers": numbers,
        "numbers with a 1": numbers.unsqueeze(1),
        "classes first": mass.movedim(-1, 1),
        "classes last": mass,
    }
    batch = Batch(outputs, forms[form])
    assert Dice().terms(outputs, batch)["dice"].sum.item() == pytest.approx(several(outputs, mass), rel=1e-12)
    assert float(Dice().counts(batch)["samples"]) == 3


def test_sample_weights_multiply_loss_and_count() -> None:
    outputs, truth, weights = draws(3, 2, 2), masks(3, 2, 2), torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    batch = Batch(outputs, truth, weights)
    each = per_sample(outputs.sigmoid(), truth)
    assert Dice().terms(outputs, batch)["dice"].sum.item() == pytest.approx(each[0] + 2.5 * each[2], rel=1e-12)
    assert float(Dice().counts(batch)["samples"]) == 3.5
    soft = Batch(outputs, truth.double(), weights)
    assert float(Dice().counts(soft)["samples"]) == 3.5


def test_the_batch_form_takes_the_overlap_of_all_pixels_at_once() -> None:
    outputs, truth = draws(4, 2, 3), masks(4, 2, 3)
    made, batch = Dice(over="batch"), Batch(outputs, truth)
    loss = made.terms(outputs, batch)["dice"].sum / made.counts(batch)["samples"]
    assert loss.item() == pytest.approx(loop(outputs.sigmoid().flatten().tolist(), truth.flatten().tolist(), 1.0), rel=1e-12)


def test_the_batch_form_of_several_classes_with_weights_counts_a_sample_of_weight_two_twice() -> None:
    outputs, truth = draws(3, 3, 2, 2), masks(3, 2, 2, num=3)
    made = Dice(over="batch")
    weighted = Batch(outputs, truth, torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    repeated = torch.tensor([0, 1, 1])
    plain = Batch(outputs[repeated], truth[repeated])
    torch.testing.assert_close(made.terms(outputs, weighted)["dice"].sum, made.terms(outputs[repeated], plain)["dice"].sum)
    assert float(made.counts(weighted)["samples"]) == 3


def test_only_the_form_over_samples_can_be_cut() -> None:
    assert Dice().decomposable
    assert not Dice(over="batch").decomposable
    # A modifier around it must say so too.
    assert not LabelSmoothing(epsilon=0.1)(Dice(over="batch")).decomposable


def test_terms_and_counts_of_a_batch_are_those_of_its_parts() -> None:
    batch = Batch(draws(13, 2, 3), masks(13, 2, 3), draws(13, seed=2).abs())
    parts = batch.split([5, 7, 1])
    total = sum(Dice().terms(part.inputs, part)["dice"].sum for part in parts)
    torch.testing.assert_close(total, Dice().terms(batch.inputs, batch)["dice"].sum, rtol=1e-12, atol=0)
    counted = sum(float(Dice().counts(part)["samples"]) for part in parts)
    assert counted == pytest.approx(float(Dice().counts(batch)["samples"]), rel=1e-12)


@pytest.mark.parametrize("num", [2, 3])
def test_ignored_pixels_are_as_if_they_were_not_there(num: int) -> None:
    # A mask of one row whose last two pixels are ignored, against the same mask without them.
    shape = (2, 1, 1, 5) if num == 2 else (2, num, 1, 5)
    outputs, truth = draws(*shape).requires_grad_(), masks(2, 1, 5, num=num)
    truth[..., 3:] = 255
    made = Dice(ignore_index=255)
    term = made.terms(outputs, Batch(outputs, truth))["dice"]
    short = Dice().terms(outputs[..., :3], Batch(outputs, truth[..., :3]))["dice"]
    torch.testing.assert_close(term.sum, short.sum)
    term.sum.backward()
    assert outputs.grad is not None
    assert outputs.grad[..., 3:].abs().max() == 0
    assert outputs.grad[..., :3].abs().min() > 0


def test_a_sample_without_a_pixel_that_counts_is_no_sample() -> None:
    truth = masks(3, 2, 2)
    truth[1] = -100
    outputs, weights = draws(3, 2, 2), torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    assert float(Dice().counts(Batch(outputs, truth))["samples"]) == 2
    assert float(Dice().counts(Batch(outputs, truth, weights))["samples"]) == 3
    kept = [0, 2]
    torch.testing.assert_close(
        Dice().terms(outputs, Batch(outputs, truth))["dice"].sum,
        Dice().terms(outputs[kept], Batch(outputs[kept], truth[kept]))["dice"].sum,
    )


def test_masks_mixed_as_class_numbers_are_the_mixed_masks() -> None:
    from stepwell.core.randomness import Rng

    outputs, truth = draws(8, 1, 2, 3), masks(8, 2, 3)
    numbers, floats = Batch(outputs, truth), Batch(outputs, truth.double())
    by_class = Mixup(alpha=1.0, num_classes=2)(numbers, Rng(3))
    by_value = Mixup(alpha=1.0)(floats, Rng(3))
    assert by_class.targets.shape == (8, 2, 3, 2)
    torch.testing.assert_close(
        Dice().terms(outputs, by_class)["dice"].sum, Dice().terms(outputs, by_value)["dice"].sum, rtol=1e-6, atol=0
    )
    assert float(Dice().counts(by_class)["samples"]) == 8


@pytest.mark.parametrize(
    ("outputs", "truth"),
    [
        ((4, 2, 3), torch.zeros(4, 3, 2)),
        ((4, 2, 3), torch.zeros(4, 1)),
        ((4, 2, 3), torch.zeros(4, 2, 3, 3)),
        ((4,), torch.zeros(4)),
        ((4, 1, 2, 3, 2), torch.zeros(4, 1, 2, 3, 2)),
        ((4, 3, 2, 5), torch.zeros(4, 2, 5)),
        ((4, 3, 2, 5), torch.zeros(4, 5, 2, dtype=torch.int64)),
        ((4, 3, 2, 5), torch.zeros(4, 2, 5, dtype=torch.bool)),
        ((4, 3, 2, 5), torch.zeros(4, 2, 2, 5)),
        ((4, 3, 3, 3), torch.zeros(4, 3, 3, 3)),
        ((4, 3, 2, 5), torch.zeros(4, 3, 2, 5, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_fit_or_can_be_read_in_two_ways_are_refused(outputs: tuple[int, ...], truth: Tensor) -> None:
    with pytest.raises(DataError, match=r"^dice got outputs"):
        Dice().terms(torch.zeros(outputs), Batch(torch.zeros(4), truth))


@pytest.mark.parametrize("value", [2, 255, -1])
def test_a_binary_mask_of_other_numbers_is_refused(value: int) -> None:
    truth = torch.tensor([[[0, 1, value]]])
    with pytest.raises(DataError, match=rf"^dice got a mask with the value {value}"):
        Dice().terms(torch.zeros(1, 1, 3), Batch(torch.zeros(1), truth))


def test_a_class_number_out_of_range_is_refused() -> None:
    with pytest.raises(DataError, match=r"not one of the 3 classes"):
        Dice().terms(torch.zeros(1, 3, 1, 2), Batch(torch.zeros(1), torch.tensor([[[0, 3]]])))


def test_missing_masks_are_refused() -> None:
    with pytest.raises(DataError, match=r"^dice got a batch that has no targets"):
        Dice().terms(torch.zeros(1, 1, 3), Batch(torch.zeros(1)))


@pytest.mark.parametrize("smooth", [0.0, -1.0, math.inf, math.nan])
def test_a_smooth_out_of_range_is_refused(smooth: float) -> None:
    with pytest.raises(JobError, match=r"^dice\.smooth is"):
        Dice(smooth=smooth)


def test_an_unknown_reach_is_refused_and_the_defaults_are_the_usual_ones() -> None:
    with pytest.raises(JobError, match=r"^dice\.over is 'epoch'"):
        Dice(over="epoch")  # type: ignore[arg-type]
    assert Dice() == Dice(smooth=1.0, over="sample", ignore_index=-100)


@pytest.mark.parametrize("truth", [torch.zeros(0, 2, 2), torch.zeros(0, 2, 2, dtype=torch.int64)])
@pytest.mark.parametrize("over", ["sample", "batch"])
def test_an_empty_batch_counts_nothing_and_costs_nothing(truth: Tensor, over: str) -> None:
    batch = Batch(torch.zeros(0, 2, 2), truth)
    made = Dice(over=over)  # type: ignore[arg-type]
    assert float(made.counts(batch)["samples"]) == 0
    assert made.terms(torch.zeros(0, 2, 2), batch)["dice"].sum.item() == 0


def test_the_functions_take_pixels_in_any_shape() -> None:
    logits, truth = draws(3, 2, 4, 5), draws(3, 2, 4, 5, seed=1).softmax(1)
    torch.testing.assert_close(dice_losses(logits, truth), dice_losses(logits.flatten(2), truth.flatten(2)))
    torch.testing.assert_close(batch_dice_loss(logits, truth), batch_dice_loss(logits.flatten(2), truth.flatten(2)))
    torch.testing.assert_close(batch_dice_loss(logits[:1], truth[:1]), dice_losses(logits[:1], truth[:1])[0])
