"""Logs of rows under kills at every call, torn lines, and readers that look at every moment and from other processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counted import report
from forked import Child
from system_calls import Call, Calls

from stepwell.engine.records import metric_log, storage
from stepwell.engine.records.metric_log import MetricLog

ROWS = 8  # of a chunk here


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log, "CHUNK", ROWS)


def row(number: int) -> dict[str, Any]:
    return {"step": number, "loss": number / 3} | ({"late": math.inf} if number > 10 else {})


def whole(rows: int) -> list[dict[str, Any]]:
    return [row(number) for number in range(rows)]


class Killed(BaseException):
    """The process is gone: nothing after it happens."""


class KilledAt(Calls):
    """Ends everything at the k-th call that changes something: before it, after it, or (of a write) in the middle."""

    def __init__(self, place: int, when: str) -> None:
        super().__init__()
        self.left, self.when, self.dead = place, when, False

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        if self.dead:
            raise Killed
        if call.kind in ("open to read", "read", "close"):
            return go_on()
        self.left -= 1
        if self.left >= 0:
            return go_on()
        self.dead = True
        if self.when == "after":
            go_on()
        elif self.when == "midway" and call.kind == "write":
            go_on(call.args[0], call.args[1][: len(call.args[1]) // 2])
        raise Killed


def killed_during(work: Callable[[], None], place: int, when: str) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "os", KilledAt(place, when))
        try:
            work()
        except Killed:
            return True
    return False


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_after_a_kill_at_any_call_no_row_is_lost_or_twice_and_the_rest_ends_with_the_same_bytes(tmp_path: Path) -> None:
    straight = MetricLog(tmp_path / "straight" / "train")
    for number in range(20):
        straight.append(row(number))
    straight.close()
    expected, trials = files(tmp_path / "straight"), 0
    for when in ("before", "midway", "after"):
        place = 0
        while True:
            path = tmp_path / f"{when}-{place}" / "train"
            written = [0]

            def work(path: Path = path, written: list[int] = written) -> None:
                log = MetricLog(path)
                for number in range(20):
                    log.append(row(number))
                    written[0] += 1

            if not killed_during(work, place, when):
                break
            seen = MetricLog(path).rows()
            assert seen == whole(len(seen))
            assert written[0] <= len(seen) <= written[0] + 1  # the row whose call it was may be there
            again = MetricLog(path)
            again.rewind(max(written[0] - 3, 0))
            for number in range(max(written[0] - 3, 0), 20):
                again.append(row(number))
            again.close()
            assert files(path.parent) == expected
            place, trials = place + 1, trials + 1
    report("T1 kills while logging", floors={"trials": 60}, trials=trials)


@pytest.mark.parametrize("kept", [18, 16, 13, 8, 5, 0])
def test_after_a_kill_in_a_rewind_there_are_more_rows_never_fewer_and_it_can_be_done_again(tmp_path: Path, kept: int) -> None:
    trials = 0
    for when in ("before", "midway", "after"):
        place = 0
        while True:
            path = tmp_path / f"{when}-{place}" / "train"
            log = MetricLog(path)
            for number in range(20):
                log.append(row(number))
            log.close()
            killed = killed_during(lambda log=log: log.rewind(kept), place, when)  # type: ignore[misc]
            seen = MetricLog(path).rows()
            assert seen == whole(len(seen))
            assert kept <= len(seen) <= 20
            if not killed:
                assert len(seen) == kept
                break
            MetricLog(path).rewind(kept)
            assert MetricLog(path).rows() == whole(kept)
            place, trials = place + 1, trials + 1
    report("T1 kills in rewinds", floors={"trials": 4}, trials=trials)


def test_a_line_that_was_torn_at_any_byte_is_no_row_and_the_next_one_does_not_continue_it(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "train")
    for number in range(3):
        log.append(row(number))
    log.close()
    content = (tmp_path / "train.csv").read_bytes()
    for size in range(len(content)):
        (tmp_path / "train.csv").write_bytes(content[:size])
        seen = len(MetricLog(tmp_path / "train").rows())
        assert seen == max(content[:size].count(b"\n") - 1, 0)
        again = MetricLog(tmp_path / "train")
        for number in range(seen, 3):
            again.append(row(number))
        again.close()
        assert (tmp_path / "train.csv").read_bytes() == content
    report("T3 torn lines", floors={"trials": 40}, trials=len(content))


class Watching(Calls):
    """A reader looks before and after every call of the writer."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.look, self.looks, self._reading = look, 0, False

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        if self._reading:
            return go_on()
        self._watch()
        result = go_on()
        self._watch()
        return result

    def _watch(self) -> None:
        self._reading = True
        self.look()
        self.looks += 1
        self._reading = False


def test_a_reader_between_any_two_calls_of_the_writer_sees_whole_rows_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [0]

    def look() -> None:
        rows = MetricLog(tmp_path / "train").rows()
        assert rows == whole(len(rows))
        assert len(rows) >= seen[0]
        seen[0] = len(rows)

    log, watching = MetricLog(tmp_path / "train"), Watching(look)
    monkeypatch.setattr(storage, "os", watching)
    for number in range(40):
        log.append(row(number))
    assert seen[0] == 40
    report("T9 looks between calls", floors={"looks": 200}, looks=watching.looks)


def test_readers_in_other_processes_see_whole_rows_once_while_a_run_writes(tmp_path: Path) -> None:
    num_rows = 3000

    def write() -> int:
        log = MetricLog(tmp_path / "train")
        for number in range(num_rows):
            log.append(row(number))
        return num_rows

    def watch() -> list[int]:
        looks, last = 0, 0
        while last < num_rows:
            log = MetricLog(tmp_path / "train")
            steps = log.columns(["step"])["step"].values.tolist()
            assert steps == list(range(len(steps))), steps[-3:]
            assert len(steps) >= last
            curve = log.curve("loss", 50)
            assert curve.num_finite.sum() >= len(steps)
            looks, last = looks + 1, len(steps)
        return [looks]

    readers = [Child(watch, limit=100.0) for _ in range(2)]
    writer = Child(write, limit=100.0)
    ended = [child.wait() for child in (writer, *readers)]
    assert [item.code for item in ended] == [0, 0, 0], [item.trace for item in ended]
    report("T9 looks from other processes", floors={"looks": 10}, looks=sum(item.value[0] for item in ended[1:]))
