"""The live rules tell what they see once, put it on record, change nothing, and can be left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import stepwell
from stepwell.cli.app import app
from stepwell.doctor.live import LOOK_EVERY, MOST_ROWS, LiveRules
from stepwell.engine.records.event_log import read_events

Row = dict[str, Any]


def told(rules: LiveRules, losses: list[float], *, every: int = 10, first: int = 1) -> list[tuple[int, Row]]:
    """What is told, with its step, of rows that come every so many steps."""
    found = []
    for index, loss in enumerate(losses, start=first):
        row = {"step": index * every, "loss": loss, "lr": 0.1, "grad_norm": 1.0, "param_norm": 1.0, "skipped": 0}
        found += [(index * every, dict(item)) for item in rules.see("train", row)]
    return found


def rules_of(total: int) -> LiveRules:
    rules = LiveRules()
    rules.start({"recipe": {"optimizer": {"name": "sgd", "lr": 0.1}}}, total)
    return rules


def test_a_finding_is_told_once_when_two_looks_agree_and_not_before_it_can_be_known() -> None:
    found = told(rules_of(10_000), [2.3] * 1000)
    assert [(step, item["finding"]) for step, item in found] == [(3000, "lr_too_low")]  # looks at 2500 (25 %) and 3000


def test_a_healthy_training_is_told_nothing() -> None:
    assert told(rules_of(10_000), [2.2 * math.exp(-step / 100) + 0.1 for step in range(1000)]) == []


def test_a_short_training_is_looked_at_once_at_its_end() -> None:
    found = told(rules_of(300), [2.3] * 30)
    assert [step for step, _ in found] == [300]


def test_looks_are_few_however_many_rows_come(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr(LiveRules, "_look", lambda self, done: looks.append(done) or iter(()))
    rules = rules_of(100 * LOOK_EVERY)
    told(rules, [1.0] * 1000, every=LOOK_EVERY // 10)
    assert len(looks) == 50  # 1000 rows over 100 times LOOK_EVERY steps: every 2 % of the run
    assert len(rules._rows["train"]) <= MOST_ROWS


def test_odd_records_end_no_training() -> None:
    rules = rules_of(100)
    assert list(rules.see("train", {"step": 100})) == []
    assert list(rules.see("validation", {"step": 100, "epoch": 1.0})) == []


def test_rows_that_are_written_again_after_a_resume_count_once(tmp_path: Path) -> None:
    rules = rules_of(10_000)
    told(rules, [2.3] * 200)
    told(rules, [2.3] * 50, first=100)
    assert [row["step"] for row in rules._rows["train"]] == [*range(10, 1500, 10)]


def train(out: Path, watch: LiveRules | None, lr: float = 1e-9) -> Any:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(128, 4, generator=draw)
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    recipe = stepwell.Recipe(objective="cross_entropy", optimizer={"name": "sgd", "lr": lr}, batch_size=32)
    return stepwell.fit(torch.nn.Linear(4, 2), (x, y), val=(x, y), recipe=recipe, budget="10 epochs", out=out, watch=watch)


def test_what_is_told_is_on_record_and_nothing_else_differs(tmp_path: Path) -> None:
    watched, alone = train(tmp_path / "watched", LiveRules()), train(tmp_path / "alone", None)
    events = [event for event in read_events(tmp_path / "watched" / "events.jsonl") if event.kind == "doctor"]
    assert [(event.step, event.detail["finding"]) for event in events] == [(40, "lr_too_low")]
    assert [event.kind for event in read_events(tmp_path / "alone" / "events.jsonl") if event.kind == "doctor"] == []
    assert torch.equal(watched.model.weight, alone.model.weight)
    for name in ("metrics/train.csv", "metrics/validation.csv"):
        assert (tmp_path / "watched" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_resumed_run_knows_its_rows_and_what_was_told(tmp_path: Path) -> None:
    train(tmp_path / "run", LiveRules())
    rules = LiveRules(resumed=tmp_path / "run")
    rules.start({}, 40)
    assert [row["step"] for row in rules._rows["train"]] == list(range(1, 41))
    assert told(rules, [2.3], every=40) == []  # lr_too_low was told before the resume


@pytest.mark.parametrize(("word", "expected"), [("on", ["lr_too_low"]), ("off", [])])
def test_train_watches_unless_it_is_told_not_to(tmp_path: Path, word: str, expected: list[str]) -> None:
    (tmp_path / "job.yaml").write_text(
        "data: {source: digits}\nmodel: {name: mlp, hidden: [8]}\ntask: classification\n"
        "recipe: {optimizer: {name: sgd, lr: 1e-9}, batch_size: 256}\nbudget: 3 epochs\n"
    )
    out = tmp_path / "run"
    ran = CliRunner().invoke(app, ["train", str(tmp_path / "job.yaml"), "--out", str(out), "--watch", word])
    assert ran.exit_code == 0, ran.output
    events = [event for event in read_events(out / "events.jsonl") if event.kind == "doctor"]
    assert [event.detail["finding"] for event in events] == expected
    assert ("doctor: finding lr_too_low" in ran.output) == bool(expected)
