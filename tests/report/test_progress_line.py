"""The live line: in place on a terminal, one line per evaluation elsewhere, and never in the way of a run."""

from __future__ import annotations

import io

import pytest

from stepwell.core.reports import EvalReport, Event
from stepwell.report import progress as progress_module
from stepwell.report.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves by hand."""
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def row(step: int, loss: float = 0.5) -> dict[str, float]:
    return {"step": step, "epoch": step / 10, "loss": loss, "lr": 0.003}


def last_line(screen: io.StringIO) -> str:
    return screen.getvalue().split("\r")[-1].rstrip()


def test_without_a_terminal_there_is_one_line_per_evaluation_and_none_per_step(seconds: list[float]) -> None:
    screen = io.StringIO()
    line = ProgressLine(stream=screen)
    line.start(40, 10)
    for step in range(1, 41):
        seconds[0] += 1
        line.step(row(step))
        if step % 20 == 0:
            line.evaluated(EvalReport(step, step / 10, {"loss": 0.25, "accuracy": 0.9}))
    line.finish()
    assert screen.getvalue().splitlines() == [
        "training for 40 steps (4 epochs)",
        "step 20/40  epoch 2.00  validation accuracy 90.00 %  loss 0.25",
        "step 40/40  epoch 4.00  validation accuracy 90.00 %  loss 0.25",
    ]
    assert "\r" not in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


def test_evaluations_in_quick_succession_share_a_line_but_the_last_one_is_always_written(seconds: list[float]) -> None:
    screen = io.StringIO()
    line = ProgressLine(stream=screen, every=2.0)
    line.start(100, None)
    for step in range(1, 101):
        seconds[0] += 0.1
        line.evaluated(EvalReport(step, 0.0, {"loss": float(step)}))
    line.finish()
    lines = screen.getvalue().splitlines()
    assert 5 <= len(lines) <= 8  # ten seconds at one line in two, the title and the last
    assert lines[-1].startswith("step 100/100")


def test_on_a_terminal_the_line_is_rewritten_with_step_loss_rate_metric_speed_and_time_left(seconds: list[float]) -> None:
    screen = Terminal()
    line = ProgressLine(stream=screen, samples=64)
    line.start(1000, 100)
    line.step(row(100))
    seconds[0] += 10
    line.evaluated(EvalReport(200, 2.0, {"loss": 0.3, "accuracy": 0.875}))
    line.step(row(200, loss=0.25))
    assert "\n" not in screen.getvalue()
    seconds[0] += 10
    line.step(row(300, loss=0.2))
    shown = last_line(screen)
    # 100 steps in ten seconds are 640 samples a second, and 700 steps to go take 70 seconds
    assert shown.startswith("step 300/1,000")
    for part in ("validation accuracy 87.50 %", "1 min 10 s left"):
        assert part in shown


def test_a_wide_terminal_shows_everything_and_a_narrow_one_is_never_overrun(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in (200, 80, 40, 10):
        monkeypatch.setenv("COLUMNS", str(columns))
        screen = Terminal()
        line = ProgressLine(stream=screen, samples=64)
        line.start(1000, 100)
        line.evaluated(EvalReport(1, 0.0, {"accuracy": 0.5}))
        for step in (100, 200):
            seconds[0] += 10
            line.step(row(step))
        shown = last_line(screen)
        assert len(shown) < columns
        if columns == 200:
            assert shown == (
                "step 200/1,000  epoch 2.0/10  loss 0.5  lr 3.00e-03  validation accuracy 50.00 %  640 samples/s  1 min 20 s left"
            )


def test_a_terminal_is_written_to_no_more_often_than_asked(seconds: list[float]) -> None:
    screen = Terminal()
    line = ProgressLine(stream=screen, every=0.1)
    line.start(10_000, None)
    for step in range(1, 10_001):
        seconds[0] += 0.001
        line.step(row(step))
    assert 90 <= screen.getvalue().count("\r") <= 101  # ten seconds


def test_a_shorter_line_leaves_nothing_of_the_longer_one_before(seconds: list[float]) -> None:
    screen = Terminal()
    line = ProgressLine(stream=screen)
    line.start(10, None)
    line.step({"step": 1, "loss": 0.123456789, "lr": 1e-3})
    first = len(screen.getvalue().split("\r")[-1])
    line.finish()
    assert screen.getvalue().endswith("\r" + " " * first + "\r")


def test_a_closed_pipe_silences_the_line_and_nothing_else() -> None:
    line = ProgressLine(stream=ClosedPipe())
    line.start(10, None)
    line.evaluated(EvalReport(5, 0.0, {"loss": 1.0}))
    line.event(Event("nonfinite", 6))
    line.finish()


def test_rare_events_are_told_and_routine_ones_are_not(seconds: list[float]) -> None:
    screen = io.StringIO()
    line = ProgressLine(stream=screen)
    line.event(Event("best", 3, {"metric": "loss"}))
    line.event(Event("nonfinite", 4, {"loss": float("inf"), "grad_norm": 8400.0}))
    assert screen.getvalue() == "step 4: nonfinite: loss inf, grad norm 8,400\n"


def test_a_flood_of_one_event_is_cut_after_five(seconds: list[float]) -> None:
    screen = io.StringIO()
    line = ProgressLine(stream=screen)
    for step in range(1000):
        line.event(Event("nonfinite", step))
    line.event(Event("rolled_back", 1000))
    lines = screen.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[4].endswith("further ones are in events.jsonl")
    assert lines[5] == "step 1,000: rolled back"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_names_from_data_can_not_move_the_cursor(stream: type[io.StringIO], seconds: list[float]) -> None:
    screen = stream()
    line = ProgressLine(stream=screen, style="log")
    line.evaluated(EvalReport(1, 0.0, {"\x1b[2Jacc\r\n": 0.5}, split="\x07val"))
    line.event(Event("\x1b[0m", 2, {"\x9b1m": "\u202e"}))
    assert not set(screen.getvalue()) & {"\x1b", "\x07", "\r", "\x9b", "\u202e"}


def test_values_that_are_not_finite_are_shown_as_such(seconds: list[float]) -> None:
    screen = Terminal()
    line = ProgressLine(stream=screen)
    line.start(10, None)
    line.evaluated(EvalReport(1, 0.0, {"accuracy": float("nan")}))
    seconds[0] += 1
    line.step({"step": 1, "loss": float("inf"), "lr": 0.1})
    assert "loss inf" in last_line(screen)
    assert "accuracy nan" in last_line(screen)


def test_going_back_to_an_earlier_step_after_a_rollback_gives_no_negative_speed(seconds: list[float]) -> None:
    screen = Terminal()
    line = ProgressLine(stream=screen)
    line.start(100, None)
    for step in (10, 20, 5, 6):
        seconds[0] += 1
        line.step(row(step))
    assert "-" not in last_line(screen).replace("e-03", "")
