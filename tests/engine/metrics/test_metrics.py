"""Which way the metrics of the engine are better."""

from __future__ import annotations

from stepwell.engine.metrics.streaming import METRICS, metric_mode


def test_the_best_accuracy_auc_and_r2_is_the_highest_and_the_best_error_the_lowest() -> None:
    higher = {"accuracy", "auc", "r2", "pixel_accuracy", "mean_iou", "dice", "pair_auc", "pair_accuracy", "triplet_accuracy"}
    assert {name: metric_mode(name) for name in METRICS} == {name: "max" if name in higher else "min" for name in METRICS}
    assert metric_mode("loss") == metric_mode("perplexity") == "min"


def test_a_metric_whose_name_says_nothing_is_taken_as_better_when_low() -> None:
    assert metric_mode("throughput") == "min"
