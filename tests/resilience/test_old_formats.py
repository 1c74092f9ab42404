"""T19: a run that an earlier version left behind is loaded by this one and goes on to the same end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from counted import report
from forked import done
from safetensors.torch import load_file

from stepwell.engine.records.checkpoint import SCHEMA, checkpoints, load_checkpoint

FORMATS = Path(__file__).parents[1] / "engine" / "formats"
STORED = sorted(FORMATS.glob("checkpoint-*"))
STOPPED, BUDGET = 40, 45  # steps


def test_a_run_of_every_released_format_is_stored() -> None:
    assert [path.name for path in STORED] == [f"checkpoint-{number}" for number in range(1, SCHEMA + 1)]


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.name)
def test_a_stored_checkpoint_loads(stored: Path) -> None:
    state = load_checkpoint(checkpoints(stored / "run" / "checkpoints")[0])
    assert state["step"]["clock"]["steps"] == STOPPED


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.name)
def test_a_stored_run_goes_on_to_the_end_it_had_when_it_was_never_stopped(memory: Path, loaded: None, stored: Path) -> None:
    shutil.copytree(stored / "run", memory / "run")

    def work() -> int:
        from stepwell.recipe.verbs import resume

        torch.set_num_threads(2)  # as when it was made: bits depend on it
        return resume(memory / "run").steps

    assert done(work, limit=120.0) == BUDGET
    found, expected = (load_file(folder / "model.safetensors") for folder in (memory / "run" / "model", stored / "delivered"))
    assert found.keys() == expected.keys()
    same = all(found[name].numpy().tobytes() == expected[name].numpy().tobytes() for name in expected)
    for name in expected:  # on another processor than the one that made it, bits may differ
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)
    report("T19 old formats", floors={"went_on": 1}, went_on=1, same_bits=int(same))
