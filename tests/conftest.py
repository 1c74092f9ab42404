"""One thread everywhere: two thread pools on two cores make single steps up to 25 times slower."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)


# The counts of tests/resilience are written from here: of a parallel run, the process that gathers the results reads no
# conftest.py below this one.


def _totals() -> Any:
    sys.path.append(str(Path(__file__).parent / "resilience"))
    import totals

    return totals


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(session.config, "workerinput") or reporter is None or session.testsfailed:
        return
    totals = _totals()
    if totals.short_of(totals.totals(reporter), totals.floors_of(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    totals = _totals()
    total = totals.totals(terminalreporter)
    lines = totals.summary(total)
    if lines:
        terminalreporter.section("resilience counts")
        lines += [f"below the floor: {words}" for words in totals.short_of(total, totals.floors_of(config))]
    for line in lines:
        terminalreporter.write_line(line)
