"""Strict YAML 1.2: scalars as the 1.2 core schema reads them, no tags, aliases, duplicate keys or tabs, every place kept.

PyYAML's parser gives events, without recursion; the tree is built here, so that no document can explode or dig deeper
than a job ever needs, and so that no YAML 1.1 rule and no constructor is ever reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stepwell.core.errors import JobError, StepwellError
from stepwell.recipe.values.places import PlacedDict, PlacedList
from stepwell.recipe.values.scalars import resolve

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000

Place = Callable[[int], str]


def parse(text: str, place: Place) -> Any:
    """One YAML document as mappings and lists that know their places; None where there is nothing in it.

    Args:
        text: the document.
        place: a line number (from 1) -> what an error should name, e.g. "job.yaml:12".

    Raises:
        JobError: not YAML, or YAML beyond what a job may use.

    >>> parse("lr: 3e-3\\nnesterov: no", lambda line: f"job.yaml:{line}")
    {'lr': 0.003, 'nesterov': 'no'}
    """
    import yaml

    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise _error(
            "the text is too long", place(1), f"at most {MAX_BYTES // 1024} KiB", "Keep data in its own file; a job only names it"
        )
    _refuse_tabs(text, place)
    builder = _Builder(place)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except StepwellError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _syntax_error(str(error.problem), line, place) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _error(
            f"the character {chr(int(error.character))!r} stands in it"
            if isinstance(error.character, int)
            else "a character can't be read",
            place(line),
            "printable text",
            "Delete the character, or write it as an escape in double quotes",
        ) from None
    except (ValueError, OverflowError, LookupError, yaml.YAMLError) as error:
        # The parser turns escapes and directives into numbers without checking them.
        raise _syntax_error(str(error), builder.line, place) from None
    return builder.root


def _error(what: str, place: str, expected: str, fix: str) -> JobError:
    return JobError(what, expected=expected, fix=fix, where=place)


def _refuse_tabs(text: str, place: Place) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        if "\t" in line[: len(line) - len(line.lstrip(" \t"))] and line.strip():
            raise _error(
                "the line is indented with a tab", place(number), "spaces only", "Replace the tab by two spaces for each level"
            )


def _syntax_error(problem: str, line: int, place: Place) -> JobError:
    if "'\\t'" in problem:
        return _error("a tab stands where a value should begin", place(line), "spaces only", "Replace the tab by a space")
    hints = {
        "mapping values are not allowed": 'Put quotes around text with ": " in it, and indent keys of one mapping alike',
        "expected ',' or": "Close the bracket, and put commas between the items",
        "could not find expected ':'": 'Write "key: value", with a space after the colon',
        "while scanning a quoted": "Close the quotes",
    }
    fix = next(
        (text for key, text in hints.items() if key in problem),
        "Check quotes, brackets and indentation on this line and the one above",
    )
    return _error(f"not valid YAML ({problem.rstrip('.')})", place(line), '"key: value" lines, indented by spaces', fix)


@dataclass(slots=True)
class _Open:
    """A mapping or list that is not closed yet."""

    container: PlacedDict | PlacedList
    key: str | None = None
    key_line: int = 0


class _Builder:
    """Turns events into a tree, and refuses what a job may not hold."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.root: Any = None
        self.line = 1
        self._open: list[_Open] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        import yaml

        self.line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._refuse(
                    "a second document begins here",
                    "one document",
                    'Remove the "---" line, or put the second job in its own file',
                )
        elif isinstance(event, yaml.AliasEvent):
            raise self._refuse(
                f"*{event.anchor} is an alias", "values written out", "Write the value again in place of the alias"
            )
        elif isinstance(event, yaml.NodeEvent):
            self._check(event)
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            else:
                self._begin(PlacedDict if isinstance(event, yaml.MappingStartEvent) else PlacedList)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()

    def _refuse(self, what: str, expected: str, fix: str) -> JobError:
        return _error(what, self.place(self.line), expected, fix)

    def _check(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refuse("too many values", f"at most {MAX_NODES}", "Keep data in its own file; a job only names it")
        if event.anchor is not None:
            raise self._refuse(
                f"&{event.anchor} is an anchor", "values written out", "Remove the anchor; aliases can't be used in a job"
            )
        if event.tag is not None:
            raise self._refuse(
                f"{event.tag} is a YAML tag",
                "plain values",
                "Remove the tag: a job names techniques, sources and models, never code",
            )

    def _begin(self, kind: type[PlacedDict] | type[PlacedList]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._refuse(
                "values are nested too deeply", f"at most {MAX_DEPTH} levels", "Close the brackets that were left open"
            )
        container = kind(place=self.place(self.line))
        self._put(container)
        self._open.append(_Open(container))

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self._refuse("half of a surrogate pair stands in the text", "whole characters", "Write the character itself")
        if event.style is not None or not event.implicit[0]:
            self._put(text)
            return
        try:
            value = resolve(text)
        except ValueError as error:
            raise self._refuse(str(error), "a number", "Write fewer digits, or quotes around it where it is text") from None
        self._put(value, text)

    def _put(self, value: Any, text: str | None = None) -> None:
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        if isinstance(top.container, PlacedList):
            top.container.add(value, self.place(self.line))
        elif top.key is None:
            self._key(top, value, text)
        else:
            top.container.put(top.key, value, self.place(top.key_line))
            top.key = None

    def _key(self, top: _Open, value: Any, text: str | None) -> None:
        if not isinstance(value, str) or not value:
            shown = text or ("a list or mapping" if isinstance(value, (dict, list)) else "nothing")
            raise self._refuse(
                f"{shown} stands as a key", "a name", 'Write "name: value"; put quotes around a name that is a number'
            )
        assert isinstance(top.container, PlacedDict)
        if value in top.container:
            first = top.container.places[value]
            raise self._refuse(
                f"the key {value!r} stands twice in one mapping (first at {first})", "each key once", "Remove one of the two"
            )
        top.key, top.key_line = value, self.line
