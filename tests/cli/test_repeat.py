"""verify, replay and diff on the command line: what they answer, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from table_job import CLASSES, HEADER, call, content, row, rows, write

from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, save_checkpoint


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, job=CLASSES)
    assert call("train", "job.yaml", "--out", "run", "--quiet").code == 0
    return tmp_path / "run"


def test_a_run_is_verified_replayed_and_compared_with_its_replay(run: Path) -> None:
    before = content(run)
    verified = call("verify", "run")
    assert (verified.code, verified.err) == (0, "")
    assert verified.out.splitlines()[0] == "identical: steps 9 to 12 of run, computed again"
    assert "metrics    4 rows compared, the same" in verified.out
    replayed = call("replay", "run", "--quiet")
    assert (replayed.code, replayed.err) == (0, "")
    assert replayed.out.startswith("identical: run, trained again into ")
    compared = call("diff", "run", "run-replay")
    assert compared.code == 0
    assert compared.out.splitlines()[:3] == ["A  run", "B  run-replay", "the same: job, environment, packages, data, events"]
    assert "no difference in the 16 rows that both logged" in compared.out
    assert content(run) == before, "none of them writes to the run"


def test_a_difference_ends_with_exit_code_1_and_its_reason(run: Path) -> None:
    place = checkpoints(run / "checkpoints")[0]
    state = load_checkpoint(place)
    name = next(iter(state["step"]["model"]))
    state["step"]["model"][name] += 1e-3
    save_checkpoint(place.parent, state, step=12)
    unexplained = call("verify", "run")
    assert unexplained.code == 1
    assert unexplained.out.startswith("different with equal fingerprint: steps 9 to 12 of run")
    assert f"first tensor  model/{name}: " in unexplained.out
    record = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    record["environment"]["torch"]["version"] = "1.0"
    (run / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    changed = call("verify", "run")
    assert changed.code == 1
    assert changed.out.startswith("different, because torch.version changed: steps 9 to 12 of run")
    assert max(map(len, (unexplained.out + changed.out).splitlines())) <= 100


def test_changed_data_is_the_reason_before_anything_is_computed(run: Path) -> None:
    (run.parent / "credit.csv").write_text(HEADER + rows(39) + row(77), encoding="utf-8")
    verified = call("verify", "run")
    assert verified.code == 1
    assert verified.out.startswith("different, because data.fingerprint changed: steps 9 to 12 of run, not computed again")
    assert call("replay", "run").mistake()[0].startswith("the data has changed since ")
    (run.parent / "credit.csv").unlink()
    assert "does not exist" in call("verify", "run").mistake()[0]


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "nowhere"],
        ["verify", "."],
        ["verify", "credit.csv"],
        ["verify", "run", "--steps", "0"],
        ["verify", "run", "--steps", "2"],
        ["replay", "nowhere"],
        ["replay", "run", "--out", "run"],
        ["diff", "run", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_told_in_three_lines(run: Path, words: list[str]) -> None:
    answer = call(*words)
    assert answer.code == 2
    answer.mistake()
