"""What a run records about itself: rows of training windows and evaluations, events, and the best evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from stepwell.core.reports import EvalReport, Event, StepReport
from stepwell.engine.records.later_rows import LaterRows
from stepwell.engine.records.run_folder import RunFolder

_GRADIENT = [f"gradient_{name}" for name in ("mean", "std", "norm", "max_abs", "zero_fraction")]
_ACTIVATION = [f"activation_{name}" for name in ("mean", "std", "zero_fraction", "dead_fraction", "saturated_fraction")]
LOGS = ("train", "validation", "layers")
LAYER_COLUMNS = ["step", "name", *_GRADIENT, "parameter_norm", "update_ratio", *_ACTIVATION]


@dataclass
class History:
    """Everything a run recorded. Of a resumed run the rows from before stay in its folder until somebody looks at them.

    Args:
        train: one row per logged window: step, epoch, loss (mean over the window's samples), lr, grad_norm (of the
            last step, before clipping), param_norm (L2 norm of all tensors that train, after that step), skipped (steps in the
            window), and what grad techniques measured, "id.name",
            as the mean over the window's completed steps: of `clip_norm.clipped` that is the clip rate.
        validation: one row per evaluation: step, epoch, then every metric.
        layers: one row per layer at each step at which layer_statistics is due: step, name, then its statistics.
        events: what else happened, oldest first.
    """

    train: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def put_off(self, name: str, rows: LaterRows) -> None:
        """Leave the rows of a log where they are until the attribute of that name is read."""
        vars(self).setdefault("_later", {})[name] = rows
        vars(self).pop(name, None)

    def __getattr__(self, name: str) -> list[dict[str, Any]]:  # only of what isn't there: rows that were put off
        if name not in (later := vars(self).get("_later", {})):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found: list[dict[str, Any]] = later[name].read()
        vars(self)[name] = found
        del later[name]
        return found

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to the log of that name."""
        self._of(name).append(row)

    def count(self, name: str) -> int:
        """How many rows a log has."""
        return len(self._of(name))

    def newest_first(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a log from its end on; of those that were put off, only as many are read as are taken."""
        return reversed(self._of(name))

    def _of(self, name: str) -> list[dict[str, Any]] | LaterRows:
        rows: list[dict[str, Any]] | LaterRows = vars(self).get("_later", {}).get(name) or getattr(self, name)
        return rows


class Progress(Protocol):
    """Whoever watches a run live. Called on the training thread, at a cadence throttled by time."""

    def start(self, total_steps: int, epoch_steps: int | None) -> None: ...
    def step(self, row: dict[str, float]) -> None: ...
    def evaluated(self, report: EvalReport) -> None: ...
    def event(self, event: Event) -> None: ...
    def finish(self) -> None: ...


class Watch(Protocol):
    """Whoever judges a run while it goes on, by the rows that were just recorded; called where they are, not at every step."""

    def start(self, job: Mapping[str, Any], total_steps: int) -> None: ...
    def see(self, log: str, row: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """A new row of the log "train", "validation" or "layers"; what to put on record as events `doctor`."""
        ...


class Recorder:
    """Turns reports into rows. A step costs one append; numbers are read once per window.

    Args:
        folder: where rows also go, or None for memory only.
        log_every: optimizer steps (and skipped ones) per row.
        progress: a live watcher, or None.
        watch: judges rows as they come, or None.
        param_norm: gives the norm of the parameters as they are, once per row; None leaves it out.
    """

    def __init__(
        self,
        *,
        folder: RunFolder | None,
        log_every: int,
        progress: Progress | None = None,
        watch: Watch | None = None,
        param_norm: Callable[[], Tensor] | None = None,
    ) -> None:
        self.param_norm = param_norm
        self.history = History()
        self.folder, self.log_every, self.progress, self.watch = folder, max(log_every, 1), progress, watch
        self._window: list[StepReport] = []
        self._carried = _empty_window()
        self._last_shown = 0.0
        self._started = time.perf_counter()

    def step(self, report: StepReport, epochs_per_step: float) -> None:
        """Take in a step's report; write a row when the window is full."""
        self._window.append(report)
        if report.layers:
            self._write_layers(report)
        if report.grad_norm.device.type == "cpu":
            # Read at once where reading is free: small tensors kept alive between steps would break up the memory that
            # the next step's large ones come from.
            self._fold()
        if len(self._window) + self._carried["reports"] >= self.log_every:
            self._write(self._close_window(epochs_per_step))
            self._carried = _empty_window()
        elif self.progress is not None and len(self._window) % 8 == 0:
            self._show(report, epochs_per_step)

    def flush(self, epochs_per_step: float) -> None:
        """Write what is left of the last window."""
        if self._window or self._carried["reports"]:
            row = self._close_window(epochs_per_step)
            if "step" in row:
                self._write(row)
            self._carried = _empty_window()

    def evaluated(self, report: EvalReport) -> None:
        """Record an evaluation."""
        row = {"step": report.step, "epoch": report.epoch, **report.metrics}
        self.history.add("validation", row)
        if self.folder is not None:
            self.folder.append(f"metrics/{report.split}", row)
        if self.progress is not None:
            self.progress.evaluated(report)
        self._judge("validation", row)

    def event(self, kind: str, step: int, **detail: Any) -> None:
        """Record an event."""
        event = Event(kind, step, detail)
        self.history.events.append(event)
        if self.folder is not None:
            self.folder.event(event)
        if self.progress is not None:
            self.progress.event(event)

    def _judge(self, log: str, row: dict[str, Any]) -> None:
        if self.watch is not None:
            for detail in self.watch.see(log, row):
                self.event("doctor", int(row["step"]), **detail)

    def state_dict(self) -> dict[str, Any]:
        """The open window and how many rows were written, so that a resumed run writes the same rows."""
        self._fold()
        return {"window": dict(self._carried), "rows": {name: self.history.count(name) for name in LOGS}}

    def last_finite_loss(self) -> float | None:
        """The newest logged loss that is a finite number."""
        losses = (row.get("loss", math.nan) for row in self.history.newest_first("train"))
        return next((loss for loss in losses if math.isfinite(loss)), None)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the open window after the rows that were written by then; later ones are dropped."""
        self._window.clear()
        self._carried = dict(state["window"])
        if self.folder is not None:
            self.folder.rewind({f"metrics/{name}": count for name, count in state["rows"].items()})
            for name, count in state["rows"].items():
                self.history.put_off(name, LaterRows.of(self.folder.path, name, most=count))
        else:
            for name, count in state["rows"].items():
                del getattr(self.history, name)[count:]

    def _fold(self) -> None:
        seen = self._carried
        for report in self._window:
            if report.skipped is None:
                seen["loss"] += _number(report) * report.samples
                seen["samples"] += report.samples
                for name, value in report.measured.items():
                    seen[f"{name}/sum"] = seen.get(f"{name}/sum", 0.0) + value.item()
            else:
                seen["skipped"] += 1
        if self._window:
            last = self._window[-1]
            seen |= {"grad_norm": last.grad_norm.item(), "lr": last.lr, "step": last.step}
        seen["reports"] += len(self._window)
        self._window.clear()

    def _close_window(self, epochs_per_step: float) -> dict[str, float]:
        self._fold()
        seen = self._carried
        if "step" not in seen:
            return {}
        loss = seen["loss"] / seen["samples"] if seen["samples"] else float("nan")
        row: dict[str, float] = {"step": int(seen["step"]), "epoch": seen["step"] * epochs_per_step, "loss": loss}
        row |= {"lr": seen["lr"], "grad_norm": seen["grad_norm"]}
        row |= {} if self.param_norm is None else {"param_norm": self.param_norm().item()}
        row |= {"skipped": int(seen["skipped"])}
        completed = seen["reports"] - seen["skipped"] or 1.0
        return row | {key.removesuffix("/sum"): total / completed for key, total in seen.items() if key.endswith("/sum")}

    def _write_layers(self, report: StepReport) -> None:
        for name, statistics in report.layers.items():
            row: dict[str, Any] = {"step": report.step, "name": name, **{key: value.item() for key, value in statistics.items()}}
            self.history.add("layers", row)
            if self.folder is not None:
                self.folder.append("metrics/layers", row, columns=LAYER_COLUMNS)
            self._judge("layers", row)

    def _write(self, row: dict[str, float]) -> None:
        self.history.add("train", row)
        if self.folder is not None:
            self.folder.append("metrics/train", row)
            self.folder.append("timing", {"step": row["step"], "seconds": round(time.perf_counter() - self._started, 3)})
        if self.progress is not None:
            self.progress.step(row)
        self._judge("train", row)

    def _show(self, report: StepReport, epochs_per_step: float) -> None:
        now = time.perf_counter()
        if self.progress is not None and now - self._last_shown > 0.1:
            self._last_shown = now
            row = {"step": report.step, "epoch": report.step * epochs_per_step, "loss": _number(report), "lr": report.lr}
            self.progress.step(row)


def _empty_window() -> dict[str, float]:
    return {"loss": 0.0, "samples": 0.0, "skipped": 0.0, "reports": 0.0}


def _number(report: StepReport) -> float:
    """A step's loss as one number (of replicas, their mean): plain arithmetic where the sums are on the host anyway."""
    total = 0.0
    for term in report.terms.values():
        count = report.counts[term.unit]
        total += term.weight * (term.sum.item() if term.sum.dim() == 0 else term.sum.mean().item()) / (float(count) or 1.0)
    return total
