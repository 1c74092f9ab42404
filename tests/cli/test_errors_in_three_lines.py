"""Whatever ends a command becomes three lines and a documented exit code."""

from __future__ import annotations

import errno

import pytest

from stepwell.cli.errors import explain_failure
from stepwell.core.errors import DataError, Interrupted, JobError, StepwellError, TrainingStopped


def shown(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = explain_failure(error)
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "expected", "fix"]
    return code, [line.split(":", 1)[1].strip() for line in lines]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobError("a", expected="b", fix="c"), 2),
        (DataError("a", expected="b", fix="c"), 2),
        (TrainingStopped("a", expected="b", fix="c"), 3),
        (Interrupted("a", expected="b", fix="c", signal_number=15), 143),
    ],
)
def test_the_three_parts_of_an_error_are_the_three_lines(
    error: StepwellError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(error, capsys) == (code, ["a", "b", "c"])
    assert shown(error.at("job.yaml:7"), capsys) == (code, ["job.yaml:7: a", "b", "c"])


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOENT, errno.EMFILE]
)
def test_a_refusal_of_the_operating_system_names_the_file(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = shown(OSError(number, "as the system says it", "runs/a/report.html"), capsys)
    assert code == 2
    assert lines[0].startswith("runs/a/report.html: ")


@pytest.mark.parametrize(
    "error", [RuntimeError("first\nsecond"), KeyError("x"), OSError("no number"), AssertionError(), RecursionError()]
)
def test_a_fault_of_our_own_is_short_and_points_to_debug(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = shown(error, capsys)
    assert code == 70
    assert type(error).__name__ in lines[0]
    assert "second" not in lines[0]
    assert "--debug" in lines[2]


def test_ctrl_c_outside_of_training_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = shown(KeyboardInterrupt(), capsys)
    assert (code, lines[0]) == (130, "interrupted")


@pytest.mark.parametrize("name", ["OutOfMemoryError", "MemoryError"])
def test_too_little_memory_is_told_with_its_remedy(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = MemoryError() if name == "MemoryError" else type(name, (RuntimeError,), {})("CUDA out of memory")
    code, lines = shown(error, capsys)
    assert code == 2
    assert "micro_batch_size" in lines[2]


def test_an_error_keeps_to_its_line_and_can_not_write_to_the_terminal_s_controls(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = shown(DataError("column 'a\nfix: rm\x1b[2J'", expected="b\r\n", fix="c"), capsys)
    assert lines[0] == "column 'a fix: rm\ufffd[2J'"
