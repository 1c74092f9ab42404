"""Runs in the watched process: every way in which stepwell reads a file that somebody else may have written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stepwell.core.batches.thesaurus import make_table, read_thesaurus
from stepwell.core.errors import StepwellError
from stepwell.data.catalog import SOURCES
from stepwell.data.split import SplitSpec
from stepwell.engine.records.checkpoint import load_checkpoint, verify_checkpoint
from stepwell.recipe.adapters import load_adapter
from stepwell.recipe.archive.foreign_weights import read_foreign
from stepwell.recipe.delivered import load_delivered
from stepwell.recipe.files import read_job
from stepwell.recipe.initial import read_weights
from stepwell.report.curves import pictures
from stepwell.report.page import page
from stepwell.report.tables import comparison, read_run, summary

CLASSIFIED = {"task": "classification"}


def _source(place: Path, case: dict[str, Any]) -> None:
    source = SOURCES[case["source"]](**case["settings"])
    task = case.get("task", "classification")
    source.load(base=place, split=SplitSpec(**case.get("split", {})), task=task, seed=0)


def _read_again(place: Path, case: dict[str, Any]) -> None:
    delivered = load_delivered(place / "run")
    delivered.preparation.examples_from(place / case["file"], with_targets="ignored")


def _delivered(place: Path, case: dict[str, Any]) -> None:
    delivered = load_delivered(place / "run")
    delivered.preparation.signature()


def _adapter(place: Path, case: dict[str, Any]) -> None:
    load_adapter(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), place / "adapter")


def _report(place: Path, case: dict[str, Any]) -> None:
    run = read_run(place / "run")
    summary(run)
    comparison([run, run])
    pictures(run)
    page(run, [])


def _record(place: Path, case: dict[str, Any]) -> None:
    from stepwell.recipe.run_records import read_run

    read_run(place / "run")


def _checkpoint(place: Path, case: dict[str, Any]) -> None:
    verify_checkpoint(place / "checkpoints" / "step-8")
    load_checkpoint(place / "checkpoints" / "step-8")


def _thesaurus(place: Path, case: dict[str, Any]) -> None:
    make_table(["big", "large", "dog"] * 100, read_thesaurus(str(place / case["file"])))


KINDS: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "source": _source,
    "weights": lambda place, case: read_weights(place / case["file"]),
    "foreign": lambda place, case: read_foreign(place / case["file"]),
    "adapter": _adapter,
    "delivered": _delivered,
    "predicted": _read_again,
    "checkpoint": _checkpoint,
    "record": _record,
    "report": _report,
    "job": lambda place, case: read_job(place / case["file"]),
    "thesaurus": _thesaurus,
    # What must never happen: the test of the test.
    "naughty": lambda place, case: _NAUGHTY[case["act"]](place),
}


def _spend(place: Path) -> None:
    while True:
        pass


def _connect(place: Path) -> None:
    import socket

    with contextlib.suppress(OSError), socket.socket() as made:
        made.connect(("127.0.0.1", 9))


def _system(place: Path) -> None:
    import os

    os.system("true")


def _start(place: Path) -> None:
    import subprocess

    subprocess.run(["true"])


def _import(place: Path) -> None:
    import canary_module  # type: ignore[import-not-found]

    canary_module.run()


_NAUGHTY: dict[str, Callable[[Path], Any]] = {
    "exec": lambda place: exec("1 + 1"),
    "eval": lambda place: eval("1 + 1"),
    "compile": lambda place: compile("1 + 1", "x", "eval"),
    "system": _system,
    "start": _start,
    "import": _import,
    "connect": _connect,
    "write": lambda place: (place / "written").write_text("x"),
    "make a folder": lambda place: (place / "made").mkdir(),
    "remove": lambda place: (place / "there").unlink(),
    "spend": _spend,
    "grow": lambda place: bytearray(1 << 30),
    "unpickle": lambda place: torch.load(place / "there.pt", weights_only=False),
}


def warm_up() -> None:
    """Load what reading good files loads: the cases "good ..." that stand in the folder."""
    import json

    for line in Path("warm_up.jsonl").read_text(encoding="utf-8").splitlines():
        told = run(json.loads(line))
        assert told["outcome"] == "read", told


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Read what a case names.

    Returns:
        "outcome": "read", or "refused" with the error's parts.
    """
    try:
        KINDS[case["kind"]](Path(case["place"]), case)
    except StepwellError as error:
        parts = {"what": error.what, "expected": error.expected, "fix": error.fix, "where": error.where or ""}
        return {"outcome": "refused", "text": str(error)[:20_000], "length": len(str(error))} | parts
    return {"outcome": "read"}
