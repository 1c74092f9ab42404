"""Logs of rows: what was logged comes back exactly, sealed or not, and curves agree with the rows they stand for."""

from __future__ import annotations

import math
import random
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from stepwell.core.errors import RunFolderError
from stepwell.engine.records import metric_log, storage
from stepwell.engine.records.metric_chunk import Cell
from stepwell.engine.records.metric_log import MetricLog
from stepwell.engine.records.strict_json import worded

ROWS = 128  # of a chunk here: 8192 would take seconds
HARD = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.pi, math.nan, math.inf, -math.inf, 1e22, 1 / 3, 2.0**53 + 2]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log, "CHUNK", ROWS)


def row(number: int) -> dict[str, Cell | None]:
    """A row that only depends on its number, with every kind of value and columns that come and go."""
    draws = random.Random(number)
    value = struct.unpack("d", struct.pack("Q", draws.getrandbits(64)))[0]
    made: dict[str, Cell | None] = {"step": number, "loss": value if value == value else math.nan, "skipped": number % 2}
    if number % 3 == 0:
        made["name"] = ("0", "0.1", 'a, "quoted" name', "relu", "nan")[draws.randrange(5)]
    if number > 300:
        made["late"] = HARD[number % len(HARD)]
    return made


def write(log: MetricLog, numbers: range) -> None:
    for number in numbers:
        log.append(row(number))
    log.close()


def bits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that compare equal when all bits are: NaN equals itself, 0.0 is not -0.0."""
    return [{key: value.hex() if isinstance(value, float) else (type(value), value) for key, value in r.items()} for r in rows]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("rows", [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 7])
def test_every_value_comes_back_with_its_type_and_bits(tmp_path: Path, rows: int) -> None:
    write(MetricLog(tmp_path / "train"), range(rows))
    log = MetricLog(tmp_path / "train")
    assert log.num_rows == rows
    assert bits(log.rows()) == bits([row(number) for number in range(rows)])
    assert bits(log.rows(100, 140)) == bits([row(number) for number in range(rows)][100:140])


def test_rows_are_lines_of_a_csv_file_until_they_are_sealed_in_files_that_numpy_reads(tmp_path: Path) -> None:
    write(MetricLog(tmp_path / "train"), range(ROWS + 2))
    assert sorted(content(tmp_path)) == ["train/000000000-000000128.npz", "train/000000128.csv"]
    lines = (tmp_path / "train" / "000000128.csv").read_text(encoding="utf-8").splitlines()
    assert (lines[0], len(lines)) == ("step,loss,skipped,name", 3)
    with np.load(tmp_path / "train" / "000000000-000000128.npz", allow_pickle=False) as arrays:
        assert arrays["values/step"].dtype == np.int64
        np.testing.assert_array_equal(arrays["values/step"], np.arange(ROWS))
        assert arrays["values/loss"].tobytes() == np.array([row(number)["loss"] for number in range(ROWS)]).tobytes()
        np.testing.assert_array_equal(arrays["missing/name"], np.arange(ROWS) % 3 != 0)


def test_non_finite_values_are_the_same_words_as_in_json(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "train")
    log.append({"a": math.nan, "b": math.inf, "c": -math.inf})
    log.close()
    assert (tmp_path / "train.csv").read_text(encoding="utf-8") == "a,b,c\nNaN,Infinity,-Infinity\n"
    assert worded([math.nan, math.inf, -math.inf]) == ["NaN", "Infinity", "-Infinity"]


def test_columns_are_arrays_with_what_is_missing_marked(tmp_path: Path) -> None:
    write(MetricLog(tmp_path / "train"), range(400))
    columns = MetricLog(tmp_path / "train").columns(["step", "late", "never"])
    assert columns["step"].values.dtype == np.int64
    assert columns["late"].values.dtype == np.float64
    np.testing.assert_array_equal(columns["late"].missing, np.arange(400) <= 300)
    np.testing.assert_array_equal(columns["late"].values[301:], [HARD[number % len(HARD)] for number in range(301, 400)])
    assert columns["never"].missing.all()


@pytest.mark.parametrize("kept", [0, 1, 100, ROWS, ROWS + 1, 2 * ROWS, 300, 330])
def test_a_log_that_is_rewound_and_written_again_has_the_bytes_of_one_that_never_was(tmp_path: Path, kept: int) -> None:
    write(MetricLog(tmp_path / "whole" / "train"), range(400))
    write(MetricLog(tmp_path / "again" / "train"), range(350))
    again = MetricLog(tmp_path / "again" / "train")
    again.rewind(kept)
    assert bits(again.rows()) == bits([row(number) for number in range(kept)])
    write(again, range(kept, 400))
    assert content(tmp_path / "again") == content(tmp_path / "whole")


def test_a_log_that_is_opened_anew_for_every_row_has_the_same_bytes(tmp_path: Path) -> None:
    write(MetricLog(tmp_path / "whole" / "train"), range(300))
    for number in range(300):
        write(MetricLog(tmp_path / "again" / "train"), range(number, number + 1))
    assert content(tmp_path / "again") == content(tmp_path / "whole")


def test_rewinding_to_more_rows_than_there_are_keeps_all_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MetricLog(tmp_path / "train")
    write(log, range(5))
    log.rewind(9)
    assert log.num_rows == 5
    assert "holds 5 rows where a checkpoint counts on 9" in caplog.text


def test_a_plain_csv_file_of_an_earlier_version_is_read_and_gone_on_with(tmp_path: Path) -> None:
    lines = "".join(f"{number},{'nan' if number == 7 else number / 8}\n" for number in range(300))
    (tmp_path / "train.csv").write_text("step,loss\n" + lines + "300,0.", encoding="utf-8")
    log = MetricLog(tmp_path / "train")
    before = log.rows()
    assert [r["step"] for r in before] == list(range(300))
    log.append({"step": 300, "loss": 37.5})
    log.close()
    assert bits(log.rows()) == bits([*before, {"step": 300, "loss": 37.5}])
    assert sorted(content(tmp_path)) == [
        "train/000000000-000000128.npz",
        "train/000000128-000000256.npz",
        "train/000000256.csv",
    ]
    assert math.isnan(float(before[7]["loss"]))


def brute(values: list[float], start: int, stop: int) -> list[float]:
    """Low, high, first, last, number of finite ones and of others, one value after the other."""
    good = [value for value in values[start:stop] if math.isfinite(value)]
    ends = [min(good), max(good), good[0], good[-1]] if good else [math.nan] * 4
    return [*ends, len(good), len(values[start:stop]) - len(good)]


@pytest.mark.parametrize(("most", "stretch"), [(1000, 1), (20, 64), (7, 64), (4, 128), (3, 192), (1, 448)])
def test_a_curve_has_the_extremes_ends_and_counts_of_each_stretch(tmp_path: Path, most: int, stretch: int) -> None:
    draws = random.Random(3)
    values = [draws.choice([math.nan, math.inf, draws.gauss(0, 1)]) if 100 < n < 260 else draws.gauss(0, 1) for n in range(400)]
    values[128:192] = [math.nan] * 64
    log = MetricLog(tmp_path / "train")
    for number, value in enumerate(values):
        log.append({"step": number, "loss": value})
    curve = log.curve("loss", most)
    told = [curve.low, curve.high, curve.first, curve.last, curve.num_finite, curve.num_nonfinite]
    expected = [brute(values, start, start + stretch) for start in range(0, 400, stretch)]
    np.testing.assert_array_equal(np.stack(told), np.array(expected).T)
    assert len(log.curve("step", most).low) == len(curve.low) <= most


def test_a_column_that_came_late_has_the_stretches_of_the_others_and_text_has_no_curve(tmp_path: Path) -> None:
    write(MetricLog(tmp_path / "train"), range(400))
    log = MetricLog(tmp_path / "train")
    late, step = log.curve("late", 20), log.curve("step", 20)
    assert len(late.low) == len(step.low) == 7
    assert late.num_finite.sum() + late.num_nonfinite.sum() == 99
    assert len(log.curve("name", 20).low) == 0
    assert len(log.curve("never", 20).low) == 0


class Counting:
    """A file that counts what is read of it."""

    def __init__(self, file: BinaryIO, seen: list[int]) -> None:
        self._file, self._seen = file, seen

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._seen.append(len(piece))
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_long_curve_is_drawn_without_reading_the_sealed_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_log, "CHUNK", 8192)
    draws, log = random.Random(0), MetricLog(tmp_path / "train")
    for number in range(8192):
        log.append({"step": number, "loss": draws.random(), "lr": draws.random(), "norm": draws.random()})
    seen: list[int] = []
    real = storage.opened
    monkeypatch.setattr(storage, "opened", lambda path: Counting(real(path), seen))
    assert len(log.curves(["step", "loss"], most_points=1000)["loss"].low) == 128
    assert 2 * 6 * 128 * 8 * 0.3 < sum(seen) < 20_000  # two columns' levels and the list of contents; one column has 65,536
    assert sum(path.stat().st_size for path in (tmp_path / "train").iterdir()) > 3 * 60_000


def test_a_gap_in_the_files_ends_the_rows_there_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(MetricLog(tmp_path / "train"), range(400))
    (tmp_path / "train" / "000000128-000000256.npz").unlink()
    log = MetricLog(tmp_path / "train")
    assert log.num_rows == 128
    assert log.gap() == "train: a file is missing before 000000256-000000384.npz; the rows from there on are left out"
    write(log, range(128, 400))
    assert bits(log.rows()) == bits([row(number) for number in range(400)])
    assert log.gap() == ""
    assert "comes after a gap in the rows and is set aside" in caplog.text
    assert (tmp_path / "train" / "000000256-000000384.npz.out-of-reach").exists()  # nothing is deleted


def test_no_flipped_bit_in_a_sealed_chunk_changes_a_value_unnoticed(tmp_path: Path) -> None:
    write(MetricLog(tmp_path / "train"), range(ROWS))
    path = tmp_path / "train" / "000000000-000000128.npz"
    good, rows = path.read_bytes(), bits([row(number) for number in range(ROWS)])
    draws, noticed = random.Random(1), 0
    for _ in range(400):
        bad = bytearray(good)
        bad[draws.randrange(len(bad))] ^= 1 << draws.randrange(8)
        path.write_bytes(bad)
        try:
            read = MetricLog(tmp_path / "train").rows()
        except RunFolderError:
            noticed += 1
        else:
            assert bits(read) == rows  # of levels, dates and the like, which aren't read for rows
    assert noticed > 200


@pytest.mark.parametrize("size", [0, 1, 100, 1000, -1])
def test_a_chunk_that_was_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    write(MetricLog(tmp_path / "train"), range(ROWS))
    path = tmp_path / "train" / "000000000-000000128.npz"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RunFolderError, match="can't be read"):
        MetricLog(tmp_path / "train").rows()


def test_a_link_in_the_place_of_a_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("step\n1\n", encoding="utf-8")
    (tmp_path / "train.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(RunFolderError, match="is a link"):
        MetricLog(tmp_path / "train").rows()


def test_files_and_folders_of_a_log_are_the_owner_s_alone(tmp_path: Path) -> None:
    write(MetricLog(tmp_path / "metrics" / "train"), range(ROWS + 1))
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}
