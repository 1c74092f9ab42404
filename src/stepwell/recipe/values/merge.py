"""A preset and what a recipe writes over it, merged into one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.core.catalog import record_of, settings_of
from stepwell.core.errors import JobError, nearest
from stepwell.recipe.values.parts import Merged
from stepwell.recipe.values.places import PlacedDict, copied, place_of
from stepwell.recipe.values.schema import located, mapping_at, refuse_unknown
from stepwell.recipe.values.types import shown


def expand(recipe: Any) -> Any:
    """A recipe's mapping with its preset merged in; anything without a preset as it is.

    What the recipe writes wins. Settings are merged one by one where both name the same part; a part of another name
    replaces the preset's. Techniques are merged by id: those of the preset first, in its order, then the others.

    Raises:
        JobError: unknown preset, or a technique to leave out that the preset doesn't have.

    >>> merged = expand({"preset": "tabular_small", "optimizer": {"lr": 0.5}})
    >>> merged["optimizer"]["name"], merged["optimizer"]["lr"], merged["preset"]
    ('adamw', 0.5, 'tabular_small')
    """
    if not isinstance(recipe, Mapping) or recipe.get("preset") is None or isinstance(recipe["preset"], Merged):
        return recipe
    from stepwell.presets import preset

    name, without = _spec(recipe)
    try:
        base = copied(preset(name))
    except JobError as error:
        raise located(error, place_of(recipe, "preset")) from None
    _leave_out(base, without, recipe)
    merged = PlacedDict(base, place=place_of(recipe))
    merged.places = dict(base.places)
    for key, value in recipe.items():
        if key == "techniques" and isinstance(value, (list, tuple)):
            value = _merged_techniques(base.get("techniques", []), value)
        elif key in ("objective", "optimizer", "schedule"):
            value = _merged_part(base.get(key), value)
        merged.put(key, value, place_of(recipe, key))
    merged.put("preset", Merged(name), place_of(recipe, "preset"))
    return merged


def _spec(recipe: Mapping[str, Any]) -> tuple[str, list[str]]:
    value, place = recipe["preset"], place_of(recipe, "preset")
    example = "preset: tabular_small, or preset: {name: tabular_small, without: [ema]}"
    if isinstance(value, str):
        return value, []
    mapping = mapping_at(value, path="recipe.preset", example=example, place=place)
    refuse_unknown(mapping, ["name", "without"], path="recipe.preset")
    name, without = mapping.get("name"), mapping.get("without", [])
    if not isinstance(name, str) or not isinstance(without, (list, tuple)) or not all(isinstance(id, str) for id in without):
        raise JobError(
            f"recipe.preset is {shown(dict(mapping))}",
            expected="the name of a preset, and a list of technique ids to leave out of it",
            fix=f"Write for example {example}",
            where=place,
        )
    return name, list(without)


def _leave_out(base: PlacedDict, without: list[str], recipe: Mapping[str, Any]) -> None:
    for id in without:
        ids = [_name(item) for item in base.get("techniques", [])]
        if id not in ids:
            raise JobError(
                f"recipe.preset.without names {id!r}, which the preset doesn't have",
                expected="ids of its techniques",
                fix=nearest(id, [str(name) for name in ids]),
                where=place_of(recipe["preset"], "without") or place_of(recipe, "preset"),
            )
        del base["techniques"][ids.index(id)], base["techniques"].places[ids.index(id)]


def _name(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    record = record_of(item)
    if record is not None:
        return record.id
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) else None


def _identity(item: Any) -> tuple[str | None, Any]:
    settings = settings_of(item) if record_of(item) is not None else item
    return _name(item), settings.get("drives", "") if isinstance(settings, Mapping) else ""


def _merged_part(base: Any, over: Any) -> Any:
    same = isinstance(over, Mapping) and ("name" not in over or over["name"] == _name(base)) and "python" not in over
    if isinstance(base, Mapping) and over == _name(base):
        return base
    if not (same and isinstance(base, Mapping)):
        return over
    merged = PlacedDict(base, place=place_of(over))
    merged.places = dict(getattr(base, "places", {}))
    for key, value in over.items():
        merged.put(key, value, place_of(over, key))
    return merged


def _merged_techniques(base: Any, over: Any) -> Any:
    merged = copied(base)
    for index, item in enumerate(over):
        known = [_identity(other) for other in merged[: len(base)]]
        place = place_of(over, index)
        if _name(item) is not None and _identity(item) in known:
            at = known.index(_identity(item))
            merged[at], merged.places[at] = _merged_part(merged[at], item), place
        else:
            merged.add(item, place)
    return merged
