"""Setting a value at a path of a job: "recipe.techniques.mixup.alpha"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.core.catalog import record_of
from stepwell.core.errors import JobError, nearest
from stepwell.recipe.values.places import PlacedDict, PlacedList

# Parts that may be a bare name, standing for a mapping with that name, and what the name is called there.
_NAMED = {"data": "source", "model": "name", "recipe.objective": "name", "recipe.optimizer": "name", "recipe.schedule": "name"}
# Parts that a job may leave out, and that a path may still lead into.
_OPTIONAL = {*_NAMED, "split", "recipe", "stop", "recipe.preset"}


def set_at(mapping: Any, path: str, value: Any, *, place: str | None = None) -> None:
    """Put a value at a path of a nested mapping, in place.

    Args:
        mapping: as a job file holds it; it is changed.
        path: names joined by dots; an item of a list by its index (from 0) or by its technique id.
        value: what to put there. None for a whole item of `techniques` takes the item out.
        place: what an error about the value will name, e.g. "--set seed".

    Raises:
        JobError: the path leads nowhere.

    >>> job = {"recipe": {"optimizer": "sgd", "techniques": [{"name": "mixup"}]}}
    >>> set_at(job, "recipe.techniques.mixup.alpha", 0.4); set_at(job, "recipe.optimizer.lr", 0.1)
    >>> job
    {'recipe': {'optimizer': {'name': 'sgd', 'lr': 0.1}, 'techniques': [{'name': 'mixup', 'alpha': 0.4}]}}
    """
    names = path.split(".")
    if not all(names):
        raise _lost(path, place, "names joined by dots", "Write for example recipe.optimizer.lr")
    container = mapping
    for depth, name in enumerate(names[:-1]):
        container = _enter(container, name, ".".join(names[: depth + 1]), path, place)
    if isinstance(container, list):
        index = _index(container, names[-1], path, place)
        if value is None:
            del container[index]
            if isinstance(container, PlacedList):
                del container.places[index]
        else:
            _put(container, index, value, place)
    elif isinstance(container, Mapping):
        _put(container, names[-1], value, place)
    else:
        raise _nothing_inside(container, ".".join(names[:-1]), path, place)


def _put(container: Any, key: Any, value: Any, place: str | None) -> None:
    container[key] = value
    if isinstance(container, (PlacedDict, PlacedList)):
        container.places[key] = place  # type: ignore[index]


def _enter(container: Any, name: str, here: str, path: str, place: str | None) -> Any:
    key: Any = name
    if isinstance(container, list):
        key = _index(container, name, path, place)
        inside = container[key]
        label: str | None = "name"
    elif isinstance(container, Mapping):
        if name not in container and here not in _OPTIONAL:
            raise _lost(path, place, f"a path into the job; {here} is not there", nearest(name, map(str, container)))
        inside, label = container.get(name), _NAMED.get(here)
    else:
        raise _nothing_inside(container, here.rsplit(".", 1)[0], path, place)
    if inside is None:
        inside = PlacedDict(place=place)
        _put(container, key, inside, place)
    elif isinstance(inside, str) and label is not None:
        made = PlacedDict(place=place)
        made.put(label, inside, getattr(container, "places", {}).get(key) if isinstance(container, Mapping) else place)
        inside = made
        _put(container, key, inside, place)
    elif record_of(inside) is not None:
        raise _nothing_inside(inside, here, path, place)
    return inside


def _index(items: list[Any], name: str, path: str, place: str | None) -> int:
    if name.isdecimal() and name.isascii() and len(name) < 10:
        if int(name) < len(items):
            return int(name)
        raise _lost(path, place, f"an index below {len(items)}", "Count from 0")
    ids = [str(item.get("name")) if isinstance(item, Mapping) else str(item) for item in items]
    if ids.count(name) == 1:
        return ids.index(name)
    if name in ids:
        raise _lost(path, place, f"one item; {name!r} stands {ids.count(name)} times", "Name it by its index, counted from 0")
    raise _lost(path, place, f"an item of the list; {name!r} is none", nearest(name, ids))


def _lost(path: str, place: str | None, expected: str, fix: str) -> JobError:
    return JobError(f"the path {path!r} leads nowhere", expected=expected, fix=fix, where=place)


def _nothing_inside(value: Any, here: str, path: str, place: str | None) -> JobError:
    return _lost(path, place, f"a path into the job; {here} is {value!r}", f"Set {here} itself")
