"""`stepwell audit` on the command line: its table, its exit codes, the card, an expected head."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from table_job import call


@pytest.fixture
def copied(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of a finished run, to the byte."""
    shutil.copytree(trained / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_whole_run_ends_with_0_and_prints_its_head(copied: Path) -> None:
    answer = call("audit", "run", "--card", "card.md")
    assert answer.code == 0
    *rows, head, card = answer.out.splitlines()
    assert rows
    assert all(re.search(r" holds +\S", row) for row in rows)
    assert re.fullmatch(r"head: [0-9a-f]{64}", head)
    assert card == "card: card.md"
    assert "## Techniques" in Path("card.md").read_text(encoding="utf-8")
    assert call("audit", "run", "--expect", head.removeprefix("head: ")).code == 0


def test_a_changed_run_ends_with_1_and_names_the_line(copied: Path) -> None:
    log = copied / "run" / "events.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('"number": 2,', '"number": 7,'), encoding="utf-8")
    answer = call("audit", "run")
    assert answer.code == 1
    assert re.search(r"^event log +broken +line 2: ", answer.out, flags=re.MULTILINE)


def test_what_is_no_run_and_what_is_no_head_end_with_2(copied: Path) -> None:
    assert call("audit", ".").code == 2
    assert "64 hex digits" in call("audit", "run", "--expect", "abc").mistake()[1]
