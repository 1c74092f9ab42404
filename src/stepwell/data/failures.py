"""What goes wrong in a user's dataset, in words that can be carried from one process to another."""

from __future__ import annotations

import sysconfig
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stepwell.core.errors import DataError, StepwellError

__all__ = ["Failure", "is_library", "place_in_code"]

LONGEST_MESSAGE = 300  # characters of an exception's first line


@dataclass(frozen=True)
class Failure:
    """The parts of an error. An exception itself may be one that can't be pickled, and would carry its frames along."""

    what: str
    expected: str
    fix: str
    where: str | None = None

    @staticmethod
    def of(error: StepwellError) -> Failure:
        return Failure(error.what, error.expected, error.fix, error.where)

    @staticmethod
    def of_sample(error: BaseException, sample: int) -> Failure:
        """An exception in reading a sample.

        Args:
            sample: its number in the user's dataset.
        """
        return Failure(
            f"sample {sample} of the dataset can't be read: {told(error)}",
            "a dataset whose samples can all be read",
            f"Mend that sample or the code, or leave the sample out; dataset[{sample}] shows the whole traceback",
        )

    @staticmethod
    def of_batch(error: BaseException) -> Failure:
        """An exception in putting samples together."""
        return Failure(
            f"samples can't be put together into a batch: {told(error)}",
            "items and a collate_fn that make one batch of tensors",
            "Mend the collate_fn, or make the dataset return tensors of one shape",
        )

    def error(self, process: str = "") -> DataError:
        """The error to raise.

        Args:
            process: which worker found it.
        """
        what = f"{self.what} (in {process})" if process and self.where is None else self.what
        return DataError(what, expected=self.expected, fix=self.fix, where=self.where)


def told(error: BaseException) -> str:
    """An exception's type, first line, and place in the user's code.

    >>> told(KeyError("a"))
    "KeyError: 'a'"
    """
    lines = str(error).strip().splitlines()
    text = type(error).__name__ + (f": {lines[0][:LONGEST_MESSAGE]}" if lines else "")
    place = place_in_code(error)
    return f"{text}, at {place}" if place else text


def place_in_code(error: BaseException) -> str:
    """The innermost line of the user's own code that an exception came through: "data.py:12 in __getitem__"."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_library(frame.filename)] or frames
    return f"{own[-1].filename}:{own[-1].lineno} in {own[-1].name}" if own else ""


def is_library(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to stepwell."""
    return filename.startswith(("<", *_libraries())) or not {"site-packages", "dist-packages"}.isdisjoint(Path(filename).parts)


@lru_cache(maxsize=1)
def _libraries() -> tuple[str, ...]:
    here = str(Path(__file__).parents[1])
    return (here, *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
