"""Folders that a command is called in: with a job and its table, and with a finished run of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from table_job import call, write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job, its table and the finished run of it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write(folder)
        assert call("train", "job.yaml", "--out", "run", "--quiet").code == 0
    return folder


@pytest.fixture
def with_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "here")
    manifest = tmp_path / "here" / "run" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(str(trained), str(tmp_path / "here")), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
