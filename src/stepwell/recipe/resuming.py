"""What may change when a run goes on: how long it goes on. Everything else is part of what makes its bits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stepwell.core.errors import JobError
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly

__all__ = ["refuse_settings", "require_longer", "with_limits"]


def with_limits(job: Job, *, budget: str | None, max_time: str | None) -> Job:
    """The job with another budget, or another limit in time, where they are given.

    >>> from stepwell.recipe.job import Job
    >>> with_limits(Job(recipe={"optimizer": "sgd"}, budget="3 epochs"), budget="5 epochs", max_time=None).budget
    '5 epochs'
    """
    changes = {path: value for path, value in (("budget", budget), ("stop.max_time", max_time)) if value is not None}
    for path, value in changes.items():
        job = job.replace_at(path, value)
    return job


def require_longer(assembly: Assembly) -> None:
    """Refuse a new budget that a run which was just loaded can't be trained to.

    Raises:
        JobError: it has done more than that already, or something else than its budget ended it.
    """
    trainer, horizon, clock = assembly.trainer, assembly.resolved.horizon, assembly.step.clock
    budget = assembly.parts.job.budget
    if trainer.stop_reason is not None:
        raise JobError(
            f"this run has ended by itself ({trainer.stop_reason}), which a budget of {budget} doesn't change",
            expected="a run that its budget, its limit in time or a signal has ended",
            fix="Leave --budget out, or train anew without what ended it",
        )
    if horizon.done(clock) > horizon.total:
        raise JobError(
            f"the run has done {clock.steps:,} steps, and a budget of {budget} is {horizon.total_steps:,} steps",
            expected="a budget of what is done, or more: steps can't be taken back",
            fix=f'Give a longer --budget; to end the run here: --budget "{clock.steps} steps"',
        )


def refuse_settings(settings: Iterable[str], folder: Path) -> None:
    """Refuse `--set` at a resume, saying what may change there.

    Args:
        settings: "PATH=VALUE" texts.
        folder: of the run.

    Raises:
        JobError: there is one.
    """
    for text in settings:
        path, _, value = text.partition("=")
        option = {"budget": "--budget", "stop.max_time": "--max-time"}.get(path.strip())
        anew = f"Train anew: stepwell train {folder / 'job.yaml'} --set {text}; add --set init_from={folder} to keep its weights"
        raise JobError(
            f"--set {text}, but a resumed run keeps its job",
            expected="of its settings only --budget and --max-time: all else decides the bits that the run would have had",
            fix=f'Write {option} "{value.strip()}"' if option else anew,
        )
