"""The checklist in its order."""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepwell.doctor import probes
from stepwell.doctor.checklist import STAGES, Stage, suspicions
from stepwell.doctor.findings import Remedy, Suspicion


def _suspicion(name: str) -> Suspicion:
    return Suspicion(name, "seen", "cause", {}, Remedy("mend it"))


def _modules(monkeypatch: pytest.MonkeyPatch, **made: Any) -> None:
    known = importlib.import_module

    def found(name: str) -> Any:
        last = name.rsplit(".", 1)[-1]
        return SimpleNamespace(probe=made[last]) if last in made else known(name)

    monkeypatch.setattr("stepwell.doctor.checklist.importlib.import_module", found)


def test_stages_go_from_what_costs_nothing_to_what_costs_trainings() -> None:
    assert [stage.name for stage in STAGES] == ["data", "static", "start", "fit", "course", "run"]


def test_every_probe_there_is_is_asked_once() -> None:
    asked = Counter(name for stage in STAGES for name in stage.probes)
    there = {file.stem for file in Path(str(probes.__file__)).parent.glob("*.py")} - {"__init__"}
    assert asked == dict.fromkeys(there, 1)


def test_suspicions_come_in_the_order_of_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    _modules(monkeypatch, a=lambda bench: iter([_suspicion("a1"), _suspicion("a2")]), b=lambda bench: [_suspicion("b")])
    found = suspicions(None, Stage("data", ("b", "a")))  # type: ignore[arg-type]
    assert [item.id for item in found] == ["b", "a1", "a2"]


def test_a_probe_that_fails_says_nothing_and_the_next_is_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(bench: Any) -> Any:
        yield _suspicion("half")
        raise ValueError("an odd setup")

    _modules(monkeypatch, broken=broken, sound=lambda bench: [_suspicion("sound")])
    with caplog.at_level(logging.DEBUG, logger="stepwell.doctor"):
        found = list(suspicions(None, Stage("data", ("broken", "sound"))))  # type: ignore[arg-type]
    assert [item.id for item in found] == ["sound"]
    assert "broken" in caplog.text
