"""The run card: everything a reviewer asks for is on it, and nothing that a file says becomes markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import JobError, RunFolderError
from stepwell.recipe.evidence.audit import audit
from stepwell.report.card import card, in_markdown, write_card

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/a.png)",
    "`code` ends | here",
    "a | b | c",
    "line\n# A heading\n\n- a list",
    "\r\n| a | table |\r\n| --- | --- |",
    "**bold** _under_ ~~gone~~",
    "https://evil.example www.evil.example a@evil.example",
    "back\\slash\\`tick",
    "&lt;b&gt; &#60;b&#62;",
    "\x1b[31mred\x1b[0m \u202eturned\u202c",
    "``` fence",
    "<!-- comment",
    "$$x$$ :tada: @someone #1",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "run"
    rows = (torch.arange(128.0).view(64, 2) / 128, torch.arange(64.0).view(64, 1) / 64)
    recipe = stepwell.Recipe(
        objective="huber", optimizer={"name": "adamw", "lr": 0.02}, techniques=[{"name": "ema", "decay": 0.9}]
    )
    stepwell.fit(nn.Linear(2, 1), rows, val=rows, recipe=recipe, budget="2 epochs", seed=9, out=folder)
    return folder


def rendered(text: str) -> list[str]:
    """What stands outside of code spans: there, and only there, could markup be."""
    return [re.sub(r"`[^`]*`", "", line) for line in text.splitlines()]


def test_it_holds_recipe_results_environment_history_audit_and_limits(run: Path) -> None:
    text = card(run)
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    expected = [
        "Run",
        "Data and splits",
        "Model",
        "Techniques",
        "Results",
        "Environment",
        "History",
        "Audit",
        "What is not known",
    ]
    assert headings == expected
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    for item in manifest["techniques"]:
        row = next(line for line in text.splitlines() if item["sha256"] in line)
        assert f"`{item['id']}`" in row
        assert f"`{item['version']}`" in row
    for told in ("lr 0.02", "decay 0.9", "| seed | `9` |", "2 epochs", manifest["environment"]["numeric"], audit(run).head):
        assert told in text
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert all(f"| validation | `{name}` |" in text for name in result["metrics"])


def test_what_is_not_known_is_said(run: Path) -> None:
    limits = card(run).split("## What is not known")[1]
    assert "no fingerprint" not in limits
    assert "one seed" in limits
    assert "no result on untouched test data" in limits
    assert "another environment" not in limits


def test_data_without_a_fingerprint_is_told(run: Path, tmp_path: Path) -> None:
    for name in ("job.yaml", "events.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert "| hashed, `train` | `all rows` |" in card(run)
    manifest["data"]["fingerprint"] = None
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "no fingerprint" in card(tmp_path).split("## What is not known")[1]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_foreign_text_becomes_markup(text: str) -> None:
    shown = in_markdown(text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    (outside,) = rendered(shown)
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|&#[0-9]{1,6};|[^\x00-\x7f])*", outside)
    if shown.startswith("`"):
        assert not set("`|\\") & set(shown[1:-1])


def test_hostile_values_in_every_file_leave_the_structure_as_it_is(run: Path, tmp_path: Path) -> None:
    structure = []
    for number, text in enumerate(["plain", *HOSTILE]):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = {"data": {"source": text, text: text}, "model": {"name": text, text: text}, "budget": text, "split": {"by": text}}
        job["recipe"] = {"techniques": [{"name": text, "value": text}], text: text}
        (folder / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
        technique = {"slot": text, "id": text, "version": text, "sha256": None}
        manifest = {
            "command": [text],
            "data": {"name": text, "rows": {text: text}},
            "git": {text: text},
            "environment": {"cpu": {text: text}},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest | {"techniques": [technique]}), encoding="utf-8")
        result = {"stop_reason": text, "metrics": {text: text}, "best": {"metric": text, "value": text, "step": text}}
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        event = {"kind": text, "step": 1, "at": text, "detail": {text: text}}
        lines = [
            event,
            event | {"kind": "failed"},
            event | {"kind": "environment_changed", "detail": {"differences": [{"path": text}]}},
        ]
        (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        outside = rendered(card(folder))
        structure.append(
            [re.sub(r"&#[0-9]+;|[A-Za-z0-9 ]|[^\x00-\x7f]", "", line) for line in outside if line.startswith(("#", "|", "-"))]
        )
    assert all(item == structure[0] for item in structure)


def test_it_is_written_where_it_was_asked_for_and_nowhere_else(run: Path, tmp_path: Path) -> None:
    assert write_card(run, tmp_path / "card.md").read_text(encoding="utf-8") == card(run)
    with pytest.raises(JobError, match="no folder"):
        write_card(run, tmp_path / "missing" / "card.md")
    with pytest.raises(JobError, match="is a folder"):
        write_card(run, tmp_path)
    with pytest.raises(RunFolderError, match="holds no run"):
        write_card(tmp_path, tmp_path / "other.md")
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]
