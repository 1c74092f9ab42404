"""What a person sees of a training run: the live line, then the result, the report and what to try next."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.core.check import require_one_of
from stepwell.core.duration import Duration
from stepwell.core.errors import Interrupted, RunFolderError, StepwellError, TrainingStopped
from stepwell.report.text import amount, main_metric, metric, plain

if TYPE_CHECKING:
    from stepwell.doctor.live import LiveRules
    from stepwell.recipe.job import Job
    from stepwell.report.progress import ProgressLine

__all__ = ["Call", "Suggestion", "live_rules", "next_steps", "result_lines", "run_verb"]


@dataclass(frozen=True, slots=True)
class Call:
    """How training was called.

    Args:
        job: the job file.
        options: what a next command must repeat, as words: "--set", "seed=1".
        quiet: whether to leave out progress and suggestions.
        folder: where the run is, or will be, on disk.
    """

    job: Path
    options: list[str] = field(default_factory=list)
    quiet: bool = False
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A command that can be run as it stands, and what it answers."""

    command: str
    why: str


def live_rules(watch: str, *, resumed: Path | None = None) -> LiveRules | None:
    """The rules that judge a run as it goes.

    Args:
        watch: "on" or "off".
        resumed: the folder of the run that goes on.

    Raises:
        JobError: another word.
    """
    require_one_of("--watch", watch, ("on", "off"))
    if watch == "off":
        return None
    from stepwell.doctor.live import LiveRules

    return LiveRules(resumed=resumed)


def run_verb(verb: Callable[[ProgressLine | None], Any], call: Call, *, samples: int | None = None) -> None:
    """Train or resume with a live line, then print the result, write the report and say what to try next.

    Args:
        verb: takes the progress line, or None for silence, and returns the run.
        call: how it was called.
        samples: in a step, where that is known.
    """
    from stepwell.recipe.evidence.audit import head
    from stepwell.report.page import write_report
    from stepwell.report.progress import ProgressLine

    progress = None if call.quiet else ProgressLine(samples=samples)
    handler = _LogLines(progress or ProgressLine(style="log"))
    logger = logging.getLogger("stepwell")
    logger.addHandler(handler)
    try:
        try:
            run = verb(progress)
        finally:
            if progress is not None:
                progress.finish()
            logger.removeHandler(handler)
    except (Interrupted, TrainingStopped):
        _report_what_there_is(call.folder)
        raise
    try:  # the result first: a full disk must not keep the numbers from whoever waits for them
        print("\n".join(result_lines(run)), flush=True)
    finally:  # and the report even if nobody reads the result
        try:
            page = write_report(run.folder)
        except OSError as error:
            raise RunFolderError(
                f"the run is whole, but its report was not written: {error.strerror or error}",
                expected=f"{run.folder} to have space, and to be writable",
                fix=f"Free some space, then write it with `stepwell report {run.folder}`",
            ) from error
    print(f"report: {plain(page)}")
    if not call.quiet:
        if (told := head(run.folder)) is not None:
            print(f"head: {told}")
        print("\ntry next:")
        for suggestion in next_steps(run, call):
            print(f"  {plain(suggestion.command)}\n      {plain(suggestion.why)}")


def _report_what_there_is(folder: Path | None) -> None:
    """The report of a run that ended early; whatever keeps it from being written must not hide why the run ended."""
    from stepwell.report.page import write_report

    if folder is None or not (folder / "job.yaml").exists():
        return
    try:
        print(f"report: {plain(write_report(folder))}", flush=True)
    except Exception as error:
        logging.getLogger("stepwell.cli").warning("the report was not written: %s", error)


def result_lines(run: Any) -> list[str]:
    """The result in two lines: the task's metric on the test part and the validation part; how the run ended.

    Args:
        run: what training returned.
    """
    lines = []
    told_by_task = [run.task.headline] if run.task is not None else []
    name = main_metric([n for n in told_by_task if n in run.metrics or n in run.test_metrics] or run.test_metrics or run.metrics)
    if name is not None:
        parts: Mapping[str, Mapping[str, float]] = {"test": run.test_metrics, "validation": run.metrics}
        told = [f"{part} {plain(name)} {metric(name, values[name])}" for part, values in parts.items() if name in values]
        lines.append("   ".join(told))
    lines.append(f"{amount(run.steps, 'step')}, {plain(run.stop_reason)}")
    return lines


def next_steps(run: Any, call: Call) -> list[Suggestion]:
    """Three things to try next.

    Args:
        run: what training returned.
        call: how it was called.
    """
    job = _job_of(run.folder)
    again = ["stepwell", "train", str(call.job), *call.options]
    seed = (job.seed if job is not None else 0) + 1
    rate = getattr(job.recipe.optimizer, "lr", None) if job is not None else None
    steps = [_suggest([*again, "--set", f"seed={seed}"], "another seed: how much of the result is luck?")]
    if job is not None and run.best.get("step") == run.steps:
        budget = Duration.parse(job.budget)
        longer = [*again, "--set", f"budget={Duration(budget.amount * 1.5, budget.unit)}"]
        steps.append(_suggest(longer, "the last evaluation was the best one: does more training help?"))
    elif isinstance(rate, float) and rate > 0:
        lower = [*again, "--set", f"recipe.optimizer.lr={rate / 3:.2g}"]
        steps.append(_suggest(lower, "a third of the learning rate: is it well chosen?"))
    explain = ["stepwell", "explain", str(call.job), *call.options]
    steps.append(_suggest(explain, "the loop with each technique on its line, and the reason of each derived value"))
    steps.append(_suggest(["stepwell", "techniques"], "what else a recipe can hold"))
    return steps[:3]


def _suggest(words: list[str], why: str) -> Suggestion:
    return Suggestion(shlex.join(words), why)


def _job_of(folder: Path) -> Job | None:
    from stepwell.recipe.files import read_job

    try:
        return read_job(folder / "job.yaml")
    except (StepwellError, OSError):  # a plainer suggestion is better than an error after a run that went well
        return None


class _LogLines(logging.Handler):
    """Warnings above the live line instead of through it."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__(logging.WARNING)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.note(f"{record.levelname.lower()}: {record.getMessage()}")
