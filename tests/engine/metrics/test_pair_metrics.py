"""Metrics of pairs and triplets by hand and against scikit-learn; weights in every metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score, roc_auc_score, root_mean_squared_error

from stepwell.core.batch import Batch
from stepwell.engine.metrics.base import area_under_curve
from stepwell.engine.metrics.streaming import make_metrics

DRAW = np.random.default_rng(0)
WEIGHTS = torch.from_numpy(DRAW.random(60))


def value(name: str, outputs: object, batch: Batch, **settings: object) -> float:
    [metric] = make_metrics((name,), **settings).values()  # type: ignore[arg-type]
    for start, stop in ((0, 25), (25, 60)):
        cut = outputs[start:stop] if isinstance(outputs, torch.Tensor) else tuple(part[start:stop] for part in outputs)  # type: ignore[union-attr]
        metric.update(cut, batch.part(start, stop))
    return metric.compute()


def test_the_area_under_the_curve_is_scikit_learn_s_with_ties_and_weights() -> None:
    scores = torch.from_numpy(DRAW.integers(0, 8, 60).astype("float64"))
    targets = torch.from_numpy(DRAW.integers(0, 2, 60))
    for weights in (None, WEIGHTS):
        expected = roc_auc_score(targets, scores, sample_weight=weights)
        assert area_under_curve(scores, targets, weights) == pytest.approx(expected, rel=1e-12)
        assert value("auc", scores, Batch(scores, targets, weights)) == pytest.approx(expected, rel=1e-12)


def test_accuracy_counts_a_sample_as_much_as_its_weight() -> None:
    scores, targets = torch.from_numpy(DRAW.normal(size=(60, 4))), torch.from_numpy(DRAW.integers(0, 4, 60))
    expected = accuracy_score(targets, scores.argmax(1), sample_weight=WEIGHTS)
    assert value("accuracy", scores, Batch(scores, targets, WEIGHTS)) == pytest.approx(expected, rel=1e-12)


def test_errors_of_several_columns_are_scikit_learn_s_averages_in_each_column_s_units() -> None:
    outputs, targets = (torch.from_numpy(DRAW.normal(size=(60, 2))) for _ in range(2))
    scale = np.array([10.0, 0.5])
    for weights in (None, WEIGHTS):
        batch, pair = Batch(outputs, targets, weights), (targets.numpy() * scale, outputs.numpy() * scale)
        given = {"target_scale": (10.0, 0.5)}
        assert value("mae", outputs, batch, **given) == pytest.approx(mean_absolute_error(*pair, sample_weight=weights))
        assert value("r2", outputs, batch) == pytest.approx(r2_score(*pair, sample_weight=weights))
        squares = root_mean_squared_error(*pair, sample_weight=weights, multioutput="raw_values") ** 2
        assert value("rmse", outputs, batch, **given) == pytest.approx(math.sqrt(squares.mean()))


def test_a_metric_of_a_task_reads_that_task_s_outputs_and_scale() -> None:
    [metric] = make_metrics(("price.mae",), target_scale={"price": 4.0}).values()
    batch = Batch(torch.zeros(2), {"price": torch.tensor([1.0, 2.0]), "sold": torch.zeros(2)}, torch.tensor([3.0, 1.0]))
    metric.update({"price": torch.tensor([1.0, 4.0]), "sold": torch.zeros(2)}, batch)
    assert metric.compute() == 4.0 * 2.0 / 4.0


def test_the_best_threshold_tells_pairs_apart_as_an_exhaustive_search_finds() -> None:
    far = torch.from_numpy(DRAW.integers(1, 9, 60).astype("float64"))
    same = torch.from_numpy(DRAW.integers(0, 2, 60))
    outputs = (torch.zeros(60, 1, dtype=torch.float64), far[:, None])
    thresholds = [0.5 + k for k in range(10)]
    best = max(float((((far < t) == (same == 1)) * WEIGHTS).sum() / WEIGHTS.sum()) for t in thresholds)
    assert value("pair_accuracy", outputs, Batch(far, same, WEIGHTS)) == pytest.approx(best, rel=1e-9)
    expected = roc_auc_score(same, -far, sample_weight=WEIGHTS)
    assert value("pair_auc", outputs, Batch(far, same, WEIGHTS)) == pytest.approx(expected, rel=1e-9)


def test_pairs_of_one_kind_only_have_no_area() -> None:
    [metric] = make_metrics(("pair_auc",)).values()
    metric.update((torch.zeros(2, 1), torch.ones(2, 1)), Batch(torch.zeros(2), torch.ones(2)))
    assert math.isnan(metric.compute())


def test_triplets_count_when_the_anchor_is_nearer_to_its_own_kind() -> None:
    [metric] = make_metrics(("triplet_accuracy",)).values()
    anchor, positive = torch.zeros(3, 2), torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    negative = torch.tensor([[2.0, 0.0], [0.5, 0.0], [1.0, 0.0]])  # the last one is as far: not nearer
    metric.update((anchor, positive, negative), Batch(anchor, None, torch.tensor([3.0, 1.0, 1.0])))
    assert metric.compute() == pytest.approx(0.6)
    assert math.isnan(make_metrics(("triplet_accuracy",))["triplet_accuracy"].compute())
