"""Job files: strict YAML in, a Job out; and back."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from stepwell.core.errors import JobError
from stepwell.recipe.job import Job
from stepwell.recipe.values.blame import written_as
from stepwell.recipe.values.overrides import Override, apply
from stepwell.recipe.values.places import PlacedDict
from stepwell.recipe.values.secrets import refuse_secrets
from stepwell.recipe.values.yaml_reader import MAX_BYTES, parse
from stepwell.recipe.values.yaml_writer import dump

__all__ = ["dump", "parse_job", "parse_mapping", "read_job", "read_mapping"]


def read_job(path: str | os.PathLike[str], overrides: Iterable[Override | str] = (), *, given: Iterable[str] = ()) -> Job:
    """Read a job file.

    Args:
        path: of a YAML file.
        overrides: "path=value" texts, applied before anything is validated.
        given: which of "data", "model", "task" Python gives, and the file need not hold.

    Raises:
        JobError: with the file and line of whatever is wrong.
    """
    mapping = _changed(read_mapping(path), overrides)
    return written_as(Job.from_mapping(mapping, given=tuple(given)), mapping)


def parse_job(text: str, overrides: Iterable[Override | str] = (), *, name: str = "job.yaml", given: Iterable[str] = ()) -> Job:
    """Read a job from text; `name` is what errors call the file.

    >>> job = parse_job("recipe: {optimizer: {name: sgd, lr: 1e-1}}\\nbudget: 3 epochs", given=("data", "model", "task"))
    >>> job.recipe.optimizer.lr
    0.1
    """
    return Job.from_mapping(_changed(parse_mapping(text, name), overrides), given=tuple(given))


def _changed(mapping: PlacedDict, overrides: Iterable[Override | str]) -> PlacedDict:
    """The mapping with its overrides. Secrets are refused first: what is said of other mistakes could repeat them."""
    changes = list(overrides)
    refuse_secrets(mapping)
    refuse_secrets({"--set": [item for item in changes if isinstance(item, str)]})
    made: PlacedDict = apply(mapping, changes)
    refuse_secrets(made)
    return made


def read_mapping(path: str | os.PathLike[str]) -> PlacedDict:
    """What a job file holds, unvalidated: mappings and lists that know their lines.

    Raises:
        JobError: no such file, not a readable text file, not one YAML mapping.
    """
    return parse_mapping(_read_text(Path(path)), str(path))


def parse_mapping(text: str, name: str) -> PlacedDict:
    """What the text of a job file holds, as `read_mapping`; `name` is what errors call the file."""
    value = parse(text, lambda line: f"{name}:{line}")
    if value is None:
        raise JobError(
            "the job file is empty", expected="a job: data, model, task, recipe, budget", fix=_START, where=f"{name}:1"
        )
    if not isinstance(value, Mapping):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise JobError(f"the job file holds {kind}", expected="a mapping: keys and values", fix=_START, where=f"{name}:1")
    assert isinstance(value, PlacedDict)
    return value


_START = "Begin with for example data: {source: digits}"


def _read_text(path: Path) -> str:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise _unreadable(path, "is a folder", "the path of a job file", _inside(path))
        if not stat.S_ISREG(mode):
            raise _unreadable(path, "is not a regular file", "a text file", "Write the job to a file first")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _unreadable(path, "does not exist", "the path of a job file", _near(path)) from None
    except JobError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"can't be read: {reason}", "a readable file", "Check its name and its permissions") from None
    if len(content) > MAX_BYTES:
        raise _unreadable(
            path, "is too large for a job", f"at most {MAX_BYTES // 1024} KiB", "Keep data in its own file; a job only names it"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JobError(
            f"byte {content[error.start]:#04x} is not UTF-8",
            expected="UTF-8 text",
            fix="Save the file as UTF-8",
            where=f"{path}:{line}",
        ) from None


def _unreadable(path: Path, what: str, expected: str, fix: str) -> JobError:
    return JobError(f"{path} {what}", expected=expected, fix=fix)


def _job_names(folder: Path) -> list[str]:
    try:
        return sorted(item.name for item in folder.iterdir() if item.suffix in (".yaml", ".yml"))
    except OSError:
        return []


def _near(path: Path) -> str:
    names = _job_names(path.parent)
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.4)
    if close:
        return f"Did you mean {path.parent / close[0]}?"
    return f"Job files in {path.parent}: {', '.join(names[:10])}" if names else f"Check the path; {path.parent} holds no job file"


def _inside(folder: Path) -> str:
    names = _job_names(folder)
    return f"Did you mean {folder / names[0]}?" if names else "Give the file itself"
