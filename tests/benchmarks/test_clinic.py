"""The clinic's cases are what the scores rest on: each builds, and each card is complete."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest
import torch
from benchmarks.clinic import SETS, check
from benchmarks.clinic.case import Case
from benchmarks.clinic.vocabulary import IDS
from torch import nn

PARTS = [f"benchmarks.clinic.{name}" for name in SETS]
WHOLE = ("benchmarks.clinic.rules_seen", "benchmarks.clinic.held_out")  # each id has a case


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        value = list(value.values())
    return [part for one in value for part in _tensors(one)] if isinstance(value, (list, tuple)) else [torch.as_tensor(value)]


@pytest.fixture(scope="module", params=PARTS)
def cases(request: pytest.FixtureRequest) -> tuple[Case, ...]:
    found: tuple[Case, ...] = importlib.import_module(request.param).CASES
    return found


def test_every_case_builds_a_whole_setup(cases: tuple[Case, ...]) -> None:
    for case in cases:
        setup = case.build(0)
        assert {"model", "train", "val", "loss", "optimizer", "batch_size", "epochs"} <= set(setup), case.name
        assert isinstance(setup["model"], nn.Module), case.name
        assert callable(setup["loss"]), case.name
        assert min(len(setup["train"]), len(setup["val"]), setup["epochs"], setup["batch_size"]) >= 1, case.name
        assert setup["optimizer"]["name"] in {"sgd", "adam", "adamw", "rmsprop", "adagrad"}, case.name


def test_the_global_generator_is_left_alone(cases: tuple[Case, ...]) -> None:
    drawing = []
    for case in cases:
        before = torch.random.get_rng_state()
        case.build(0)
        if not torch.equal(before, torch.random.get_rng_state()):
            drawing.append(case.name)
    assert drawing == []


def test_every_card_is_complete(cases: tuple[Case, ...]) -> None:
    complaints = {case.name: check.card(case) for case in cases}
    assert {name: text for name, text in complaints.items() if text} == {}


def test_no_name_is_given_twice(cases: tuple[Case, ...]) -> None:
    assert [name for name, count in Counter(case.name for case in cases).items() if count > 1] == []


@pytest.mark.parametrize("part", WHOLE)
def test_every_id_has_a_case(part: str) -> None:
    cases: tuple[Case, ...] = importlib.import_module(part).CASES
    assert IDS - {name for case in cases for name in case.accept} == frozenset()


def test_a_case_is_built_alike_from_the_same_seed(cases: tuple[Case, ...]) -> None:
    different = []
    for case in cases:
        first, second = case.build(1), case.build(1)
        pairs = [*zip(first["model"].state_dict().values(), second["model"].state_dict().values())]
        pairs += [*zip(_tensors([first["train"][0], first["val"][0]]), _tensors([second["train"][0], second["val"][0]]))]
        if not all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs):
            different.append(case.name)
    assert different == []


def test_the_vocabulary_has_fifty_ids() -> None:
    assert len(IDS) == 50
