"""The resilience benchmark tells trainers of known behaviour apart, and its words say what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.resilience_host import Host, Reply, Trial, compiled_faults
from benchmarks.resilience_judge import (
    Flips,
    FullDisk,
    Outcome,
    Row,
    counted,
    details,
    noticed,
    resumed,
    said,
    short_error,
    table,
)
from benchmarks.resilience_page import END, START, train_function, write_page

from benchmarks import resilience

PLAN = resilience.Plan(num_steps=20, kills=(7, 12, 17), num_inside=20, num_flips=5, limit=20.0)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        library = compiled_faults(tmp_path_factory.mktemp("library"))
        with Host("resilience_fakes.trainers", library=library, limit=20.0) as started:
            yield started


def row_of(host: Host, setting: str, place: Path) -> Row:
    return resilience.measured(host, setting, PLAN, place, lambda line: None)


def words(row: Row) -> set[str]:
    return {outcome.word for outcome in row.between.values()}


def test_a_trainer_with_whole_saves_and_checksums_passes_everything(host: Host, tmp_path: Path) -> None:
    row = row_of(host, "careful", tmp_path)
    assert row.repeats
    assert row.between == {step: Outcome("same bytes", 20) for step in (7, 12, 17)}
    assert row.flips is not None
    assert (row.flips.num_flips, row.flips.num_noticed) == (5, 5)
    assert {outcome.word for outcome in row.flips.noticed} == {"same bytes"}
    if host.library is not None:
        assert row.num_calls == 3  # open, write, rename
        assert row.inside is not None
        assert row.full is not None
        assert [outcome.word for outcome in row.inside.values()] == ["same bytes"] * 3
        assert [one.said.split(":")[0] for one in row.full.values()] == ["stops"]
        assert {one.resumed.word for one in row.full.values()} == {"same bytes"}


def test_a_trainer_that_writes_over_its_only_save_is_seen_to_lose_it(host: Host, tmp_path: Path) -> None:
    row = row_of(host, "careless", tmp_path)
    assert words(row) == {"same bytes"}
    assert row.flips is not None
    assert row.flips.num_noticed == 0
    if host.library is not None:
        assert row.inside is not None
        assert row.full is not None
        before_open, before_write = row.inside.values()
        assert before_open.word == "same bytes"
        assert before_write.word.startswith("fails: IndexError")
        assert {one.said for one in row.full.values()} == {"lies"}
        assert all(one.resumed.word.startswith("fails") for one in row.full.values())
    else:
        assert row.inside is None
        assert row.full is None


def test_a_trainer_that_forgets_its_saves_is_seen_to_start_anew(host: Host, tmp_path: Path) -> None:
    trials = resilience.Trials(host, "forgetful", PLAN, tmp_path)
    assert trials.repeats()
    # After 7 steps only one save was begun, which in the background might not have been whole.
    assert [trials.killed_after(step).word for step in (7, 12)] == ["same bytes", "restarts from zero"]


def test_a_trainer_that_draws_at_will_isn_t_called_repeatable(host: Host, tmp_path: Path) -> None:
    assert not resilience.Trials(host, "random", PLAN, tmp_path).repeats()


def test_a_process_that_hangs_is_ended_in_time(host: Host, tmp_path: Path) -> None:
    host.limit, before = 0.5, host.limit
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "beside").mkdir()
        reply = host.run(Trial(str(tmp_path / "run"), str(tmp_path / "beside"), "hanging", resume=True))
    finally:
        host.limit = before
    assert reply.code is None
    assert resumed(reply, "", num_steps=20, had_saved=True).word == "hangs"


def test_a_kill_comes_after_the_asked_number_of_steps(host: Host, tmp_path: Path) -> None:
    reply, folder, beside = resilience.Trials(host, "careful", PLAN, tmp_path).trial(kill_after=12, weights_every=5)
    assert (reply.code, reply.num_steps) == (-9, 12)
    assert sorted(path.name for path in folder.iterdir()) == ["save-05", "save-10"]
    assert (beside / "weights-10.bin").read_bytes() == (folder / "save-10").read_bytes()[33:]


def test_only_installed_packages_have_a_version(host: Host) -> None:
    assert host.about["versions"].keys() == {"torch"}


def test_a_trainer_that_is_not_installed_is_said_and_left_out(tmp_path: Path) -> None:
    lines: list[str] = []
    assert resilience.measure(["no_such_trainer"], PLAN, lines.append) == []
    assert "no_such_trainer: not installed" in lines[-1]


def test_without_a_compiler_nothing_is_claimed_about_saves(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "library", None)
    row = row_of(host, "careful", tmp_path)
    assert "not measured" in table([row], 20)
    assert row.inside is None


def test_one_bit_is_flipped_and_flipped_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0b1010, 0]))
    resilience.flip(path, 1, 3)
    assert path.read_bytes() == bytes([0, 0b0010, 0])
    resilience.flip(path, 1, 3)
    assert path.read_bytes() == bytes([0, 0b1010, 0])


def test_every_file_that_holds_the_weights_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"xx-weights")
    (tmp_path / "b").write_bytes(b"weights")
    (tmp_path / "c").write_bytes(b"weight")
    assert resilience.places_of(tmp_path, b"weights") == [(Path("b"), 0), (Path("deep/a"), 3)]


@pytest.mark.parametrize(("num_calls", "most"), [(1, 9), (5, 9), (40, 9), (40, 3), (40, 4), (300, 9)])
def test_kills_are_spread_from_the_first_call_to_the_last(num_calls: int, most: int) -> None:
    calls = ["rename a", *["write a"] * (num_calls - 2), "rename a"][:num_calls]
    chosen = resilience.chosen_calls(calls, most)
    assert len(chosen) == min(most, num_calls)
    assert chosen == sorted(set(chosen))
    if num_calls >= 5 and most >= 5:
        assert {1, 2, num_calls - 1, num_calls} <= set(chosen)


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (Reply(0, 29, "a", 64), "same bytes"),
        (Reply(0, 29, "b", 64), "other bytes"),
        (Reply(0, 64, "a", 64), "restarts from zero"),
        (Reply(0, 64, "b", 96), "other bytes"),
        (Reply(1, 0, error="OSError: no header"), "fails: OSError: no header"),
        (Reply(-11, 3), "fails: signal 11"),
        (Reply(None, 3), "hangs"),
    ],
)
def test_a_resumed_run_gets_its_word(reply: Reply, word: str) -> None:
    assert resumed(reply, "a", num_steps=64, had_saved=True).word == word


def test_a_run_that_ends_well_on_a_full_disk_without_a_word_lies() -> None:
    assert said(Reply(0, 64, "a", 64, printed="epoch 4 done")) == "lies"
    assert said(Reply(0, 64, "a", 64, printed="OSError: No space left on device")) == "goes on, says so"
    assert said(Reply(1, 50, error="OSError: No space left")) == "stops: OSError: No space left"


def test_damage_is_noticed_by_failing_or_by_naming_it() -> None:
    assert noticed(Reply(1))
    assert noticed(Reply(0, printed="the checksum of state doesn't match"))
    assert not noticed(Reply(0, printed="resuming from step 35"))


def test_an_error_is_shown_without_folders_and_short() -> None:
    assert short_error("OSError: '/home/someone/run/a.bin' is bad") == "OSError: '…/a.bin' is bad"
    assert len(short_error("ValueError: " + "long " * 100)) == 110


def example_row(**changes: object) -> Row:
    same = Outcome("same bytes", 64)
    facts = {
        "title": "trainer",
        "versions": {"trainer": "1.0"},
        "save_every": 5,
        "repeats": True,
        "between": {37: same, 41: Outcome("other bytes", 67)},
        "inside": {"call 2 of 3 (write a)": Outcome("fails: OSError: no header")},
        "num_calls": 3,
        "full": {"call 2 of 3 (write a)": FullDisk("lies", same)},
        "flips": Flips(20, 1, (same,)),
        "seconds": 1.0,
    }
    return Row(**(facts | changes))  # type: ignore[arg-type]


def test_a_row_counts_every_outcome() -> None:
    line = table([example_row()], 64).splitlines()[-1]
    assert line == (
        "| trainer | yes | same bytes 1 of 2; other bytes 1 (67 steps) | fails 1 of 1 (OSError) | lies 1 of 1 | "
        "**same bytes** 1 of 1 | 1 of 20, then **same bytes** 1 of 1 |"
    )


def test_only_a_full_count_of_same_bytes_is_set_in_bold() -> None:
    assert "**" not in counted([Outcome("same bytes", 64), Outcome("hangs")], 64)


def test_the_details_name_each_error_and_its_place() -> None:
    assert details([example_row()]) == "- trainer: `fails: OSError: no header` (killed before call 2 of 3 (write a))"


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{START}\nlast year's table\n{END}\n\nAfter.\n")
    for _ in range(2):
        write_page(page, [example_row()], num_steps=64, minutes=3.0)
    text = page.read_text()
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nAfter.\n")
    assert "last year" not in text
    assert text.count("| trainer | yes |") == 1
    assert "trainer 1.0" in text


def test_the_page_can_be_written_again_from_the_rows_of_a_run(tmp_path: Path) -> None:
    rows = [example_row(), example_row(inside=None, full=None, flips=None)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(resilience.as_plain(rows, minutes=3.0)))
    assert resilience.from_plain(json.loads(path.read_text())) == (rows, 3.0)


def test_every_script_of_the_page_is_shown() -> None:
    for name in resilience.PEERS:
        assert train_function(name).startswith("def train(call: task.Call)")
