"""The page about run folders is true: what it lists is what a run leaves behind, and what it promises is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stepwell.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "run-folder.md"
JOB = """
data: {source: iris}
split: {validation: 0.2, test: 0.2, by: stratified}
model: {name: mlp, hidden: [8]}
task: classification
recipe: {objective: cross_entropy, optimizer: {name: adamw, lr: 1e-2}, batch_size: 30}
budget: 4 epochs
keep: 2
seed: 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page")
    (place / "job.yaml").write_text(JOB, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["train", str(place / "job.yaml"), "--out", str(place / "run"), "--quiet"])
    assert ended.value.code == 0
    return place / "run"


def test_the_page_lists_what_a_run_leaves_behind(folder: Path) -> None:
    listed = set(re.findall(r"^  (\w[\w.]*)/? ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {path.name for path in folder.iterdir() if path.suffix != ".png"} == listed


def test_seed_versions_hardware_and_data_are_on_record(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 3
    assert {"python", "torch", "stepwell"} <= manifest["versions"].keys()
    assert manifest["hardware"]
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["data"]["fingerprint"])


def test_no_file_of_a_run_is_a_pickle(folder: Path) -> None:
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    assert suffixes <= {".yaml", ".json", ".jsonl", ".csv", ".safetensors", ".html", ".png"}


def test_as_many_checkpoints_stay_as_the_job_keeps_and_the_newest_is_one(folder: Path) -> None:
    steps = sorted(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())
    assert steps[-1] == 12  # 90 flowers in batches of 30, four times
    assert steps[-2:] == [9, 12]
    assert len(steps) <= 3  # the two newest, and the best beside them


def test_the_job_on_record_runs_again_to_the_same_metrics(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", str(folder / "job.yaml"), "--out", str(tmp_path / "again"), "--quiet"])
    assert ended.value.code == 0
    for name in ("train.csv", "validation.csv"):
        assert (tmp_path / "again" / "metrics" / name).read_bytes() == (folder / "metrics" / name).read_bytes()
