"""The live line of a run: rewritten in place on a terminal, one line per evaluation anywhere else. Plain text."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, TextIO

from stepwell.core.reports import EvalReport, Event
from stepwell.report.text import amount, duration, main_metric, metric, number, plain

__all__ = ["ProgressLine"]

# On record in events.jsonl, but no news to somebody who watches: they happen all the time, or are shown otherwise.
_ROUTINE = frozenset({"started", "saved", "checkpoint", "best", "stopped", "finished", "evaluated", "interrupted"})
_SAME_EVENT = 5
# What a narrow terminal can do without, first one first.
_DROPPED_FIRST = ("speed", "lr", "epoch", "loss", "metric", "left")


class ProgressLine:
    """Shows how a run is going. It only reads reports, and never ends a run: a closed terminal makes it fall silent.

    Args:
        stream: where to write; the process's standard error unless given.
        style: "line" rewrites one line in place, "log" writes a line per evaluation, "auto" asks whether it is a terminal.
        every: least seconds between two rewrites, or between two lines of the log.
        samples: in a step, to show samples per second; steps per second where it isn't given.

    >>> import io
    >>> screen = io.StringIO()
    >>> shown = ProgressLine(stream=screen, style="log")
    >>> shown.start(100, 20)
    >>> shown.evaluated(EvalReport(50, 2.5, {"loss": 0.31, "accuracy": 0.912}))
    >>> print(screen.getvalue(), end="")
    training for 100 steps (5 epochs)
    step 50/100  epoch 2.50  validation accuracy 91.20 %  loss 0.31
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        style: Literal["auto", "line", "log"] = "auto",
        every: float | None = None,
        samples: int | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        in_place = style == "line" or (style == "auto" and self._stream.isatty())
        self._style: Literal["line", "log"] = "line" if in_place else "log"
        self._every = every if every is not None else 0.1 if in_place else 2.0
        self._samples = samples
        self._total = 0
        self._epoch_steps: int | None = None
        self._width = 0
        self._shown_at = -float("inf")
        self._parts: dict[str, str] = {}
        self._pending: EvalReport | None = None
        self._pace = _Pace()
        self._events: Counter[str] = Counter()

    def start(self, total_steps: int, epoch_steps: int | None) -> None:
        """A run begins, or goes on.

        Args:
            total_steps: planned optimizer steps, >= 0.
            epoch_steps: steps in an epoch, None where the data has no end.
        """
        self._total, self._epoch_steps, self._pace = total_steps, epoch_steps, _Pace()
        if self._style == "log":
            planned = f" ({number(round(total_steps / epoch_steps, 2))} epochs)" if epoch_steps else ""
            self._write(f"training for {amount(total_steps, 'step')}{planned}\n")

    def step(self, row: Mapping[str, float]) -> None:
        """Steps were made.

        Args:
            row: step, and what is known there: epoch, loss, lr, and samples where they are counted.
        """
        now = time.monotonic()
        if self._style == "log" or now - self._shown_at < self._every:
            return
        step = int(row["step"])
        self._pace.see(step, now)
        self._parts["step"] = f"step {step:,}/{self._total:,}"
        if self._epoch_steps:
            planned = number(round(self._total / self._epoch_steps, 1))
            self._parts["epoch"] = f"epoch {step / self._epoch_steps:.1f}/{planned}"
        if "loss" in row:
            self._parts["loss"] = f"loss {row['loss']:.4g}"
        if "lr" in row:
            self._parts["lr"] = f"lr {row['lr']:.2e}"
        pace = self._pace.per_second
        if pace > 0:
            speed = f"{pace * self._samples:,.0f} samples/s" if self._samples else f"{number(round(pace, 1))} steps/s"
            self._parts["speed"] = speed
            self._parts["left"] = f"{duration(max(self._total - step, 0) / pace)} left"
        self._draw(now)

    def evaluated(self, report: EvalReport) -> None:
        """An evaluation was made."""
        name = main_metric(report.metrics)
        if name is None:
            return
        self._parts["metric"] = f"{plain(report.split)} {plain(name)} {metric(name, report.metrics[name])}"
        now = time.monotonic()
        if self._style == "line":
            self._parts.setdefault("step", f"step {report.step:,}/{self._total:,}")
            if now - self._shown_at >= self._every:
                self._draw(now)
        elif now - self._shown_at >= self._every:
            self._shown_at, self._pending = now, None
            self._write(self._row(report, name))
        else:
            self._pending = report

    def event(self, event: Event) -> None:
        """Something happened. What is rare and matters is written on a line of its own."""
        if event.kind in _ROUTINE:
            return
        self._events[event.kind] += 1
        if self._events[event.kind] > _SAME_EVENT:
            return
        told = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in event.detail.items())
        more = "; further ones are in events.jsonl" if self._events[event.kind] == _SAME_EVENT else ""
        self.note(f"step {event.step:,}: {event.kind.replace('_', ' ')}{': ' if told else ''}{told}{more}")

    def note(self, text: str) -> None:
        """A line of text above the live one."""
        self._erase()
        self._write(plain(text) + "\n")
        if self._style == "line" and self._parts:
            self._draw(self._shown_at)

    def finish(self) -> None:
        """The run is over, however it ended. May be called twice."""
        if self._pending is not None:
            self._write(self._row(self._pending, main_metric(self._pending.metrics) or ""))
            self._pending = None
        self._erase()
        self._parts.clear()

    def _row(self, report: EvalReport, name: str) -> str:
        parts = [f"step {report.step:,}/{self._total:,}", f"epoch {report.epoch:.2f}"]
        parts.append(f"{plain(report.split)} {plain(name)} {metric(name, report.metrics[name])}")
        if name != "loss" and "loss" in report.metrics:
            parts.append(f"loss {number(report.metrics['loss'])}")
        return "  ".join(parts) + "\n"

    def _draw(self, now: float) -> None:
        self._shown_at = now
        order = ("step", "epoch", "loss", "lr", "metric", "speed", "left")
        shown = [key for key in order if key in self._parts]
        room = shutil.get_terminal_size().columns - 1
        for key in _DROPPED_FIRST:
            if len("  ".join(self._parts[k] for k in shown)) <= room:
                break
            if key in shown:
                shown.remove(key)
        line = "  ".join(self._parts[key] for key in shown)[:room]
        # Blanks over what is left of a longer line before: understood by every terminal, and no control sequence needed.
        self._write("\r" + line + " " * max(self._width - len(line), 0))
        self._width = len(line)

    def _erase(self) -> None:
        if self._style == "line" and self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe or terminal: training goes on, unseen
            self._stream = _Nowhere()


class _Pace:
    """Steps per second, with what is older than some seconds counting less and less."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self.per_second = 0.0

    def see(self, step: int, now: float) -> None:
        if self._last is not None and now > self._last[1] and step >= self._last[0]:
            passed = now - self._last[1]
            latest = (step - self._last[0]) / passed
            old = 0.5 ** (passed / 5.0) if self.per_second else 0.0
            self.per_second = old * self.per_second + (1 - old) * latest
        self._last = (step, now)


def _short(value: Any) -> str:
    text = number(value) if isinstance(value, (int, float)) else plain(value)
    return text if len(text) <= 120 else text[:119] + "…"


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
