"""Repairs: what helps is kept, what doesn't is taken back, and any plain loop can train what comes out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import stepwell
from stepwell.doctor.bench import Bench
from stepwell.doctor.diagnose import Diagnosis
from stepwell.doctor.findings import Finding, Remedy, Suspicion
from stepwell.doctor.repair import Repair, Verified, compared, left_to_do
from stepwell.doctor.setup import Setup, setup_of


def signs(num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] + inputs[:, 1] > 0).long()


def network(num_outputs: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_outputs))


def keywords(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": network(),
        "train": TensorDataset(*signs(120, 0)),
        "val": TensorDataset(*signs(80, 1)),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": {"name": "adam", "lr": 0.02},
        "batch_size": 16,
        "epochs": 5,
        "shuffle": True,
    }
    return {**given, **changes}


def trained(setup: dict[str, Any]) -> float:
    """The accuracy that a loop of anybody's ends with."""
    model = copy.deepcopy(setup["model"])
    settings = dict(setup["optimizer"])
    name = settings.pop("name")
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name](model.parameters(), **settings)
    order = torch.Generator().manual_seed(0)
    for _ in range(setup["epochs"]):
        for inputs, targets in DataLoader(setup["train"], setup["batch_size"], shuffle=setup["shuffle"], generator=order):
            optimizer.zero_grad()
            setup["loss"](model(inputs), targets).backward()
            optimizer.step()
    inputs, targets = setup["val"].tensors
    return float((model.eval()(inputs).argmax(1) == targets).float().mean())


def suspicion(change: Callable[[Setup], Setup] | None, *, proof: Any = "symptom", text: str = "a remedy") -> Suspicion:
    return Suspicion("lr_too_low", "seen", "a cause", {"rows": [3, 4]}, Remedy(text, change), proof=proof)


def diagnosis_of(setup: Setup, *thought_of: Suspicion) -> Diagnosis:
    """One finding with several remedies, the first of them its own."""
    first = thought_of[0]
    finding = Finding(first.id, 0.9, first.symptom, first.cause, first.evidence, first.remedy)
    return Diagnosis(setup, [finding], ["run"], Bench(setup), list(thought_of))


def mended(diagnosis: Diagnosis) -> Repair:
    return diagnosis.repair(rounds=1)


def test_rows_that_are_not_finite_go_by_construction_and_validation_stays_the_users_own() -> None:
    inputs, targets = signs(120, 0)
    inputs[7, 2] = math.nan
    given = keywords(train=TensorDataset(inputs, targets))
    before = copy.deepcopy(given["model"].state_dict())
    repair = stepwell.diagnose(**given).repair()
    assert repair.applied == ["nan_in_inputs: Drop the 1 training rows with such cells"]
    assert repair.verified.by == "construction"
    assert set(repair.setup) == set(given)
    assert repair.setup["val"] is given["val"]
    assert len(repair.setup["train"]) == 119
    assert not repair.left
    assert trained(repair.setup) > 0.9
    assert all(torch.equal(value, before[name]) for name, value in given["model"].state_dict().items())


def test_a_remedy_that_does_not_help_is_taken_back_and_the_next_one_is_tried() -> None:
    setup = setup_of(**keywords(optimizer={"name": "adam", "lr": 1e-6}))
    useless = suspicion(lambda given: given.with_rate(0.5), text="half the rate")
    useful = suspicion(lambda given: given.with_rate(2e4), text="another rate")
    repair = mended(diagnosis_of(setup, useless, useful))
    assert repair.applied == ["lr_too_low: another rate"]
    assert repair.setup["optimizer"]["lr"] == pytest.approx(0.02)
    assert repair.verified.gain > 0.2
    assert repair.verified.interval[0] > 0


def test_of_the_remedies_of_one_finding_the_one_that_brings_most_is_kept() -> None:
    setup = setup_of(**keywords(optimizer={"name": "adam", "lr": 1e-6}))
    some = suspicion(lambda given: given.with_rate(3e3), text="some")
    most = suspicion(lambda given: given.with_rate(2e4), text="most")
    assert mended(diagnosis_of(setup, some, most)).applied == ["lr_too_low: most"]


def test_where_nothing_helps_nothing_is_applied_and_the_finding_is_left_with_its_rows() -> None:
    setup = setup_of(**keywords())
    repair = mended(diagnosis_of(setup, suspicion(lambda given: given.with_rate(0.0))))
    assert repair.applied == []
    assert repair.left == ["lr_too_low: a remedy (rows: 3, 4)"]
    assert repair.mended is setup
    assert repair.verified.gain == 0.0


def test_what_is_certain_is_kept_without_a_gain_but_not_where_it_harms() -> None:
    setup = setup_of(**keywords())
    same = suspicion(lambda given: given.change(loss=nn.CrossEntropyLoss()), proof="certain", text="the same")
    harm = suspicion(lambda given: given.with_rate(0.0), proof="certain", text="no step at all")
    assert mended(diagnosis_of(setup, harm)).applied == []
    assert mended(diagnosis_of(setup, harm, same)).applied == ["lr_too_low: the same"]


def test_a_remedy_that_raises_is_passed_over() -> None:
    def broken(given: Setup) -> Setup:
        raise ValueError("doesn't fit")

    setup = setup_of(**keywords(optimizer={"name": "adam", "lr": 1e-6}))
    useful = suspicion(lambda given: given.with_rate(2e4), text="another rate")
    assert mended(diagnosis_of(setup, suspicion(broken), useful)).applied == ["lr_too_low: another rate"]


def test_a_mended_setup_with_other_outputs_is_judged_by_what_these_stand_for() -> None:
    setup = setup_of(**keywords(model=network(1)))  # one output reads as yes or no, two as classes
    two = setup.change(model=network(2))
    found = compared(Bench(setup), two, (0, 1), "skill")
    assert min(found.after) > 0.9


def test_changes_of_the_job_are_gathered_over_the_steps() -> None:
    verified = Verified((0.5,), (0.6,))
    finding = Finding("x", 1.0, "", "", {}, Remedy(""))

    def step(job: dict[str, Any]) -> Any:
        from stepwell.doctor.repair import Applied

        return Applied(finding, Remedy("r", job=job), verified)

    steps = [step({"recipe.techniques+": ["mixup"], "budget": "2 epochs"}), step({"recipe.techniques+": ["ema"]}), step({})]
    assert Repair({}, verified, steps).job == {"recipe.techniques+": ["mixup", "ema"], "budget": "2 epochs"}


def test_the_interval_is_students_t_over_the_paired_differences() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, t of 2 degrees of freedom at 95 % one-sided 2.920.
    low, high = Verified((0.1, 0.2, 0.3), (0.2, 0.4, 0.6)).interval
    assert low == pytest.approx(0.2 - 2.920 * 0.1 / math.sqrt(3))
    assert high == pytest.approx(0.2 + 2.920 * 0.1 / math.sqrt(3))
    assert Verified((0.1,), (0.2,)).interval == (-math.inf, math.inf)


def test_what_is_left_names_the_line_where_one_is_known_else_rows_and_tensors() -> None:
    def finding(line: str | None) -> Finding:
        evidence = {"num": 2, "train_rows": [1, 5], "names": ["head.weight"]}
        return Finding("detached_graph", 0.9, "", "", evidence, Remedy("Leave detach() out", line=line))

    assert left_to_do(finding("model.py:12")) == "detached_graph: Leave detach() out (model.py:12)"
    assert left_to_do(finding(None)) == "detached_graph: Leave detach() out (train rows: 1, 5; names: head.weight)"
