"""Errors with three parts: what happened, what was expected, how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 3000  # characters of one part of an error: names come from files, and a file may hold any


class StepwellError(ValueError):
    """A mistake a person can mend. The command line prints it without a traceback and exits with `exit_code`.

    Args:
        what: what happened, in plain values ("mixup.alpha is 0").
        expected: what was expected ("a number above 0").
        fix: what to do ("To train without mixup, remove it from the recipe").
        where: where it happened ("job.yaml:12", "credit.csv:301"), where that is known.

    >>> str(StepwellError("mixup.alpha is 0", expected="a number above 0", fix="Leave mixup out instead"))
    'mixup.alpha is 0; expected a number above 0. Leave mixup out instead.'
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: str, fix: str, where: str | None = None) -> None:
        self.what, self.expected, self.fix = (_cut(part.rstrip(".")) for part in (what, expected, fix))
        self.where = where
        super().__init__(self.what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}; expected {self.expected}. {self.fix}."

    def at(self, where: str) -> StepwellError:
        """The same error with its place filled in, unless it already has one."""
        self.where = self.where or where
        return self


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 50]}... ({len(text):,} characters)"


class JobError(StepwellError):
    """A job, a recipe or a command line that can't be run as written. Exit code 2."""


class DataError(StepwellError):
    """Data that can't be read, or that doesn't fit the task. Exit code 2."""


class RunFolderError(StepwellError):
    """An output folder that can't be written, is in use, or holds something else. Exit code 2."""


class TrainingStopped(StepwellError):
    """Training can't go on (a non-finite loss under `on_nonfinite: stop`). Weights were not updated. Exit code 3."""

    exit_code = 3


class Interrupted(StepwellError):
    """A signal ended the run after its state was saved. Exit code 128 + the signal's number."""

    def __init__(self, what: str, *, expected: str, fix: str, signal_number: int) -> None:
        super().__init__(what, expected=expected, fix=fix)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """A fix for a misspelt name: the nearest known one, then all of them.

    >>> nearest("mixpu", ["ema", "mixup"])
    "Did you mean 'mixup'? Known: ema, mixup"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Known: {', '.join(names) if names else 'none'}"
