"""Mappings and lists that remember where each of their values was written, so that an error can name its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class PlacedDict(dict[str, Any]):
    """A mapping read from a file. `place` is where it starts; `places` where each key stands ("job.yaml:12")."""

    def __init__(self, values: Mapping[str, Any] | None = None, *, place: str | None = None) -> None:
        super().__init__(values or {})
        self.place = place
        self.places: dict[str, str | None] = {}

    def put(self, key: str, value: Any, place: str | None) -> None:
        """Set a key together with its place."""
        self[key] = value
        self.places[key] = place


class PlacedList(list[Any]):
    """A list read from a file, with the place of each item."""

    def __init__(self, values: Sequence[Any] = (), *, place: str | None = None) -> None:
        super().__init__(values)
        self.place = place
        self.places: list[str | None] = [place] * len(self)

    def add(self, value: Any, place: str | None) -> None:
        """Append an item together with its place."""
        self.append(value)
        self.places.append(place)


def place_of(container: Any, key: Any = None) -> str | None:
    """Where a container, or one of its values, was written; None for what came from Python.

    >>> mapping = PlacedDict(place="job.yaml:1")
    >>> mapping.put("seed", 0, "job.yaml:3")
    >>> place_of(mapping, "seed"), place_of(mapping, "budget"), place_of({"seed": 0}, "seed")
    ('job.yaml:3', 'job.yaml:1', None)
    """
    own: str | None = getattr(container, "place", None)
    if key is not None and isinstance(container, PlacedDict):
        return container.places.get(key) or own
    if key is not None and isinstance(container, PlacedList) and 0 <= key < len(container.places):
        return container.places[key] or own
    return own


def copied(value: Any) -> Any:
    """A copy of nested mappings and lists that keeps their places; everything else is shared."""
    if isinstance(value, Mapping):
        made = PlacedDict({key: copied(item) for key, item in value.items()}, place=place_of(value))
        made.places = dict(getattr(value, "places", {}))
        return made
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        items = PlacedList([copied(item) for item in value], place=place_of(value))
        items.places = [place_of(value, index) for index in range(len(value))]
        return items
    return value
