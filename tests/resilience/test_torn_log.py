"""T1 for the event log: a last line that a kill or a power cut left unfinished is told as that, never as a changed history."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from audited import audited
from counted import report
from crash_points import stopped_run
from forked import done, forked
from small_runs import differences, kill_this_process, remains, train
from system_calls import Call, Calls, put_in

from stepwell.engine.records.event_log import read_events


@pytest.mark.parametrize("ended", [False, True], ids=["a run that was killed", "a run that has ended"])
def test_a_last_line_that_was_cut_at_any_byte_is_unfinished_and_not_a_broken_link(
    memory: Path, loaded: None, ended: bool
) -> None:
    if ended:
        done(lambda: train("ema", memory / "run"))
    else:
        stopped_run("ema", memory / "run", saving="wait")
    path = memory / "run" / "events.jsonl"
    content, found = path.read_bytes(), Counter[str]()
    start = content.rindex(b"\n", 0, -1) + 1
    problems = []
    for size in range(start, len(content)):
        for rest in (b"", b"\0" * 40):  # a power cut can leave room that was never written
            path.write_bytes(content[:size] + rest)
            problems += [f"cut at {size - start}: {problem}" for problem in audited(memory / "run", found)]
    assert problems == []
    torn = 2 * (len(content) - start) - 1  # a whole line taken off the end leaves a log that fits
    report("T1 torn ends of the log", floors={"torn_end": torn, "audits": 300}, **found)


@pytest.mark.parametrize("size", [1, 60, 200])
def test_a_run_whose_log_was_torn_goes_on_and_puts_the_cut_on_record(memory: Path, loaded: None, size: int) -> None:
    done(lambda: train("ema", memory / "whole"))
    stopped_run("ema", memory / "run", saving="wait")
    path = memory / "run" / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-size])
    done(lambda: train("ema", memory / "run", saving="wait"))
    assert differences(remains(memory / "run"), remains(memory / "whole")) == []
    assert [event.kind for event in read_events(path)].count("log_cut") == 1
    assert audited(memory / "run", Counter(), ended=True) == []


class Torn(Calls):
    """Kills the process in the middle of its nth write to the event log."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth

    def at(self, call: Call, go_on: object) -> object:
        assert callable(go_on)
        if call.kind == "write" and call.path.endswith("events.jsonl"):
            self.left -= 1
            if self.left < 0:
                go_on(call.args[0], call.args[1][: len(call.args[1]) // 2])
                kill_this_process()
        return go_on()


@pytest.mark.parametrize("stride", [pytest.param(4, id="share"), pytest.param(1, id="full", marks=pytest.mark.slow)])
def test_a_kill_in_the_middle_of_a_line_of_the_log_is_no_tampering_and_the_run_ends_with_the_same_bytes(
    memory: Path, loaded: None, stride: int
) -> None:
    done(lambda: train("ema", memory / "whole"))
    expected, lines = remains(memory / "whole"), len(read_events(memory / "whole" / "events.jsonl"))
    problems, found = [], Counter[str]()
    for nth in range(0, lines, stride):
        folder = memory / str(nth)

        def torn(folder: Path = folder, nth: int = nth) -> None:
            put_in(Torn(nth))
            train("ema", folder)

        assert forked(torn).killed
        problems += audited(folder, found)
        done(lambda folder=folder: train("ema", folder))
        problems += audited(folder, found, ended=True) + differences(remains(folder), expected)
        shutil.rmtree(folder)
    assert problems == []
    kills = -(-lines // stride)
    report("T1 kills in a line of the log", floors={"torn_end": kills, "chain_holds": kills}, kills=kills, **found)
