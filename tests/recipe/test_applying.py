"""evaluate and predict where memory runs out: smaller batches, the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import nn

import stepwell
from stepwell.engine.shortage import OutOfMemory
from stepwell.recipe import applying


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("applying")
    rows = [(number % 7 / 7, number % 5 / 5, "yes" if number % 7 > 3 else "no") for number in range(60)]
    pd.DataFrame(rows, columns=["a", "b", "kind"]).to_csv(place / "rows.csv", index=False)
    given = {
        "data": {"source": "table", "path": "rows.csv", "target": "kind"},
        "split": {"test": 0.3},
        "model": {"name": "mlp", "hidden": [8], "dropout": 0.2},
        "task": "classification",
        "recipe": {"optimizer": {"name": "adamw", "lr": 0.02}, "batch_size": 8},
        "budget": "20 steps",
    }
    stepwell.train(stepwell.Job.from_mapping(given), out=place / "run", base=place)
    return place / "run"


def cramped(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """Models that are loaded from now on have room for so many samples; the sizes that did not fit."""
    failed: list[int] = []
    load = applying.load_delivered

    def loaded(folder: Path) -> Any:
        delivered = load(folder)

        def hungry(module: nn.Module, args: Any) -> None:
            num = len(next(iter(args[0].values())) if isinstance(args[0], dict) else args[0])
            if num > room:
                failed.append(num)
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.")

        delivered.model.register_forward_pre_hook(hungry)
        return delivered

    monkeypatch.setattr(applying, "load_delivered", loaded)
    return failed


def test_an_evaluation_of_a_finished_run_goes_on_in_smaller_batches(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = stepwell.evaluate(run, split="train").metrics
    content = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    failed = cramped(monkeypatch, 6)
    found = stepwell.evaluate(run, split="train").metrics
    assert failed == [30, 15, 7]
    assert found["accuracy"] == expected["accuracy"]
    assert found == pytest.approx(expected, rel=1e-6)
    assert "out of memory in an evaluation (4096 more bytes were needed at once): batches of 3 from here on" in caplog.text
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == content


def test_predictions_are_the_same_in_smaller_batches_and_each_row_has_one(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = stepwell.predict(run, run.parent / "rows.csv")
    failed = cramped(monkeypatch, 7)
    found = stepwell.predict(run, run.parent / "rows.csv")
    assert failed == [60, 30, 15]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    assert "out of memory in a prediction" in caplog.text


def test_predictions_with_dropout_go_on_in_smaller_batches_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = stepwell.predict(run, run.parent / "rows.csv", samples=200)
    failed = cramped(monkeypatch, 30)
    found = stepwell.predict(run, run.parent / "rows.csv", samples=200)
    assert failed == [60]
    # Other batches have other masks. Two means of 200 passes differ by 0.1 standard deviations of a pass: six times that is far.
    columns = [name for name in found.columns if name.startswith("probability")]
    assert columns
    for name in columns:
        assert ((found[name] - expected[name]).abs() < 0.6 * expected["std"]).all()


def test_where_a_single_row_does_not_fit_it_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cramped(monkeypatch, 0)
    with pytest.raises(OutOfMemory, match="a prediction ran out of memory on a single sample"):
        stepwell.predict(run, run.parent / "rows.csv")
