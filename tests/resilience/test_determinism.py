"""T20: the determinism levels L0, L2 and L3 hold to the byte. (L1, kills and resumes, has suites of its own.)"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counted import report
from torch import Tensor, nn
from torch.utils.data import Dataset

import stepwell
from stepwell.engine.records.checkpoint import checkpoints

# Each recipe draws somewhere: dropout in the model, mixing, noise, dropped layers; and keeps state somewhere.
RECIPES: dict[str, dict[str, Any]] = {
    "adamw, one cycle, mixup, ema": {
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "schedule": "one_cycle",
        "techniques": ["mixup", {"name": "ema", "half_life": "3 steps"}, {"name": "clip_norm", "max_norm": 0.5}],
    },
    "sgd, swa, micro-batches": {
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "techniques": [{"name": "swa", "start": "40%", "every": "2 steps"}, "label_smoothing"],
        "micro_batch_size": 4,
    },
    "muon, hidden mixup, tensors": {
        "optimizer": {"name": "muon"},
        "techniques": [{"name": "hidden_mixup", "at": "2", "alpha": 0.4}],
        "plan": "tensors",
    },
    "lion, fp16": {"optimizer": {"name": "lion", "lr": 1e-3}, "schedule": "cosine", "precision": "fp16"},
}
NUM, STEPS = 44, 24


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Samples with noise from each of the global generators, as users' datasets draw it."""

    def __init__(self, num: int = NUM) -> None:
        self.inputs, self.targets = tensors(num)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        scale = 1.0 + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return self.inputs[index] * scale + 0.1 * torch.randn(6), self.targets[index]


def tensors(num: int = NUM) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num, 6, generator=torch.Generator().manual_seed(1))
    return inputs, (inputs.abs().sum(1) * 0.8).long() % 3


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 12), nn.Linear(12, 3))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def trained(name: str, data: Any = None, **settings: Any) -> Any:
    recipe = stepwell.Recipe(objective="cross_entropy", batch_size=8, **RECIPES[name])
    settings = {"val": tensors(20), "budget": f"{STEPS} steps", "seed": 7, "log_every": "2 steps"} | settings
    return stepwell.fit(network(), tensors() if data is None else data, recipe=recipe, **settings)


def weight_bytes(run: Any) -> bytes:
    """Names, kinds, shapes and raw bytes of what was delivered, spelled out here rather than by the package."""
    state = run.model.state_dict()
    return b"".join(
        f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes() for name, value in sorted(state.items())
    )


def row_bytes(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(
        [{key: value.hex() if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    ).encode()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a run that holds no time and no place: job, metrics, checkpoints, weights."""
    files = [folder / "job.yaml", *folder.glob("metrics/**/*"), *folder.glob("checkpoints/step-*/*"), *folder.glob("model/*")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


CHILD = """
import json, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_determinism import RECIPES, digests, trained
print(json.dumps({{name: digests(trained(name, out=Path({out!r}, str(number))).folder) for number, name in enumerate(RECIPES)}}))
"""


def trained_elsewhere(out: Path, hash_seed: str) -> dict[str, dict[str, str]]:
    """Every recipe trained in a process of its own; what the files of each run hash to."""
    code = CHILD.format(here=str(Path(__file__).parent), out=str(out))
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("hash_seed", ["0", pytest.param("1", marks=pytest.mark.slow), pytest.param("2", marks=pytest.mark.slow)])
def test_l0_the_same_job_in_another_process_leaves_the_same_bytes(tmp_path: Path, hash_seed: str) -> None:
    """Even in one that hashes texts otherwise, and so walks through sets of them in another order."""
    here = {name: digests(trained(name, out=tmp_path / "here" / str(number)).folder) for number, name in enumerate(RECIPES)}
    there = trained_elsewhere(tmp_path / "there", hash_seed)
    for name, found in here.items():
        assert {"job.yaml", "model/model.safetensors"} <= found.keys() == there[name].keys()
        assert any(file.startswith("metrics/") for file in found)
        assert sum(file.endswith("state.safetensors") for file in found) >= 2
    files = [(name, file) for name, found in here.items() for file in found]
    unequal = [(name, file) for name, file in files if there[name][file] != here[name][file]]
    assert unequal == []
    report(
        "T20 L0 run to run",
        floors={"pairs_of_runs": 4, "files_equal": 40},
        pairs_of_runs=len(RECIPES),
        files_compared=len(files),
        files_equal=len(files) - len(unequal),
    )


def test_l0_another_seed_leaves_other_bytes() -> None:
    """The comparison can fail."""
    for name in RECIPES:
        assert weight_bytes(trained(name)) != weight_bytes(trained(name, seed=8))


@pytest.mark.parametrize("name", RECIPES)
def test_l2_any_number_of_workers_gives_the_same_bytes(name: str) -> None:
    runs = [trained(name, Augmented(), val=Augmented(20), workers=workers) for workers in (0, 1, 2)]
    weights = [weight_bytes(run) for run in runs]
    rows = [row_bytes(run.history.train) + row_bytes(run.history.validation) for run in runs]
    assert weights[1:] == weights[:1] * 2
    assert rows[1:] == rows[:1] * 2
    assert weight_bytes(trained(name)) != weights[0], "the noise of the samples reaches the weights"
    report("T20 L2 workers", floors={"runs": 3}, runs=3, equal_to_no_workers=2)


@pytest.mark.slow
def test_l2_workers_that_are_started_afresh_give_the_same_bytes(tmp_path: Path) -> None:
    """Spawned workers inherit nothing: neither generators nor hash seed."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import torch, hashlib\n"
        "from test_determinism import Augmented, trained, weight_bytes\n"
        "if __name__ == '__main__':\n"
        "    torch.set_num_threads(1)\n"
        "    torch.multiprocessing.set_start_method(sys.argv[1])\n"
        "    run = trained('adamw, one cycle, mixup, ema', Augmented(), val=None, workers=int(sys.argv[2]))\n"
        "    print(hashlib.sha256(weight_bytes(run)).hexdigest())\n"
    )
    (tmp_path / "child.py").write_text(code, encoding="utf-8")
    found = []
    for words in (["fork", "0"], ["fork", "2"], ["spawn", "1"], ["forkserver", "2"]):
        done = subprocess.run([sys.executable, "child.py", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        found.append(done.stdout.split()[-1])
    assert found[1:] == found[:1] * 3
    report("T20 L2 start methods", floors={"runs": 4}, runs=4, equal_to_no_workers=3)


class Watching:
    """A watcher that draws from every global generator and seeds them too, at every row and evaluation."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.calls, self.pages = folder, 0, 0

    def _meddle(self) -> None:
        self.calls += 1
        random.seed(self.calls)
        np.random.seed(self.calls)
        torch.manual_seed(self.calls)
        torch.rand(self.calls)

    def start(self, total_steps: int, epoch_steps: int | None) -> None:
        self._meddle()

    def step(self, row: dict[str, float]) -> None:
        self._meddle()

    def evaluated(self, found: Any) -> None:
        self._meddle()
        if self.folder is not None and not self.pages:
            self.pages += 1
            stepwell.write_report(self.folder)

    def event(self, event: Any) -> None:
        self._meddle()

    def finish(self) -> None:
        self._meddle()


TOOLS: dict[str, dict[str, Any]] = {
    "a row each step": {"log_every": "1 steps"},
    "a row every seven steps": {"log_every": "7 steps"},
    "no evaluation": {"val": None},
    "an evaluation each step": {"evaluate_every": "1 steps"},
    "an evaluation every seven steps": {"evaluate_every": "7 steps"},
    "other validation data": {"val": tensors(9)},
    "a checkpoint each step": {"out": "run", "checkpoint_every": "1 steps"},
    "a checkpoint every seven steps": {"out": "run", "checkpoint_every": "7 steps", "keep": 5},
    "checkpoints that are waited for": {"out": "run", "checkpoint_every": "2 steps", "saving": "wait"},
    "a watcher that draws and seeds": {"progress": Watching},
}


@pytest.mark.parametrize("name", RECIPES)
def test_l3_whatever_watches_leaves_the_weights_as_they_are(name: str, tmp_path: Path) -> None:
    plain = weight_bytes(trained(name))
    same = 0
    for number, (tool, settings) in enumerate(TOOLS.items()):
        settings = dict(settings)
        if "out" in settings:
            settings["out"] = tmp_path / str(number)
        if "progress" in settings:
            settings["progress"] = Watching()
        run = trained(name, **settings)
        assert weight_bytes(run) == plain, tool
        same += 1
        if "out" in settings:
            assert checkpoints(run.folder / "checkpoints"), "it was saved"
        if "progress" in settings:
            assert settings["progress"].calls > STEPS // 2
    report("T20 L3 tools", floors={"tools": 10}, tools=same, equal_weights=same)


@pytest.mark.parametrize("name", RECIPES)
def test_l3_the_statistics_of_layers_leave_the_weights_as_they_are(name: str) -> None:
    plain = trained(name)
    with_it = [*RECIPES[name].get("techniques", []), {"name": "layer_statistics", "every": "2 steps"}]
    recipe = stepwell.Recipe(objective="cross_entropy", batch_size=8, **RECIPES[name] | {"techniques": with_it})
    seen = stepwell.fit(
        network(), tensors(), val=tensors(20), recipe=recipe, budget=f"{STEPS} steps", seed=7, log_every="2 steps"
    )
    assert len(seen.history.layers) >= STEPS // 2
    assert weight_bytes(seen) == weight_bytes(plain)
    assert row_bytes(seen.history.train) == row_bytes(plain.history.train)
    report("T20 L3 tools", tools=1, equal_weights=1)


@pytest.mark.slow
def test_l3_a_report_drawn_while_training_goes_on_changes_nothing(tmp_path: Path) -> None:
    name = next(iter(RECIPES))
    watcher = Watching(tmp_path / "run")
    run = trained(name, out=tmp_path / "run", progress=watcher)
    assert watcher.pages == 1
    assert weight_bytes(run) == weight_bytes(trained(name))
    before = digests(tmp_path / "run")
    stepwell.write_report(tmp_path / "run")
    assert digests(tmp_path / "run") == before
    report("T20 L3 tools", tools=1, equal_weights=1)
