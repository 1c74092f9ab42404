"""Where a run goes when the command doesn't say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from stepwell.cli.folders import next_folder


def test_the_number_is_one_above_the_highest_and_gaps_stay_gaps(tmp_path: Path) -> None:
    for name in ("digits-1", "digits-7", "digits-x", "other-20", "digits-1-9"):
        (tmp_path / name).mkdir()
    with next_folder(Path("jobs/digits.yaml"), None, root=tmp_path) as folder:
        assert folder == tmp_path / "digits-8"
        assert folder.is_dir()


def test_a_folder_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    with next_folder(Path("digits.yaml"), tmp_path / "mine", root=tmp_path / "runs") as folder:
        assert folder == tmp_path / "mine"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_before_it_begins_leaves_no_folder_and_one_that_began_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="early"), next_folder(Path("a.yaml"), None, root=tmp_path):
        raise ValueError("early")
    assert list(tmp_path.iterdir()) == []
    with next_folder(Path("a.yaml"), None, root=tmp_path) as folder:
        (folder / "job.yaml").write_text("x", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["a-1"]


def test_those_who_start_at_the_same_time_get_different_folders(tmp_path: Path) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        claims = [next_folder(Path("a.yaml"), None, root=tmp_path) for _ in range(32)]
        folders = list(pool.map(stack.enter_context, claims))
        assert len(set(folders)) == 32
