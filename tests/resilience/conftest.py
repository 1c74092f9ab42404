"""What the resilience suites share; their counts are written at the end of a run by tests/conftest.py."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import counted
import pytest


@pytest.fixture(autouse=True)
def _counted_for_this_test(request: pytest.FixtureRequest) -> Iterator[None]:
    counted.working_on(request.node)
    yield
    counted.working_on(None)


@pytest.fixture(autouse=True)
def _hang_ups_are_heard() -> Iterator[None]:
    """Tests that were started with nohup ignore SIGHUP, and so would the runs that they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is such a disk: a suite flushes some ten thousand files."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Everything that a run imports is imported, once, so that forked children needn't."""
    import torch
    from forked import import_what_is_used_by
    from small_runs import train

    from stepwell.recipe.evidence.fingerprint import environment

    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("first") / "run"
    import_what_is_used_by(lambda: train("workers", place))
    environment()  # what is installed is read once


@pytest.fixture(scope="session")
def commands(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the command line imports too, with its report."""
    from forked import ended, import_what_is_used_by
    from small_runs import command, write_job

    place = tmp_path_factory.mktemp("first")
    job = write_job(place)
    import_what_is_used_by(lambda: ended(command, "train", job, "--out", place / "run"))
