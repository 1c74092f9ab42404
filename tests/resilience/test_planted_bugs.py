"""The suites notice: each planted bug turns the very check red that guards against it."""

from __future__ import annotations

import random
from pathlib import Path

import planted
import pytest
import torch
from corruptions import flips, older, unnoticed
from counted import report
from crash_points import (
    SAVED,
    calls_of_a_save,
    disorder_of_a_save,
    kill_at_each,
    stopped_run,
)
from forked import done
from hostile_jobs import DOCUMENTS, read_although_hostile
from killing import Kills, chain, whole_run
from planted import Plant
from small_runs import VARIANTS
from write_faults import Fault, trial

Expected = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def expected(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    place = tmp_path_factory.mktemp("whole")
    return {variant: whole_run(variant, place / variant)[0] for variant in ("ema", "dropout")}


@pytest.mark.parametrize(
    ("bug", "tell"),
    [
        (planted.nothing, None),
        (planted.no_flush_of_files, "before it was flushed"),
        (planted.no_flush_of_folders, "not flushed after the rename"),
        (planted.prune_first, "removed before the new one was read back"),
    ],
)
def test_the_order_of_calls_tells_of_missing_flushes_and_of_early_pruning(
    memory: Path, loaded: None, bug: Plant, tell: str | None
) -> None:
    stopped_run("ema", memory / "run", saving="wait")
    problems = disorder_of_a_save(calls_of_a_save("ema", memory / "run", mode="wait", plant=bug), SAVED)
    assert any(tell in problem for problem in problems) if tell else problems == []
    report("planted bugs", noticed=int(tell is not None))


@pytest.mark.parametrize(("bug", "red"), [(planted.nothing, False), (planted.prune_first, True)])
def test_a_kill_in_the_middle_of_a_save_tells_of_early_pruning(memory: Path, expected: Expected, bug: Plant, red: bool) -> None:
    stopped_run("ema", memory / "stopped", saving="wait")
    trials = kill_at_each(
        "ema", memory / "stopped", memory, expected["ema"], mode="wait", points=[(6, "after"), (12, "after")], plant=bug
    )
    problems = [problem for _, found in trials for problem in found]
    assert ("only 1 whole checkpoints" in problems) == red, problems
    assert bool(problems) == red
    report("planted bugs", noticed=int(red))


@pytest.mark.parametrize(
    ("bug", "variant", "red"),
    [
        (planted.nothing, "ema", False),
        (planted.data_position_restored_early, "ema", True),
        (planted.noise_restored_early, "dropout", True),
        (planted.average_counter_dropped, "ema", True),
        (planted.rows_kept, "dropout", True),
    ],
)
def test_a_chain_of_kills_tells_of_state_that_does_not_come_back(
    memory: Path, expected: Expected, bug: Plant, variant: str, red: bool
) -> None:
    assert variant in VARIANTS
    kills, draw = Kills(), random.Random(3)
    # What a run leaves that nobody interrupts is the same with these bugs, but for noise that depends on the process.
    whole = expected[variant] if bug is not planted.noise_restored_early else whole_run(variant, memory / "whole", plant=bug)[0]
    for number in range(2):
        chain(variant, memory / str(number), whole, kills=kills, draw=draw, seconds=0.1, plant=bug)
    assert bool(kills.problems) == red, kills.problems
    assert not any(" exit " in problem for problem in kills.problems)  # bytes differ: no bug ended a run
    report("planted bugs", noticed=int(red))


@pytest.mark.parametrize(("bug", "red"), [(planted.nothing, False), (planted.checksums_skipped, True)])
def test_flipped_bits_tell_of_skipped_checksums(memory: Path, loaded: None, bug: Plant, red: bool) -> None:
    def work() -> list[str]:
        bug()
        from stepwell.engine.records.checkpoint import save_checkpoint

        problems = []
        for number in range(6):
            folder = memory / str(number) / "checkpoints"
            for step in (5, 12):
                save_checkpoint(folder, {"weights": torch.full((50, 50), float(step))}, step=step)
            case = next(iter(flips(folder, 6, random.Random(number))))  # in the tensors
            before = {path.name: path.read_bytes() for path in older(folder).iterdir()}
            problems += [problem for problem in unnoticed(folder, case, before, []) if "told" not in problem]
        return problems

    problems = done(work)
    assert ("the damaged one was loaded" in problems) == red, problems
    assert bool(problems) == red
    report("planted bugs", noticed=int(red))


@pytest.mark.parametrize(("bug", "red"), [(planted.nothing, False), (planted.unsafe_yaml, True)])
def test_hostile_job_files_tell_of_an_unsafe_loader(memory: Path, loaded: None, bug: Plant, red: bool) -> None:
    def work() -> list[str]:
        bug()
        return read_although_hostile(memory)

    problems = done(work)
    assert ("a tag that calls did what it says" in problems) == red, problems
    assert bool(problems) == red
    report("planted bugs", noticed=int(red))
    report("hostile YAML", documents=len(DOCUMENTS) * (not red))


@pytest.mark.parametrize(("bug", "red"), [(planted.nothing, False), (planted.failures_called_saved, True)])
def test_a_full_disk_tells_of_saves_that_only_say_so(memory: Path, expected: Expected, bug: Plant, red: bool) -> None:
    _, problems = trial(Fault("ENOSPC", "write", "checkpoint"), memory / "run", expected["ema"], plant=bug)
    assert bool(problems) == red, problems
    assert any("counts as saved" in problem for problem in problems) == red
    report("planted bugs", noticed=int(red))
