"""T4: NaN and infinity, wherever they come from, reach neither weights nor the best evaluation, and every JSON stays strict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from counted import report
from forked import Marks, done, forked
from small_runs import INTERVAL, MARKS, STEPS, network, train
from torch import nn

from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint
from stepwell.engine.records.event_log import read_events

PLACES = ("loss", "gradients", "inputs", "weights")
AT = (1, 12, STEPS)


def poisoned(place: str, value: float, at: int) -> nn.Module:
    """The small network; in its step number `at` (from 1) the value gets into the loss, the gradients, the inputs or a weight."""
    model, calls = network(), 0

    def before(module: nn.Module, args: tuple[Any, ...]) -> Any:
        nonlocal calls
        calls += module.training
        if not module.training or calls != at:
            return None
        if place == "weights":
            with torch.no_grad():
                module[4].bias[0] = value  # type: ignore[index]
        if place == "inputs":
            changed = args[0].clone()
            changed[3, 2] = value
            return (changed,)
        return None

    def after(module: nn.Module, args: Any, outputs: torch.Tensor) -> Any:
        if not module.training or calls != at:
            return None
        if place == "gradients":
            outputs.register_hook(lambda gradient: gradient * value)
        return outputs * value if place == "loss" else None

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after)
    return model


def not_strict(folder: Path) -> list[str]:
    """Files that a strict reader of JSON refuses."""
    found = []

    def refuse(word: str) -> Any:
        raise ValueError(word)

    for path in [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        text = path.read_text()
        for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
            try:
                json.loads(part, parse_constant=refuse)
            except ValueError as error:
                found.append(f"{path.name}: {error}")
    return found


def not_finite(folder: Path) -> list[str]:
    """Checkpoints with weights that are not finite."""
    found = []
    for place in checkpoints(folder / "checkpoints"):
        weights = load_checkpoint(place)["step"]["model"]
        found += [f"{place.name}: {name}" for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    return found


@pytest.mark.parametrize("place", PLACES)
def test_a_non_finite_step_stops_the_run_before_it_reaches_the_weights(memory: Path, loaded: None, place: str) -> None:
    trials = 0
    for value in (math.nan, math.inf):
        for at in AT:
            folder, marks = memory / f"{value}-{at}", Marks(*MARKS)
            ended = forked(
                lambda folder=folder, value=value, at=at, marks=marks: train(
                    "dropout", folder, marks=marks, model=poisoned(place, value, at)
                )
            )
            assert ended.code == 3, (place, value, at, ended.error, ended.trace)
            assert "non-finite" in ended.error
            assert f"after step {at - 1} " in ended.error
            assert marks["step"] == at - 1
            assert ("The weights are not finite either" in ended.error) == (place == "weights")
            assert not_finite(folder) == [], (value, at)
            assert not_strict(folder) == []
            assert any(event.kind == "nonfinite" for event in read_events(folder / "events.jsonl"))
            trials += 1
            # Without the cause, the run goes on and ends well.
            assert done(lambda folder=folder: train("dropout", folder))["steps"] == STEPS
            assert not_finite(folder) == []
    report("T4 non-finite", stopped=trials, floors={"stopped": 6})


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("place", ["loss", "gradients", "inputs"])
def test_a_run_that_may_go_on_does_so_with_finite_weights(memory: Path, loaded: None, place: str, policy: str) -> None:
    from small_runs import VARIANTS

    VARIANTS["policy"] = VARIANTS["dropout"] | {"on_nonfinite": policy}
    try:
        for value in (math.nan, math.inf):
            folder = memory / str(value)
            told = done(lambda folder=folder, value=value: train("policy", folder, model=poisoned(place, value, 12)))
            assert told["steps"] == STEPS
            assert not_finite(folder) == []
            assert not_strict(folder) == []
            assert [event.kind for event in read_events(folder / "events.jsonl")].count("nonfinite") == 1
    finally:
        del VARIANTS["policy"]
    report("T4 non-finite", went_on=2)


class BadMetric(nn.Module):
    """The small network; its outputs are bad in the evaluations of given numbers."""

    def __init__(self, evaluations: tuple[int, ...], value: float) -> None:
        super().__init__()
        self.inner, self.evaluations, self.value, self.calls = network(), evaluations, value, 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.inner(inputs)
        if self.training or len(inputs) != 40:  # of the validation part
            return outputs
        self.calls += 1
        return outputs * self.value if self.calls in self.evaluations else outputs


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("when", [(1,), (2,), (4,), (1, 2, 3)])
def test_an_evaluation_without_a_finite_value_is_never_the_best(
    memory: Path, loaded: None, when: tuple[int, ...], value: float
) -> None:
    told = done(lambda: train("dropout", memory / "run", model=BadMetric(when, value)))
    assert told["steps"] == STEPS
    assert told["best"] not in {6 * number for number in when}
    assert not_strict(memory / "run") == []
    best = json.loads((memory / "run" / "result.json").read_text())["best"]
    assert math.isfinite(best["value"])
    report("T4 non-finite", metrics=1)


def test_where_every_evaluation_is_nan_there_is_no_best(memory: Path, loaded: None) -> None:
    told = done(lambda: train("early_stopping", memory / "run", model=BadMetric(tuple(range(99)), math.nan)))
    assert told["best"] is None
    assert not_strict(memory / "run") == []
    assert json.loads((memory / "run" / "result.json").read_text())["best"] == {}
    report("T4 non-finite", metrics=1)


@pytest.mark.parametrize("at", [12, 3 * INTERVAL])
def test_weights_that_an_update_made_infinite_are_never_saved(memory: Path, loaded: None, at: int) -> None:
    """A finite gradient times a huge rate: only the step after it can notice, and a checkpoint may be due between."""
    model = network()

    def aim(moment: str, step: int) -> None:
        if (moment, step) == ("stepped", at):
            with torch.no_grad():
                model[4].weight.mul_(math.inf)  # type: ignore[operator, index]

    ended = forked(lambda: train("dropout", memory / "run", model=model, aim=aim))
    assert ended.code == 3
    assert "weights are not finite" in ended.error
    assert not_finite(memory / "run") == []
    assert checkpoints(memory / "run" / "checkpoints")[0].name == f"step-{2 * INTERVAL}"
    failed = [event.step for event in read_events(memory / "run" / "events.jsonl") if event.kind == "save_failed"]
    assert failed == ([at] if at % INTERVAL == 0 else [])
    assert done(lambda: train("dropout", memory / "run"))["steps"] == STEPS
    report("T4 non-finite", stopped=1)
