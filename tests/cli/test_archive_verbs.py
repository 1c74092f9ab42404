"""runs, runs clean, export and import, as a person calls them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from table_job import call, content


def test_runs_lists_with_and_without_a_folder_and_takes_conditions(with_run: Path) -> None:
    (with_run / "runs").mkdir()
    (with_run / "run").rename(with_run / "runs" / "first")
    listed = call("runs")
    assert listed.code == 0
    assert listed.out.splitlines()[1].split()[:4] == ["first", "finished", "mlp", "binary"]
    assert call("runs", "runs", "--sort", "size", "--limit", "1").out == listed.out
    assert call("runs", "--where", "recipe.optimizer.name=adamw").out == "no runs\n"
    assert "Did you mean 'recipe'" in call("runs", "list", "--where", "recipes.batch_size=8").mistake()[2]
    assert "there is no folder gone" in call("runs", "gone").mistake()[0]
    assert "clean" in call("runs", "--help").out


def test_clean_changes_nothing_until_it_is_told_to(with_run: Path) -> None:
    before = content(with_run)
    told = call("runs", "clean", ".", "--keep", "1")
    assert told.code == 0
    assert told.out.endswith("add --yes to do it\n")
    assert content(with_run) == before
    done = call("runs", "clean", ".", "--keep", "1", "--yes")
    assert done.out.splitlines()[-1] == told.out.splitlines()[-1].replace("would remove", "removed").split(";")[0]
    after = content(with_run, but=("lock",))
    gone = {name for name in before if name not in after and not name.endswith("lock")}
    assert gone
    assert all("checkpoints/step-" in name for name in gone)
    assert call("runs", "clean", ".", "--keep", "1").out == "nothing to remove\n"
    assert "older is 'soon'" in call("runs", "clean", ".", "--older", "soon").mistake()[0]


def test_export_prints_the_lines_that_load_it(with_run: Path) -> None:
    done = call("export", "run", "--to", "safetensors")
    assert done.code == 0
    assert done.out.startswith("model.safetensors, model.json, load.py in run-safetensors\n")
    assert "read_delivered(folder)" in done.out
    assert load_file("run-safetensors/model.safetensors").keys() == load_file("run/model/model.safetensors").keys()
    assert "exists already" in call("export", "run", "--to", "safetensors").mistake()[0]
    assert call("export", "run", "--to", "pickle").code == 2


def test_import_converts_a_file_and_says_how_to_go_on(here: Path) -> None:
    torch.save({"net": torch.nn.Linear(2, 1).state_dict()}, here / "old.pt")
    assert "--key net" in call("import", "old.pt").mistake()[2]
    done = call("import", "old.pt", "--key", "net")
    assert done.code == 0
    assert done.out.splitlines()[0].startswith("2 tensors of 'net', ")
    assert done.out.splitlines()[-1] == "start a job from it with init_from: old.safetensors"
    assert set(load_file(here / "old.safetensors")) == {"weight", "bias"}
