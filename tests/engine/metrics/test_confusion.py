"""Confusion matrices against scikit-learn, and their place in the result of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.engine.metrics.confusion import MOST_CLASSES, ConfusionMatrix
from stepwell.engine.metrics.streaming import Accuracy
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Job
from stepwell.recipe.run import Run
from stepwell.recipe.verbs import train


def counted(outputs: Tensor, targets: Tensor, *, parts: int = 3) -> list[list[int]]:
    matrix = ConfusionMatrix()
    for some, true in zip(outputs.tensor_split(parts), targets.tensor_split(parts), strict=True):
        matrix.update(some, Batch(torch.zeros(len(true)), true))
    return matrix.counts


def test_counts_over_batches_equal_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(200, 7, generator=generator), torch.randint(0, 6, (200,), generator=generator)
    expected = confusion_matrix(targets, scores.argmax(1), labels=list(range(7)))
    assert counted(scores, targets) == expected.tolist()


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_logit_a_sample_has_two_classes(shape: tuple[int, ...], kind: torch.dtype) -> None:
    logits, targets = torch.tensor([2.0, -1.0, -0.5, 3.0]), torch.tensor([1, 1, 0, 1])
    assert counted(logits.reshape(shape), targets.to(kind)) == [[1, 0], [1, 2]]
    accuracy = Accuracy()
    accuracy.update(logits.reshape(shape), Batch(logits, targets.to(kind)))
    assert accuracy.compute() == 0.75


def test_class_probabilities_count_as_their_likeliest_class() -> None:
    targets = torch.tensor([[0.1, 0.7, 0.2], [0.0, 0.0, 1.0]])
    assert counted(torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), targets, parts=1) == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_ignored_targets_are_not_counted() -> None:
    for mark in (-100, 255):
        assert counted(torch.eye(3), torch.tensor([0, mark, 1]), parts=1) == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_with_more_than_fifty_classes_nothing_is_kept() -> None:
    assert len(counted(torch.eye(MOST_CLASSES), torch.arange(MOST_CLASSES))) == 50
    assert counted(torch.eye(MOST_CLASSES + 1), torch.arange(MOST_CLASSES + 1)) == []


def result(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))


def digits(out: Path | None, **split: float) -> Run:
    job = Job(
        data={"source": "digits"},
        split=split,
        model={"name": "mlp", "hidden": [8]},
        task="classification",
        recipe={"optimizer": {"name": "adamw", "lr": 0.01}, "batch_size": 256},
        budget="2 epochs",
    )
    return train(job, out=out)


def test_the_result_counts_the_test_part_and_agrees_with_its_accuracy(tmp_path: Path) -> None:
    run = digits(tmp_path / "run", validation=0.2, test=0.1)
    written = result(tmp_path / "run")
    counts = torch.tensor(written["confusion_matrix"])
    assert written["confusion_part"] == "test"
    assert written["classes"] == [str(digit) for digit in range(10)]
    assert int(counts.sum()) == 180
    assert float(counts.trace() / counts.sum()) == pytest.approx(run.test_metrics["accuracy"], rel=1e-6)


def test_without_a_test_part_the_validation_part_is_counted(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 3, generator=generator)
    targets = (inputs[:, 0] > 0).long()
    run = fit(
        nn.Linear(3, 2), (inputs[:40], targets[:40]), val=(inputs[40:], targets[40:]), budget="2 epochs", out=tmp_path / "run"
    )
    written = result(tmp_path / "run")
    assert (written["confusion_part"], written["classes"]) == ("validation", ["0", "1"])
    with torch.no_grad():
        expected = confusion_matrix(targets[40:], run.model(inputs[40:]).argmax(1), labels=[0, 1])
    assert written["confusion_matrix"] == expected.tolist()


def test_a_regression_has_no_confusion_matrix(tmp_path: Path) -> None:
    data = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 40)
    fit(nn.Linear(3, 1), data, val=data, budget="1 epochs", out=tmp_path / "run")
    assert "confusion_matrix" not in result(tmp_path / "run")
