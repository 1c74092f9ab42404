"""A small table with numbers, categories and gaps, a job for it, and the command called in this process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from stepwell.cli.main import main

HEADER = "age,income,colour,paid\n"
JOB = """\
data: {source: table, path: credit.csv, target: paid}
split: {validation: 0.2, test: 0.2}
model: {name: mlp, hidden: [8]}
task: binary
recipe:
  objective: {name: bce}
  optimizer: {name: sgd, lr: 0.1}
  batch_size: 8
budget: 4 epochs
"""
REGRESSION = JOB.replace("target: paid", "target: income").replace("task: binary", "task: regression").replace("bce", "mse")
CLASSES = JOB.replace("task: binary", "task: classification").replace("bce", "cross_entropy")


@dataclass(frozen=True)
class Answer:
    """What a command wrote, and how it ended."""

    code: int
    out: str
    err: str

    def mistake(self) -> tuple[str, str, str]:
        """Its one three-part error: what, expected, fix."""
        lines = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        assert "Traceback" not in self.err + self.out
        assert [line.split(":")[0] for line in lines] == ["error", "expected", "fix"], self.err
        what, expected, fix = (line.split(":", 1)[1].strip() for line in lines)
        assert all((what, expected, fix))
        return what, expected, fix


def call(*arguments: str) -> Answer:
    """`stepwell ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return Answer(ended.value.code, out.getvalue(), err.getvalue())


def row(number: int) -> str:
    """A row; every eleventh has no income."""
    income = "" if number % 11 == 10 else str(1000 + 37 * number % 911)
    colour = ("red", "blue", "grey")[number * number % 3]
    return f"{20 + number * 7 % 40},{income},{colour},{'yes' if number * 5 % 7 < 3 else 'no'}\n"


def rows(num: int, start: int = 0) -> str:
    """Rows, all different for numbers below 40."""
    return "".join(row(number) for number in range(start, start + num))


def full_rows(num: int, start: int = 0) -> str:
    """Rows without gaps."""
    return "".join(f"{20 + n * 7 % 40},{1000 + 37 * n % 911},red,{'yes' if n % 3 else 'no'}\n" for n in range(start, start + num))


def write(folder: Path, *, job: str = JOB, table: str | None = None) -> None:
    """credit.csv and job.yaml."""
    (folder / "job.yaml").write_text(job, encoding="utf-8")
    (folder / "credit.csv").write_text(HEADER + rows(40) if table is None else table, encoding="utf-8")


def content(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file and folder below a folder, and its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name not in but:
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else b"a folder"
    return found
