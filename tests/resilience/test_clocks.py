"""T17: time zones, a wall clock that jumps and times of files decide nothing."""

from __future__ import annotations

import datetime as calendar
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from counted import report
from crash_points import STOPPED_AT
from forked import done, forked
from small_runs import differences, kill_this_process, remains, train

from stepwell.engine.records.event_log import read_events

ZONES = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns")
HOUR, TEN_YEARS = 3600.0, 10 * 365.25 * 86400.0


def put_clock(zone: str, jump: float) -> None:
    """For the rest of this child's life: another zone, and a wall clock that is off; what is measured goes on as it was."""
    os.environ["TZ"] = zone
    time.tzset()
    real = time.time
    time.time = lambda: real() + jump
    time.time_ns = lambda: int((real() + jump) * 1e9)

    class Off(calendar.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(real() + jump, tz)

    for module in [module for name, module in sys.modules.items() if name.startswith("stepwell")]:
        if getattr(module, "datetime", None) is calendar.datetime:
            module.datetime = Off  # type: ignore[attr-defined]


def shuffle_times(folder: Path, draw: random.Random) -> int:
    """Give every file and folder another time, from 1980 to 2090."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        moment = draw.uniform(3e8, 3.8e9)
        os.utime(path, (moment, moment))
    return len(paths)


def decisions(folder: Path) -> list[tuple[str, int]]:
    return [(event.kind, event.step) for event in read_events(folder / "events.jsonl")]


@pytest.mark.parametrize("jump", [-HOUR, TEN_YEARS])
def test_zones_jumps_and_times_of_files_change_no_byte_and_no_decision(memory: Path, loaded: None, jump: float) -> None:
    def stop(folder: Path, zone: str) -> None:
        def aim(moment: str, step: int) -> None:
            if (moment, step) == ("stepped", 4):
                put_clock(zone, jump)  # in the middle of a run
            if (moment, step) == ("stepped", STOPPED_AT):
                kill_this_process()

        train("early_stopping", folder, aim=aim, saving="wait")

    def go_on(folder: Path, zone: str, by: float) -> None:
        put_clock(zone, by)
        train("early_stopping", folder, saving="wait")

    draw = random.Random(0)
    done(lambda: train("early_stopping", memory / "whole", saving="wait"))
    assert forked(lambda: stop(memory / "plain", "UTC")).killed
    done(lambda: train("early_stopping", memory / "plain", saving="wait"))
    trials = num_files = 0
    for index, zone in enumerate(ZONES):
        folder = memory / zone.replace("/", "-")
        assert forked(lambda folder=folder, zone=zone: stop(folder, zone)).killed
        num_files += shuffle_times(folder, draw)
        other = ZONES[(index + 1) % len(ZONES)]
        done(lambda folder=folder, other=other: go_on(folder, other, -jump))
        assert differences(remains(folder), remains(memory / "whole")) == []
        assert decisions(folder) == decisions(memory / "plain")
        trials += 1
    report("T17 clocks", floors={"trials": 6}, trials=trials, files_with_other_times=num_files)


def test_the_clock_of_these_trials_really_is_another_one(memory: Path, loaded: None) -> None:
    def work() -> list[Any]:
        put_clock("Asia/Kathmandu", TEN_YEARS)
        train("dropout", memory / "run")
        return [time.localtime(0).tm_min, read_events(memory / "run" / "events.jsonl")[0].at[:4]]

    minutes, year = done(work)
    assert minutes == 30  # half an hour off, in 1970
    assert int(year) >= calendar.datetime.now().year + 9
