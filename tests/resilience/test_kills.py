"""T1: a run that is killed at any instant, any number of times, ends with the bytes of the run that nobody killed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from audited import STANDS, audited
from counted import report
from crash_points import (
    SAVED,
    calls_of_a_save,
    disorder_of_a_save,
    kill_at_each,
    stopped_run,
    unflushed_replacements,
)
from forked import done, forked
from killing import Kills, chain, whole_run
from small_runs import VARIANTS, count_calls, differences, kill_this_process, remains, temporaries, train
from system_calls import Call, Listed, put_in

Whole = Callable[[str], tuple[dict[str, bytes], float]]


@pytest.fixture(scope="module")
def whole(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What remains of a variant's uninterrupted run, and its seconds; each is run once."""
    known: dict[str, tuple[dict[str, bytes], float]] = {}

    def run(variant: str) -> tuple[dict[str, bytes], float]:
        if variant not in known:
            known[variant] = whole_run(variant, tmp_path_factory.mktemp("whole") / variant)
        return known[variant]

    return run


@pytest.mark.slow
def test_two_uninterrupted_runs_of_each_variant_leave_the_same_bytes(whole: Whole, memory: Path) -> None:
    """Without this, equal bytes after a kill could not be asked for."""
    for variant in VARIANTS:
        done(lambda variant=variant: train(variant, memory / variant))
        assert differences(remains(memory / variant), whole(variant)[0]) == []


def stands(audits: Counter[str]) -> dict[str, int]:
    """How often the event log stood how, the same names each time."""
    return {name: audits[name] for name in ("audits", *STANDS)}


def chains(num: int, whole: Whole, memory: Path, seed: int) -> Kills:
    kills, draw = Kills(), random.Random(seed)
    for number in range(num):
        for variant in VARIANTS:
            expected, seconds = whole(variant)
            folder = memory / f"{variant}-{number}"
            chain(variant, folder, expected, kills=kills, draw=draw, seconds=seconds)
    return kills


CLASSES = ("in_save", "in_evaluation", "at_epoch_border", "after_resume", "in_one_epoch")


@pytest.mark.parametrize(
    ("num", "least", "seed"),
    [
        pytest.param(1, 25, 0, id="share"),
        pytest.param(8, 200, 1, id="full", marks=pytest.mark.slow),
        pytest.param(40, 1000, 2, id="soak", marks=pytest.mark.soak),
    ],
)
def test_chains_of_kills_end_with_the_bytes_of_the_uninterrupted_run(
    whole: Whole, memory: Path, num: int, least: int, seed: int
) -> None:
    kills = chains(num, whole, memory, seed)
    assert kills.problems == []
    # Of 1,000 kills at least 100 in a save and so on; of the share per commit a few, for it is small.
    floors = {"kills": least} | dict.fromkeys(CLASSES, 2 if num == 1 else least // 10)
    classes = {name: kills.by_class[name] for name in [*CLASSES, "between", "before_training", "after_training"]}
    report("T1 random kills", floors=floors, kills=kills.trials, chains=kills.chains, **classes)
    told_of = kills.trials + kills.chains  # one after each kill, one at each end
    report("T1 audits after random kills", floors={"audits": told_of, "chain_holds": least}, **stands(kills.audits))
    lost = {"measured": kills.lost.total(), "an_interval_or_less": 0, "more": 0} | kills.lost
    report("T1 lost work", floors={"measured": least // 2}, **lost)


@pytest.mark.parametrize("mode", ["wait", "background"])
@pytest.mark.parametrize("stride", [pytest.param(17, id="share"), pytest.param(1, id="full", marks=pytest.mark.slow)])
def test_a_kill_before_or_after_any_call_of_a_save_leaves_two_whole_checkpoints_and_ends_with_the_same_bytes(
    whole: Whole, memory: Path, mode: str, stride: int
) -> None:
    expected, _ = whole("ema")
    stopped_run("ema", memory / "stopped", saving=mode)
    stopped_run("ema", memory / "counted", saving=mode)
    calls = calls_of_a_save("ema", memory / "counted", mode=mode)
    assert {"mkdir", "open", "write", "fsync", "fsync folder", "close", "rename", "unlink", "rmdir"} <= {
        call.kind for call in calls
    }
    points = [(number, side) for number in range(len(calls)) for side in ("before", "after")]
    chosen = points[(mode == "wait") % stride :: stride]
    audits: Counter[str] = Counter()
    found = dict(kill_at_each("ema", memory / "stopped", memory, expected, mode=mode, points=chosen, audits=audits))
    assert {point: problems for point, problems in found.items() if problems} == {}
    report("T1 calls of one save", floors={"kills": len(points) // stride}, calls=len(calls), kills=len(found))
    report("T1 audits around one save", floors={"audits": 2 * len(found), "chain_holds": 2 * len(found)}, **stands(audits))


@pytest.mark.parametrize("mode", ["wait", "background"])
def test_a_save_makes_its_calls_in_the_order_that_survives_a_power_cut(whole: Whole, memory: Path, mode: str) -> None:
    stopped_run("ema", memory / "run", saving=mode)
    assert disorder_of_a_save(calls_of_a_save("ema", memory / "run", mode=mode), SAVED) == []


def calls_of_a_run(folder: Path) -> list[tuple[str, str, str]]:
    def work() -> list[tuple[str, str, str]]:
        stand_in = Listed()
        put_in(stand_in)
        train("ema", folder)
        return [(call.kind, call.path, call.old) for call in stand_in.calls]

    return [tuple(call) for call in done(work)]


def test_every_file_that_is_replaced_was_flushed_before_and_its_folder_afterwards(whole: Whole, memory: Path) -> None:
    calls = [Call(*call) for call in calls_of_a_run(memory / "run")]
    assert sum(call.kind == "replace" for call in calls) >= 3
    assert unflushed_replacements(calls) == []


@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(70, id="share"),
        pytest.param(12, id="full", marks=pytest.mark.slow),
        pytest.param(1, id="soak", marks=pytest.mark.soak),
    ],
)
def test_a_kill_at_any_storage_call_of_a_whole_run_ends_with_the_same_bytes(whole: Whole, memory: Path, stride: int) -> None:
    expected, _ = whole("dropout")
    total = len(calls_of_a_run(memory / "counted"))
    kills, problems, audits = 0, [], Counter[str]()
    for target in range(0, total, stride):
        folder = memory / f"at-{target}"

        def work(folder: Path = folder, target: int = target) -> None:
            count_calls(lambda number, side, call: kill_this_process() if (number, side) == (target, "after") else None)
            train("dropout", folder)

        kills += forked(work).killed
        problems += [f"call {target}: {problem}" for problem in audited(folder, audits)]
        ended = forked(lambda folder=folder: train("dropout", folder))
        if ended.code != 0:
            problems.append(f"call {target}: exit {ended.code}: {ended.error}")
            continue
        problems += [f"call {target}: {name} differs" for name in differences(remains(folder), expected)]
        problems += [f"call {target}: {name} was left" for name in temporaries(folder)]
        problems += [f"call {target}: {problem}" for problem in audited(folder, audits, ended=True)]
    assert problems == []
    report("T1 calls of a run", floors={"kills": total // stride * 9 // 10}, calls=total, kills=kills)
    report("T1 audits of a run", floors={"audits": 2 * kills, "chain_holds": kills * 18 // 10}, **stands(audits))


def test_a_kill_while_nothing_but_the_interpreter_runs_is_seen_as_a_kill(loaded: None) -> None:
    """The harness can tell a killed child from one that ended."""
    assert forked(lambda: os.kill(os.getpid(), 9)).killed
    assert not forked(lambda: None).killed
