"""T2: whatever the disk refuses, nothing counts as saved that is not, and earlier checkpoints stay good."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from counted import report
from forked import done, forked
from small_runs import STEPS, kill_this_process, remains, train
from write_faults import Fault, faults, trial


@pytest.fixture(scope="module")
def expected(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    done(lambda: train("ema", folder))
    return remains(folder)


@pytest.mark.parametrize(
    ("stride", "least"),
    [
        pytest.param(13, 20, id="share"),
        pytest.param(4, 60, id="full", marks=pytest.mark.slow),
        pytest.param(1, 192, id="soak", marks=pytest.mark.soak),
    ],
)
def test_a_refused_call_costs_no_checkpoint_and_never_counts_as_saved(
    memory: Path, expected: dict[str, bytes], stride: int, least: int
) -> None:
    how: Counter[str] = Counter()
    wrong = {}
    for number, fault in enumerate(list(faults())[::stride]):
        met, problems = trial(fault, memory / str(number), expected)
        how[met] += 1
        if problems:
            wrong[str(fault)] = problems
    assert wrong == {}
    counts = {"trials": how["went on"] + how["stopped"], "went_on": how["went on"], "stopped": how["stopped"]}
    report("T2 write faults", floors={"trials": least}, **counts, not_met=how["not met"])


@pytest.mark.parametrize("nth", [0, 1])
def test_a_checkpoint_that_is_written_anew_is_not_lost_when_the_new_one_can_not_take_its_place(
    memory: Path, expected: dict[str, bytes], nth: int
) -> None:
    """A run that is killed when its last checkpoint is saved writes it again when it goes on."""

    def aim(moment: str, step: int) -> None:
        if (moment, step) == ("saved", STEPS):
            kill_this_process()

    assert forked(lambda: train("ema", memory / "run", aim=aim)).killed
    met, problems = trial(Fault("EIO", "rename", "checkpoint", nth, after=-1), memory / "run", expected)
    assert problems == []
    assert met == "stopped"
    assert (memory / "run" / "checkpoints" / f"step-{STEPS}").is_dir()
