"""The line of a job file that an error is about which shows only later, when data and model are there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stepwell.core.errors import DataError, JobError
from stepwell.recipe.values.places import place_of

if TYPE_CHECKING:
    from stepwell.recipe.job import Job

__all__ = ["blaming", "written_as"]


def written_as(job: Job, mapping: Mapping[str, Any]) -> Job:
    """The job, which from now on knows the file that it was read from; another job made of it does not."""
    object.__setattr__(job, "_written", mapping)  # no field: where a job was written is no part of its value
    return job


@contextmanager
def blaming(job: Job, *parts: str) -> Iterator[None]:
    """An error about a job that names no place gets the line that it is about, where the job was read from a file.

    Args:
        parts: keys of the job that may be at fault; where no line of them is named in the error, the first one is.
    """
    try:
        yield
    except (JobError, DataError) as error:
        written = getattr(job, "_written", None)
        if error.where is None and written is not None:
            # Quoted names first: a word such as "file" may also stand in the job by chance.
            quoted, words = (set(re.findall(pattern, error.what)) for pattern in (r"'([^']*)'", r"[\w./-]+"))
            error.where = _line(written, parts, quoted) or _line(written, parts, words) or place_of(written, parts[0])
        raise


def _line(written: Mapping[str, Any], parts: tuple[str, ...], words: set[str]) -> str | None:
    for part in parts:
        named = [(part, place_of(written, part))] if _is_scalar(written.get(part)) else _names(written.get(part))
        for name, place in named:
            if name in words:
                return place
    return None


def _is_scalar(value: Any) -> bool:
    return value is not None and not isinstance(value, (Mapping, list))


def _names(value: Any) -> Iterator[tuple[str, str | None]]:
    """Every key and every text in a part of a job, with its place."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        place = place_of(value, key)
        if isinstance(key, str):
            yield key, place
        if isinstance(item, str):
            yield item, place
        yield from _names(item)
