"""A technique from another package: one file and an entry point, nothing of stepwell touched, and it trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

TECHNIQUE = '''
"""Input noise, from outside."""
from dataclasses import replace

import torch

from stepwell.core.batch import Batch
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.randomness import Rng

__all__ = ["InputNoise", "input_noise"]
calls = 0


def input_noise(inputs, *, std, generator):
    """inputs + std * N(0, 1)."""
    return inputs + std * torch.randn(inputs.shape, generator=generator)


@technique(id="input_noise", slot="batch", paper="Bishop 1995, doi:10.1162/neco.1995.7.1.108", search={"std": (0.01, 1.0, "log")})
class InputNoise:
    """Add Gaussian noise to the inputs of each batch.

    Args:
        std: of the noise, in the inputs' own unit, > 0.
    """

    std: float = 0.1

    def __post_init__(self) -> None:
        require(self.std > 0, "input_noise.std", self.std, "a number above 0", "Leave input_noise out instead")

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        global calls
        calls += 1
        return replace(batch, inputs=input_noise(batch.inputs, std=self.std, generator=rng.generator()))
'''

SCRIPT = """
import contextlib, io, json
import torch, stepwell, outside_noise
from stepwell.cli.main import main
from stepwell.core.catalog import discover
from stepwell.core.errors import StepwellError

record = discover()["input_noise"]
found = {"slot": record.slot, "module": record.factory.__module__, "std": record.fields["std"].default}
found["search"] = record.fields["std"].search

x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
y = (x.sum(1) > 0).long()

def trained(*techniques):
    model = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    sgd = {"name": "sgd", "lr": 0.1}
    recipe = stepwell.Recipe(objective="cross_entropy", optimizer=sgd, batch_size=16, techniques=techniques)
    outside_noise.calls = 0
    run = stepwell.fit(model, (x, y), recipe=recipe, budget="2 epochs", seed=0, out=None)
    return {"calls": outside_noise.calls, "weights": run.model.weight.flatten().tolist()}

found["by name"] = trained({"name": "input_noise", "std": 0.5})
found["as object"] = trained(outside_noise.InputNoise(std=0.5))
found["without"] = trained()
try:
    stepwell.Recipe(objective="mse", optimizer={"name": "sgd", "lr": 0.1}, techniques=[{"name": "input_noise", "std": 0.0}])
except StepwellError as error:
    found["refusal"] = str(error)
for verb in (["explain", "job.yaml"], ["techniques", "show", "input_noise"]):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            main(verb)
        except SystemExit as ended:
            found[verb[0]] = [ended.code, shown.getvalue()]
print(json.dumps(found))
"""

JOB = """
data: {source: digits}
model: {name: mlp, hidden: [8]}
task: classification
recipe:
  objective: cross_entropy
  optimizer: {name: sgd, lr: 0.1}
  techniques: [{name: input_noise, std: 0.5}]
budget: 2 steps
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process sees that has the package installed: here, the files that an installer would leave behind."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "outside_noise.py").write_text(TECHNIQUE, encoding="utf-8")
    (folder / "job.yaml").write_text(JOB, encoding="utf-8")
    info = folder / "outside_noise-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-noise\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[stepwell.techniques]\ninput_noise = outside_noise\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    shown: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return shown


def test_an_entry_point_is_all_it_takes_to_be_found(found: dict[str, Any]) -> None:
    assert (found["slot"], found["module"], found["std"], found["search"]) == ("batch", "outside_noise", 0.1, [0.01, 1.0, "log"])


def test_a_technique_from_outside_acts_in_every_step_of_a_run(found: dict[str, Any]) -> None:
    assert found["by name"]["calls"] == 8  # 64 samples in batches of 16, twice
    assert found["without"]["calls"] == 0
    assert found["by name"]["weights"] != found["without"]["weights"]


def test_a_technique_from_outside_acts_the_same_when_handed_over_as_an_object(found: dict[str, Any]) -> None:
    assert found["by name"] == found["as object"]


def test_its_own_range_check_speaks_when_a_recipe_names_it(found: dict[str, Any]) -> None:
    assert "input_noise.std is 0.0; expected a number above 0" in found["refusal"]


def test_a_job_file_can_name_it_and_the_command_line_shows_its_card(found: dict[str, Any]) -> None:
    for verb in ("explain", "techniques"):
        code, shown = found[verb]
        assert code == 0
        assert "input_noise" in shown
