"""The event log: its chain, what a crash leaves of it, how many lines events can take, and what tampering shows."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from stepwell.core.errors import RunFolderError
from stepwell.core.reports import Event
from stepwell.engine.records import storage
from stepwell.engine.records.event_log import FOLDED_AFTER, EventLog, Torn, check_chain, head_of, read_events
from stepwell.engine.records.run_folder import RunFolder

ROOT = hashlib.sha256(b"the manifest").hexdigest()


def written(path: Path, count: int = 5) -> list[str]:
    """A log of some events; its lines."""
    log = EventLog(path, ROOT)
    for step in range(count):
        log.append("saved", step, {"checkpoint": f"step-{step}", "sha256": "ab" * 32})
    log.close()
    return path.read_text(encoding="utf-8").splitlines()


def test_each_line_is_sealed_by_a_hash_that_anybody_can_compute_again(tmp_path: Path) -> None:
    previous = ROOT
    for number, line in enumerate(written(tmp_path / "events.jsonl"), start=1):
        seal = json.loads(line)["sha256"]
        body = line.removesuffix(f', "sha256": "{seal}"}}') + "}"
        assert hashlib.sha256(body.encode()).hexdigest() == seal
        assert (json.loads(body)["previous"], json.loads(body)["number"]) == (previous, number)
        previous = seal
    assert head_of(tmp_path / "events.jsonl", ROOT) == previous
    assert check_chain(tmp_path / "events.jsonl", ROOT) == []


def test_what_was_appended_is_read_back_with_words_for_what_json_has_no_number_for(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", ROOT)
    log.append("nonfinite", 7, {"loss": math.inf, "sha256": "its own", "number": 3, "place": "Ünïcode\n"})
    log.close()
    (event,) = read_events(tmp_path / "events.jsonl")
    assert (event.kind, event.step, event.number, event.repeated) == ("nonfinite", 7, 1, 1)
    assert event.detail == {"loss": "Infinity", "sha256": "its own", "number": 3, "place": "Ünïcode\n"}
    assert event.at.endswith("Z")


def test_a_log_that_goes_on_in_another_process_is_one_chain(tmp_path: Path) -> None:
    written(tmp_path / "events.jsonl")
    written(tmp_path / "events.jsonl")
    assert [event.number for event in read_events(tmp_path / "events.jsonl")] == list(range(1, 11))
    assert check_chain(tmp_path / "events.jsonl", ROOT) == []


def tampered(lines: list[str], how: str) -> tuple[list[str], int]:
    """The lines after somebody was at them, and the first line that gives it away."""
    forged = json.loads(lines[2]) | {"step": 9}
    del forged["sha256"]
    body = json.dumps(forged)
    own_hash = body[:-1] + f', "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"}}'
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    return {
        "a value changed": ([*lines[:2], lines[2].replace('"step": 2', '"step": 9'), *lines[3:]], 3),
        "a value changed, its hash made anew": ([*lines[:2], own_hash, *lines[3:]], 4),
        "a line taken out": ([*lines[:2], *lines[3:]], 3),
        "the first line taken out": (lines[1:], 1),
        "a line written twice": ([*lines[:3], *lines[2:]], 4),
        "two lines swapped": (swapped, 2),
        "a line without a hash put in": ([*lines[:3], '{"kind": "saved", "step": 2}', *lines[3:]], 4),
        "a line of no JSON put in": ([*lines[:3], "???", *lines[3:]], 4),
        "a blank line put in": ([*lines[:3], "", *lines[3:]], 4),
        "the hash of a line changed": ([*lines[:2], lines[2][:-3] + ("0" if lines[2][-3] != "0" else "1") + '"}', *lines[3:]], 3),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "a value changed",
        "a value changed, its hash made anew",
        "a line taken out",
        "the first line taken out",
        "a line written twice",
        "two lines swapped",
        "a line without a hash put in",
        "a line of no JSON put in",
        "a blank line put in",
        "the hash of a line changed",
    ],
)
def test_the_first_line_that_does_not_fit_is_named(tmp_path: Path, how: str) -> None:
    lines, first = tampered(written(tmp_path / "events.jsonl"), how)
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert check_chain(tmp_path / "events.jsonl", ROOT)[0].line == first


def test_every_single_changed_byte_breaks_the_chain_at_its_line_or_the_next(tmp_path: Path) -> None:
    written(tmp_path / "events.jsonl", 3)
    content = (tmp_path / "events.jsonl").read_bytes()
    for place in range(0, len(content) - 1, 3):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "events.jsonl").write_bytes(changed)
        line = content.count(b"\n", 0, place) + 1
        assert check_chain(tmp_path / "events.jsonl", ROOT)[0].line in (line, line + 1)


def test_another_manifest_breaks_the_first_link_alone(tmp_path: Path) -> None:
    written(tmp_path / "events.jsonl")
    found = check_chain(tmp_path / "events.jsonl", "0" * 64)
    assert [(item.line, "manifest" in item.reason) for item in found] == [(1, True)]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_an_unfinished_last_line_is_cut_off_and_that_goes_on_record(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "events.jsonl"
    last = written(path)[-1]
    whole = path.read_bytes()[: -len(last) - 1]
    path.write_bytes(whole + last.encode()[:kept])
    torn = len(last.encode()[:kept])
    assert [type(item) for item in check_chain(path, ROOT)] == [Torn]
    EventLog(path, ROOT).close()
    assert path.read_bytes().startswith(whole)
    assert read_events(path)[-1].detail["bytes"] == torn
    assert check_chain(path, ROOT) == []


def test_room_that_a_power_cut_left_unwritten_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    written(path)
    with open(path, "ab") as file:
        file.write(bytes(100) + b"\n" + bytes(20))
    EventLog(path, ROOT).close()
    assert [event.kind for event in read_events(path)] == ["saved"] * 5 + ["log_cut"]
    assert check_chain(path, ROOT) == []


def test_a_log_of_an_older_version_is_read_and_gone_on_with_but_not_vouched_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    old = '{"kind": "resumed", "step": 3, "checkpoint": "step-3"}\n{"kind": "stopped", "step": 9, "reason": "budget spent"}\n'
    path.write_text(old, encoding="utf-8")
    written(path, 2)
    events = read_events(path)
    assert [(event.kind, event.step) for event in events] == [("resumed", 3), ("stopped", 9), ("saved", 0), ("saved", 1)]
    assert events[1].detail == {"reason": "budget spent"}
    assert [item.line for item in check_chain(path, ROOT)] == [1]  # told once; what follows hangs together
    path.write_text(path.read_text(encoding="utf-8").replace('"step": 3', '"step": 4'), encoding="utf-8")
    assert [item.line for item in check_chain(path, ROOT)] == [1, 3]  # the old lines' bytes are what the third hangs on


def test_ten_thousand_events_of_a_kind_take_few_lines_and_none_is_lost_from_the_count(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", ROOT)
    for step in range(10_000):
        log.append("nonfinite", step, {"loss": math.nan})
    log.append("stopped", 10_000, {})
    log.close()
    events = read_events(tmp_path / "events.jsonl")
    # 100 lines of one event each, then lines for as many as all before: 100, 200, 400, ..., 3,200, and the 3,600 left over
    assert [event.repeated for event in events] == [1] * FOLDED_AFTER + [100, 200, 400, 800, 1600, 3200, 3600, 1]
    assert sum(event.repeated for event in events if event.kind == "nonfinite") == 10_000
    assert [event.step for event in events[-3:]] == [6399, 9999, 10_000]
    assert check_chain(tmp_path / "events.jsonl", ROOT) == []


def test_folding_goes_on_over_a_restart(tmp_path: Path) -> None:
    for _ in range(30):
        log = EventLog(tmp_path / "events.jsonl", ROOT)
        for step in range(FOLDED_AFTER):
            log.append("nonfinite", step, {})
        log.close()
    events = read_events(tmp_path / "events.jsonl")
    assert sum(event.repeated for event in events) == 30 * FOLDED_AFTER
    assert len(events) == FOLDED_AFTER + 29  # one more for each process


def test_checkpoints_are_never_folded(tmp_path: Path) -> None:
    assert len(written(tmp_path / "events.jsonl", 3 * FOLDED_AFTER)) == 3 * FOLDED_AFTER


def test_after_a_line_that_could_not_be_written_the_chain_goes_on_as_if_it_had_never_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path / "events.jsonl", ROOT)
    log.append("saved", 1, {})
    real = storage.os.write

    def half(handle: int, content: bytes) -> int:
        monkeypatch.setattr(storage.os, "write", full)
        return real(handle, bytes(content)[:20])

    def full(handle: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "write", half)
    with pytest.raises(RunFolderError, match="disk is full"):
        log.append("saved", 2, {})
    monkeypatch.setattr(storage.os, "write", real)
    log.append("saved", 3, {})
    log.close()
    assert [event.step for event in read_events(tmp_path / "events.jsonl")] == [1, 3]
    assert check_chain(tmp_path / "events.jsonl", ROOT) == []


def test_a_log_that_is_a_link_is_neither_read_nor_written(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "elsewhere")
    for touch in (read_events, lambda path: check_chain(path, ROOT), lambda path: EventLog(path, ROOT)):
        with pytest.raises(RunFolderError, match="link"):
            touch(tmp_path / "events.jsonl")
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_a_run_folder_hangs_its_log_on_its_manifest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write("manifest.json", {"seed": 1})
    folder.event(Event("resumed", 3, {"checkpoint": "step-3"}))
    folder.close()
    root = hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    assert check_chain(tmp_path / "events.jsonl", root) == []
