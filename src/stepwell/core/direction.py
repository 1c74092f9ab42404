"""Which way a metric is better, and whether it has become so."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, Literal

from stepwell.core.check import require, require_one_of
from stepwell.core.errors import JobError, nearest
from stepwell.core.reports import EvalReport, StepReport, Stop

__all__ = [
    "Direction",
    "MetricObserver",
    "Mode",
    "checked_mode",
    "direction",
    "has_improved",
    "known_direction",
    "monitored",
    "require_patience",
]

Direction = Literal["min", "max"]
Mode = Literal["auto", "min", "max"]

_LOWER = {"loss", "error", "mae", "mse", "rmse", "mape", "nll", "deviance", "perplexity", "brier", "ece", "entropy", "cost"}
_HIGHER = {"accuracy", "precision", "recall", "sensitivity", "specificity", "auc", "auroc", "ap", "map", "f1", "fbeta", "r2"}
_HIGHER |= {"iou", "dice", "jaccard", "kappa", "mcc", "correlation", "pearson", "spearman", "ndcg", "bleu", "rouge", "reward"}


def known_direction(metric: str) -> Direction | None:
    """Whether a metric is better low ("min") or high ("max"), by the words of its name; None where they don't tell.

    >>> known_direction("val_loss"), known_direction("top5_accuracy"), known_direction("speed")
    ('min', 'max', None)
    """
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    return "min" if words & _LOWER else "max" if words & _HIGHER else None


def direction(metric: str, *, name: str = "monitor") -> Direction:
    """Whether a metric is better low ("min") or high ("max"), by the words of its name.

    Args:
        metric: "val_loss", "accuracy".
        name: the setting that holds it, for the message ("early_stopping.monitor").

    Raises:
        JobError: the name doesn't tell.

    >>> direction("error_rate"), direction("roc_auc")
    ('min', 'max')
    """
    known = known_direction(metric)
    if known is None:
        raise JobError(
            f"{name} is {metric!r}",
            expected="a metric whose good direction its name tells (loss, error, mae, ... low; accuracy, auc, r2, f1, ... high)",
            fix="Set mode: min where lower is better, mode: max where higher is",
        )
    return known


def checked_mode(mode: Mode, *, monitor: str, technique: str) -> Direction:
    """The direction that a technique's settings `mode` and `monitor` mean; "auto" tells by the monitor's name.

    Raises:
        JobError: another mode, or "auto" with a name that doesn't tell.

    >>> checked_mode("auto", monitor="accuracy", technique="plateau"), checked_mode("min", monitor="speed", technique="plateau")
    ('max', 'min')
    """
    fix = "Write 'min' where lower is better, 'max' where higher is"
    require_one_of(f"{technique}.mode", mode, ("auto", "min", "max"), fix)
    return direction(monitor, name=f"{technique}.monitor") if mode == "auto" else mode


def has_improved(
    value: float,
    best: float | None,
    *,
    mode: Direction,
    min_delta: float,
    threshold: Literal["relative", "absolute"] = "relative",
) -> bool:
    """Whether a value is better than the best so far by more than a margin. NaN never is.

    Args:
        value: the new value.
        best: the best so far, None before the first.
        mode: "min" where lower is better, "max" where higher is.
        min_delta: the margin, >= 0: as it is ("absolute") or times |best| ("relative").

    >>> has_improved(0.95, 1.0, mode="min", min_delta=0.1), has_improved(0.85, 1.0, mode="min", min_delta=0.1)
    (False, True)
    """
    if best is None:
        return value == value
    margin = min_delta * abs(best) if threshold == "relative" else min_delta
    return value < best - margin if mode == "min" else value > best + margin


class MetricObserver(ABC):
    """Base of stopping rules that judge one metric of the validation part.

    Args:
        settings: has `monitor` and `mode`.
        technique: the rule's id, for messages.

    Raises:
        JobError: "auto" with a name that doesn't tell.
    """

    watches: Literal["evaluations"] = "evaluations"

    def __init__(self, settings: Any, *, technique: str) -> None:
        self.settings, self.technique = settings, technique
        self.mode = checked_mode(settings.mode, monitor=settings.monitor, technique=technique)

    def __call__(self, report: StepReport | EvalReport) -> Stop | None:
        """Judge a validation report; others are left alone.

        Raises:
            JobError: the monitored metric isn't in the report.
        """
        value = monitored(report, self.settings.monitor, technique=self.technique)
        return None if value is None else self.judged(value)

    @abstractmethod
    def judged(self, value: float) -> Stop | None:
        """Whether an evaluation with this value of the metric ends the run."""


def require_patience(technique: str, patience: Any) -> None:
    """Refuse a number of evaluations in a row that is none.

    Raises:
        JobError: not a whole number of at least 1.
    """
    whole = isinstance(patience, int) and patience >= 1
    require(whole, f"{technique}.patience", patience, "a whole number of evaluations, at least 1", "Write e.g. 5")


def monitored(report: StepReport | EvalReport, monitor: str, *, technique: str) -> float | None:
    """The monitored metric of a report on the validation part; None for any other report.

    Raises:
        JobError: the metric isn't in the report.
    """
    if not isinstance(report, EvalReport) or report.split != "validation":
        return None
    if monitor not in report.metrics:
        fix = nearest(monitor, report.metrics)
        raise JobError(f"{technique}.monitor is {monitor!r}", expected="a metric that is evaluated", fix=fix)
    return report.metrics[monitor]
