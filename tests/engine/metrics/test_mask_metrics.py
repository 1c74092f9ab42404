"""Pixel accuracy, mean IoU and Dice against scikit-learn, in every shape that masks come in."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.engine.metrics.masks import DiceScore, MeanIou, PixelAccuracy, pixels_of
from stepwell.engine.metrics.streaming import make_metrics

NAMES = ("pixel_accuracy", "mean_iou", "dice")


def measured(batches: list[tuple[torch.Tensor, Batch]]) -> list[float]:
    metrics = make_metrics(NAMES)
    for outputs, batch in batches:
        for metric in metrics.values():
            metric.update(outputs, batch)
    return [metrics[name].compute() for name in NAMES]


def drawn(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(classes)
    scores = torch.randn(7, classes if classes > 2 else 1, 5, 6, generator=draw)
    return scores, torch.randint(classes, (7, 5, 6), generator=draw)


def test_two_classes_are_measured_as_scikit_learn_does_over_batches_of_any_size() -> None:
    scores, masks = drawn(2)
    true, predicted = masks.flatten().numpy(), (scores > 0).long().flatten().numpy()
    expected = [accuracy_score(true, predicted), jaccard_score(true, predicted, average="macro"), f1_score(true, predicted)]
    for outputs in (scores, scores.squeeze(1), scores.movedim(1, -1)):
        parts = [(outputs[a:b], Batch(masks[a:b], masks[a:b])) for a, b in ((0, 2), (2, 7))]
        assert measured(parts) == pytest.approx(expected, rel=1e-12)
    assert measured([(scores, Batch(masks, masks.float()))]) == pytest.approx(expected, rel=1e-12)
    assert measured([(scores, Batch(masks, masks.unsqueeze(1)))]) == pytest.approx(expected, rel=1e-12)


def test_several_classes_are_averaged_classes_first_or_last() -> None:
    scores, masks = drawn(4)
    true, predicted = masks.flatten().numpy(), scores.argmax(1).flatten().numpy()
    expected = [accuracy_score(true, predicted)]
    expected += [jaccard_score(true, predicted, average="macro"), f1_score(true, predicted, average="macro")]
    for outputs in (scores, scores.movedim(1, -1)):
        assert measured([(outputs, Batch(masks, masks))]) == pytest.approx(expected, rel=1e-12)
    mass = torch.nn.functional.one_hot(masks, 4).movedim(-1, 1).float()
    assert measured([(scores, Batch(masks, mass))]) == pytest.approx(expected, rel=1e-12)


def test_ignored_pixels_count_nowhere_and_weights_count_by_sample() -> None:
    scores, masks = drawn(3)
    holes = masks.clone()
    holes[:, 0] = -100
    assert measured([(scores, Batch(masks, holes))]) == pytest.approx(
        measured([(scores[:, :, 1:], Batch(masks, masks[:, 1:]))]), rel=1e-12
    )
    weights = torch.tensor([2.0, 1, 0, 1, 1, 1, 1])
    twice = torch.tensor([0, 0, 1, 3, 4, 5, 6])
    assert measured([(scores, Batch(masks, masks, weights))]) == pytest.approx(
        measured([(scores[twice], Batch(masks, masks[twice]))]), rel=1e-12
    )


def test_a_class_that_nobody_has_is_left_out_and_no_pixels_give_nan() -> None:
    scores = torch.full((1, 3, 1, 2), -1.0)
    scores[:, 0] = 1.0
    masks = torch.tensor([[[0, 1]]])
    # Class 0: intersection 1, union 2. Class 1: 0 of 1. Class 2 is nowhere.
    assert measured([(scores, Batch(masks, masks))]) == [0.5, 0.25, pytest.approx((2 / 3 + 0) / 2)]
    assert all(math.isnan(metric.compute()) for metric in (PixelAccuracy(), MeanIou(), DiceScore()))


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5, 5), (2, 4, 4, 5)])
def test_outputs_that_are_no_masks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="masks are measured on outputs"):
        pixels_of(torch.zeros(shape), torch.zeros(2, 7, 7, dtype=torch.int64))
