"""T3: a checkpoint that isn't as it was written is never used, never lost, and never costs more than it must."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from corruptions import Case, cases, newest, older, unnoticed
from counted import report
from crash_points import STOPPED_AT, stopped_run
from forked import done, forked
from small_runs import INTERVAL, differences, remains, train

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.checkpoint import checkpoints, newest_checkpoint, save_checkpoint


class Told(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def told() -> Iterator[list[str]]:
    handler, logger = Told(), logging.getLogger("stepwell")
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints: tensors of several types, numbers, text and non-finite values."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    for step in (5, 12):
        generator = torch.Generator().manual_seed(step)
        weights = {f"layer{n}": torch.randn(40, 10, generator=generator) for n in range(4)}
        state = {"step": {"model": weights, "clock": {"steps": step}}, "best": {"value": float("inf"), "metric": "loss"}}
        save_checkpoint(folder, state | {"mask": torch.zeros(300, dtype=torch.bool), "note": "ä" * 50, "empty": {}}, step=step)
    return folder


def noticed(two: Path, where: Path, told: list[str], found: list[Case]) -> tuple[Counter[str], list[str]]:
    kinds: Counter[str] = Counter()
    problems = []
    expected = {path.name: path.read_bytes() for path in older(two).iterdir()}
    for number, case in enumerate(found):
        folder = where / str(number) / "checkpoints"
        shutil.copytree(two, folder)
        wrong = unnoticed(folder, case, expected, told)
        problems += [f"{case.kind} ({case.what}): {problem}" for problem in wrong]
        kinds[case.kind] += not wrong
        shutil.rmtree(folder.parent)
    return kinds, problems


@pytest.mark.parametrize(
    ("flips", "cuts", "zeros", "spaces", "least"),
    [
        pytest.param(180, 8, 40, 10, 300, id="share"),
        pytest.param(2_400, 64, 300, 40, 3_000, id="soak", marks=pytest.mark.soak),
    ],
)
def test_every_corruption_is_noticed_and_the_newest_whole_checkpoint_is_taken(
    two: Path, memory: Path, told: list[str], flips: int, cuts: int, zeros: int, spaces: int, least: int
) -> None:
    found = cases(two, num_flips=flips, num_cuts=cuts, num_zeros=zeros, num_spaces=spaces)
    kinds, problems = noticed(two, memory, told, found)
    assert problems == []
    report("T3 corruptions", floors={"trials": least, "noticed": least}, trials=len(found), noticed=kinds.total(), **kinds)


def test_every_single_byte_of_a_manifest_counts(two: Path, memory: Path, told: list[str]) -> None:
    """Also those whose change leaves the JSON's meaning alone."""
    size = (newest(two) / "manifest.json").stat().st_size

    def flip(position: int) -> Case:
        def damage(folder: Path) -> None:
            path = newest(folder) / "manifest.json"
            content = bytearray(path.read_bytes())
            content[position] ^= 0x20  # between capitals and small letters, space and nothing
            path.write_bytes(content)

        return Case("flip", f"byte {position}", damage)

    kinds, problems = noticed(two, memory, told, [flip(position) for position in range(size)])
    assert problems == []
    report("T3 manifest bytes", trials=size, noticed=kinds.total(), floors={"noticed": size})


def test_where_no_checkpoint_is_whole_nothing_starts_from_zero(two: Path, memory: Path) -> None:
    shutil.copytree(two, memory / "checkpoints")
    for place in checkpoints(memory / "checkpoints"):
        (place / "state.json").write_bytes(b"{}")
    for _ in range(2):  # the second time, they carry another name already
        with pytest.raises(RunFolderError, match="no checkpoint that is whole"):
            newest_checkpoint(memory / "checkpoints")
    assert len(list((memory / "checkpoints").glob(".corrupt-*"))) == 2


KINDS = ["flip", "cut", "missing", "swapped", "extra", "edited"]


def test_a_run_with_a_damaged_checkpoint_steps_back_and_ends_with_the_same_bytes(loaded: None, memory: Path) -> None:
    done(lambda: train("ema", memory / "whole"))
    stopped_run("ema", memory / "stopped")
    chosen = {
        case.kind: case for case in cases(memory / "stopped" / "checkpoints", num_flips=9, num_cuts=3, num_zeros=1, num_spaces=1)
    }
    for kind in KINDS:
        folder = memory / kind
        shutil.copytree(memory / "stopped", folder)
        chosen[kind].damage(folder / "checkpoints")
        began: list[int] = []

        def work(folder: Path = folder, began: list[int] = began) -> int:
            train("ema", folder, aim=lambda moment, step: began.append(step) if moment == "began" else None)
            return began[0]

        assert done(work) == STOPPED_AT - 1 - INTERVAL
        assert differences(remains(folder), remains(memory / "whole")) == []
        assert len(list((folder / "checkpoints").glob(".corrupt-*"))) == 1
    report("T3 damaged runs", floors={"same_bytes": 6}, same_bytes=len(KINDS))


def test_a_run_none_of_whose_checkpoints_is_whole_stops_and_says_so(loaded: None, memory: Path) -> None:
    stopped_run("ema", memory / "run")
    for place in checkpoints(memory / "run" / "checkpoints"):
        (place / "state.json").write_bytes(b"{}")
    ended = forked(lambda: train("ema", memory / "run"))
    assert ended.code == 2
    assert "no checkpoint that is whole" in ended.error
    assert "Put one back from a copy" in ended.error
