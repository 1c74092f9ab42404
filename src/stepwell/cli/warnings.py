"""Warnings of a verb on standard error, one line each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stepwell.report.text import plain

__all__ = ["warnings_shown"]


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Within it, warnings are printed, unless something nearer to them shows them: the progress line of a training run."""
    logger, handler = logging.getLogger("stepwell"), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger("stepwell").handlers == [self]:
            print(f"{record.levelname.lower()}: {plain(record.getMessage())}", file=sys.stderr)
