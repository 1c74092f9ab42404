"""A run folder tells what is wrong by its records alone; a healthy one tells nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import stepwell
from stepwell.core.errors import RunFolderError
from stepwell.core.reports import Event
from stepwell.doctor.findings import Finding
from stepwell.doctor.layer_rules import layer_findings
from stepwell.doctor.records import examine_run
from stepwell.doctor.run_rules import compared_by, gradient_findings, skipped_findings
from stepwell.doctor.troubleshooting import remedies
from stepwell.engine.records.run_folder import RunFolder

JOB = """\
data: {source: digits}
model: {name: mlp, dropout: 0.0}
task: classification
recipe: {optimizer: {name: sgd, lr: 0.1, weight_decay: 0.01}, batch_size: 64}
budget: 20 epochs
"""
Row = dict[str, Any]


def falling(step: int) -> float:
    return 2.2 * math.exp(-step / 100) + 0.1


def train_rows(loss: Callable[[int], float], num: int = 100, **more: Callable[[int], float]) -> list[Row]:
    made = []
    for step in range(10, 10 * num + 1, 10):
        row = {
            "step": step,
            "epoch": step / 50,
            "loss": loss(step),
            "lr": 0.1,
            "grad_norm": 1.0,
            "param_norm": 10.0,
            "skipped": 0,
        }
        made.append(row | {name: value(step) for name, value in more.items()})
    return made


def val_rows(loss: Callable[[int], float], num: int = 20) -> list[Row]:
    return [{"step": step, "epoch": step / 50, "loss": loss(step)} for step in range(50, 50 * num + 1, 50)]


def run_of(
    folder: Path,
    train: Sequence[Row],
    validation: Sequence[Row] = (),
    *,
    events: Sequence[Event] = (),
    layers: Sequence[Row] = (),
    result: Row | None = None,
    job: str = JOB,
) -> Path:
    run = RunFolder(folder)
    run.create(job)
    for name, rows in (("train", train), ("validation", validation), ("layers", layers)):
        for row in rows:
            run.append(f"metrics/{name}", row)
    for event in events:
        run.event(event)
    if result is not None:
        run.write("result.json", result)
    run.close()
    return folder


def ids(found: Sequence[Finding]) -> list[str]:
    return [item.id for item in found]


def test_a_healthy_run_tells_nothing(tmp_path: Path) -> None:
    result = {"stop_reason": "budget spent", "best": {"step": 1000}}
    assert examine_run(run_of(tmp_path / "run", train_rows(falling), val_rows(falling), result=result)) == []


def test_a_real_healthy_run_with_layer_statistics_tells_nothing(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 8, generator=draw)
    y = (x[:, :2].sum(1) > 0).long()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    recipe = stepwell.Recipe(objective="cross_entropy", optimizer={"name": "adamw", "lr": 1e-2}, techniques=["layer_statistics"])
    stepwell.fit(model, (x[:300], y[:300]), val=(x[300:], y[300:]), recipe=recipe, budget="12 epochs", out=tmp_path / "run")
    assert [item for item in examine_run(tmp_path / "run") if item.severity != "note"] == []


@pytest.mark.parametrize(
    ("moved", "expected", "change"),
    [
        (lambda step: 10.0, "lr_too_low", {"recipe.optimizer.lr": 1.0}),
        (lambda step: 10.0 + step / 10, "lr_too_high", {"recipe.optimizer.lr": 0.01}),
    ],
)
def test_a_flat_loss_is_a_small_rate_unless_the_weights_went_far(
    tmp_path: Path, moved: Callable[[int], float], expected: str, change: Row
) -> None:
    folder = run_of(tmp_path / "run", train_rows(lambda step: 2.3, param_norm=moved), val_rows(lambda step: 2.3))
    (found,) = examine_run(folder)
    assert (found.id, found.severity, dict(found.remedy.job)) == (expected, "harm", change)
    assert found.evidence["pattern"] == "flat"


def test_a_rising_validation_loss_is_overfitting_with_dropout_first_and_what_comes_next(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", train_rows(falling), val_rows(lambda step: 0.8 + abs(step - 300) / 500))
    (found,) = examine_run(folder)
    assert found.id == "overfitting"
    first, last = found.evidence["steps"]  # type: ignore[misc]
    assert (first, last) == (pytest.approx(300, abs=50), 1000)  # to an evaluation: noise is taken out over three of them
    assert dict(found.remedy.job) == {"recipe.techniques+": [{"name": "dropout", "probability": 0.2}]}
    assert found.evidence["then"] == [item.text for item in remedies("overfitting", {"task": "classification", "recipe": {
        "optimizer": {"weight_decay": 0.01}}})[1:]]  # fmt: skip


def test_a_run_that_stopped_at_numbers_that_are_not_finite_diverged(tmp_path: Path) -> None:
    events = [Event("nonfinite", 1001, {"policy": "stop"}), Event("failed", 1001, {"error": "TrainingStopped"})]
    (found,) = examine_run(run_of(tmp_path / "run", train_rows(falling), events=events))
    assert (found.id, found.severity) == ("lr_too_high", "blocker")
    assert found.evidence["first_bad_step"] == 1001


def test_numbers_that_are_not_finite_from_the_first_step_are_the_data(tmp_path: Path) -> None:
    (found,) = examine_run(run_of(tmp_path / "run", [], events=[Event("nonfinite", 0, {"policy": "stop"})]))
    assert found.id == "nan_in_inputs"


def test_a_bad_step_that_the_run_went_on_from_is_no_divergence(tmp_path: Path) -> None:
    events = [Event("nonfinite", 500, {"policy": "skip"})]
    assert examine_run(run_of(tmp_path / "run", train_rows(falling), val_rows(falling), events=events)) == []


def test_skipped_steps_are_counted_and_those_of_loss_scaling_are_usual() -> None:
    rows = train_rows(falling, skipped=lambda step: 1 if step % 100 == 0 else 0)  # 10 of 1010
    assert ids(list(skipped_findings(rows, {}))) == []
    rows = train_rows(falling, skipped=lambda step: 1)  # 100 of 1100
    (found,) = skipped_findings(rows, {})
    assert (found.id, found.evidence["skipped"], found.evidence["share"]) == ("unstable_gradient", 100, 0.09091)
    assert ids(list(skipped_findings(rows[:8], {"recipe": {"precision": "fp16"}}))) == []


def test_memory_that_ran_out_gives_the_five_remedies_in_their_order(tmp_path: Path) -> None:
    events = [Event("failed", 7, {"error": "OutOfMemory", "reason": "out of memory in the step after 7"})]
    (found,) = [
        item for item in examine_run(run_of(tmp_path / "run", train_rows(falling), events=events)) if item.severity != "note"
    ]
    assert (found.id, dict(found.remedy.job)) == ("out_of_memory", {"recipe.micro_batch_size": 32})
    told = [found.remedy.text, *found.evidence["then"]]  # type: ignore[misc]
    words = ("smaller batches", "Accumulate", "mixed precision", "Compute activations again", "Shorten the sequences")
    assert len(told) == 5
    assert all(word in text for word, text in zip(words, told, strict=True))


def test_no_memory_remedy_changes_the_batch_of_a_step() -> None:
    job = {"recipe": {"batch_size": 64, "precision": "fp32"}, "data": {"length": 128}}
    changes = [dict(item.job) for item in remedies("memory", job)]
    assert changes == [
        {"recipe.micro_batch_size": 32},
        {"recipe.micro_batch_size": 8},
        {"recipe.precision": "bf16"},
        {"recipe.techniques+": ["activation_checkpointing"]},
        {"data.length": 64},
    ]


def test_a_run_that_went_on_with_smaller_parts_is_told_the_size_as_a_note(tmp_path: Path) -> None:
    events = [Event("micro_batches", 3, {"before": 64, "now": 32}), Event("micro_batches", 3, {"before": 32, "now": 16})]
    (found,) = examine_run(run_of(tmp_path / "run", train_rows(falling), val_rows(falling), events=events))
    assert (found.id, found.severity, dict(found.remedy.job)) == ("out_of_memory", "note", {"recipe.micro_batch_size": 16})


def test_gradient_norms_that_jump_with_the_loss_are_told_and_clipped_ones_are_not() -> None:
    spiky = lambda step: 200.0 if step % 90 == 0 else 1.0  # noqa: E731
    rows = train_rows(lambda step: 3.0 if step % 90 == 0 else 1.0, grad_norm=spiky)
    (found,) = gradient_findings(rows, {})
    assert (found.id, found.evidence["spikes"], found.evidence["largest_norm"]) == ("unstable_gradient", 11, 200.0)
    assert list(gradient_findings(rows, {"recipe": {"techniques": [{"name": "clip_norm"}]}})) == []
    assert list(gradient_findings(train_rows(lambda step: 1.0, grad_norm=spiky), {})) == []  # the loss took no harm


def test_a_gradient_that_has_vanished_altogether_is_told() -> None:
    (found,) = gradient_findings(train_rows(lambda step: 2.3, grad_norm=lambda step: 1e-9), {})
    assert (found.id, found.severity) == ("vanishing_gradient", "blocker")
    assert list(gradient_findings(train_rows(lambda step: 2.3 if step < 50 else 0.0, grad_norm=lambda step: 1e-9), {})) == []


def layers(**changed: dict[str, float]) -> list[Row]:
    """Five watched steps of a healthy net of three layers, with changes by layer; "0_weight" is the layer 0.weight."""
    rows = []
    for step in range(0, 100, 20):
        for name in ("0.weight", "2.weight", "4.weight"):
            row = {"step": step, "name": name, "gradient_norm": 0.1, "parameter_norm": 5.0, "update_ratio": 1e-3}
            rows.append(row | changed.get("at_" + name.replace(".", "_"), {}))
        for name in ("1", "3", "4"):
            row = {"step": step, "name": name, "activation_std": 0.5, "activation_dead_fraction": 0.1}
            rows.append(row | {"activation_saturated_fraction": 0.1} | changed.get("at_" + name, {}))
    return rows


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"at_0_weight": {"update_ratio": 1e-7}}, ["vanishing_gradient"]),
        ({"at_0_weight": {"update_ratio": 1e-5}}, []),
        ({"at_0_weight": {"update_ratio": 0.0}}, []),  # frozen on purpose
        ({"at_2_weight": {"gradient_norm": 1e5}}, ["exploding_gradient"]),
        ({"at_1": {"activation_dead_fraction": 0.8}}, ["dead_relu"]),
        ({"at_3": {"activation_saturated_fraction": 0.9}}, ["saturated_activation"]),
        ({"at_4": {"activation_saturated_fraction": 0.9}}, []),  # an output that is sure of its answers
    ],
)
def test_layers_that_stand_still_explode_or_are_dead_are_named(changed: Any, expected: list[str]) -> None:
    found = list(layer_findings(layers(**changed)))
    assert ids(found) == expected
    for item in found:
        assert any(name in str(item.evidence) for name in ("0.weight", "2.weight", "1 80%", "3 90%"))


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"model": {"name": "mlp", "dropout": 0.0}, "recipe": {}}, "same"),
        ({"model": {"name": "mlp", "dropout": 0.3}, "recipe": {}}, "raised"),
        ({"model": {"name": "mlp"}, "recipe": {"techniques": [{"name": "mixup"}]}}, "raised"),
        ({"model": {"name": "mlp"}, "recipe": {"techniques": ["label_smoothing"]}}, "raised"),
        ({"recipe": {}}, "raised"),  # a model from Python may hold dropout
        ({"model": {"name": "mlp"}, "recipe": {"techniques": ["class_weights"]}}, "other"),
    ],
)
def test_the_job_says_how_training_and_validation_loss_compare(job: Row, expected: str) -> None:
    assert compared_by(job) == expected


def test_a_budget_that_ended_too_early_is_a_note_with_twice_the_budget(tmp_path: Path) -> None:
    result = {"stop_reason": "budget spent", "best": {"step": 1000}}
    slow = lambda step: 2.3 - step / 1000  # noqa: E731
    (found,) = examine_run(run_of(tmp_path / "run", train_rows(slow), val_rows(slow), result=result))
    assert (found.id, found.severity, dict(found.remedy.job)) == ("too_few_epochs", "note", {"budget": "40 epochs"})
    assert found.evidence["stop_reason"] == "budget spent"


def test_a_running_run_is_read_as_far_as_it_goes_and_nothing_in_it_changes(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", train_rows(lambda step: 2.3, num=30))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert ids(examine_run(folder)) == ["lr_too_low"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("text", ["", "recipe: [", "- 1"])
def test_a_damaged_job_keeps_no_metrics_from_being_read(tmp_path: Path, text: str) -> None:
    folder = run_of(tmp_path / "run", train_rows(lambda step: 2.3))
    (folder / "job.yaml").write_text(text)
    (found,) = examine_run(folder)
    assert (found.id, dict(found.remedy.job)) == ("lr_too_low", {})


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        examine_run(tmp_path)
    with pytest.raises(RunFolderError, match="there is no folder"):
        examine_run(tmp_path / "missing")
