"""What holds for every technique in the catalog, from its record alone: card, settings, ranges, file."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from technique_examples import ANY_NUMBER, example

from stepwell.core.catalog import Record, discover, record_of, settings_of
from stepwell.core.duration import Duration
from stepwell.core.errors import JobError
from stepwell.core.slots import SLOTS

OURS = {name: record for name, record in discover().items() if record.factory.__module__.startswith("stepwell.")}
every_technique = pytest.mark.parametrize("record", OURS.values(), ids=list(OURS))
# Objectives and model techniques share nothing but these with the rest of the package.
ROLES = {"objective": {"base", "modifier"}, "optimizer": {"base", "groups"}, "schedule": {"", "factor"}}


def card(record: Record) -> str:
    return inspect.getdoc(record.factory) or ""


def module_path(record: Record) -> Path:
    return Path(str(sys.modules[record.factory.__module__].__file__))


@every_technique
def test_the_card_has_a_summary_line_settings_a_paper_and_an_example(record: Record) -> None:
    text = card(record)
    assert record.summary.endswith(".")
    assert 10 < len(record.summary) <= 120
    assert text.split("\n")[1:2] == [""], "the summary is one line"
    assert "Paper: " in text
    assert ">>> " in text
    if record.fields:
        assert "Args:" in text
    words = " ".join(text.split())
    assert [word for word in ("What: ", "Why: ", "When not: ") if word not in words] == []
    assert record.paper


@every_technique
def test_the_card_names_every_setting(record: Record) -> None:
    text = card(record)
    arguments = text[text.find("Args:") :]
    missing = [name for name in record.fields if f"{name}:" not in arguments]
    assert missing == []


@every_technique
def test_slot_and_role_are_known_words(record: Record) -> None:
    assert record.slot in SLOTS
    assert record.role in ROLES.get(record.slot, {""})
    assert all(isinstance(tag, str) and tag for tag in (*record.needs, *record.provides))
    assert all(reason.strip() for reason in record.conflicts.values())


@every_technique
def test_its_settings_make_an_equal_object_again(record: Record) -> None:
    made = example(record)
    settings = settings_of(made)
    assert settings.pop("name") == record.id
    assert list(settings) == list(record.fields)
    again = record.factory(**settings)
    assert again == made
    assert record_of(again) is record


@every_technique
def test_without_required_settings_the_defaults_alone_make_one(record: Record) -> None:
    if not any(field.required for field in record.fields.values()):
        made = record.factory()
        assert {name: getattr(made, name) for name in record.fields} == {name: f.default for name, f in record.fields.items()}


@every_technique
def test_a_setting_can_not_be_changed_afterwards(record: Record) -> None:
    made = example(record)
    for name in record.fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, getattr(made, name))


@every_technique
def test_an_unknown_setting_is_refused_by_python_itself(record: Record) -> None:
    with pytest.raises(TypeError, match="no_such_setting"):
        example(record, no_such_setting=1)


def is_duration(value: Any) -> bool:
    try:
        Duration.parse(value)
    except JobError:
        return False
    return True


def bad_values(record: Record) -> list[tuple[str, list[Any]]]:
    """For each setting whose type tells: values of which at least one must be refused."""
    cases: list[tuple[str, list[Any]]] = []
    for name, field in record.fields.items():
        kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
        if typing.get_origin(field.type) is Literal:
            cases.append((name, ["no such choice"]))
        elif float in kinds:
            cases += [(name, [math.nan]), (name, [-1e9, 1e9])]
        elif int in kinds:
            cases.append((name, [-(10**9), 10**9]))
        elif str in kinds and is_duration(field.default):
            cases += [(name, ["5 weeks"]), (name, ["-1 steps"])]
    return [(name, values) for name, values in cases if f"{record.id}.{name}" not in ANY_NUMBER]


BAD = [(record, name, values) for record in OURS.values() for name, values in bad_values(record)]


@pytest.mark.parametrize(("record", "name", "values"), BAD, ids=[f"{r.id}.{name}-{values[0]}" for r, name, values in BAD])
def test_a_bad_value_is_refused_in_three_parts_that_name_the_setting(record: Record, name: str, values: list[Any]) -> None:
    refusals = []
    for value in values:
        try:
            example(record, **{name: value})
        except JobError as error:
            refusals.append(error)
    assert refusals
    for error in refusals:
        assert f"{record.id}.{name}" in str(error)
        assert error.what
        assert error.expected
        assert error.fix


@every_technique
def test_the_search_range_lies_inside_the_accepted_values(record: Record) -> None:
    for name, choices in record.search.items():
        assert name in record.fields
        values = choices
        if choices[-1] in ("log", "linear"):
            low, high, scale = choices
            assert low < high
            assert scale == "linear" or low > 0
            values = (low, (low + high) / 2, high)
        assert len(values) >= 2
        for value in values:
            assert getattr(example(record, **{name: value}), name) == value


@every_technique
def test_it_lives_in_a_short_file_of_its_own_name_in_the_folder_of_its_slot(record: Record) -> None:
    path = module_path(record)
    assert (path.parent.name, path.stem) == (record.slot, record.id)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250


@every_technique
def test_its_file_imports_nothing_of_stepwell_but_core(record: Record) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(module_path(record).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module))
    assert [name for name in imported if name.startswith("stepwell") and not name.startswith("stepwell.core")] == []


@every_technique
def test_its_public_names_are_listed_and_can_be_had_from_the_package(record: Record) -> None:
    import stepwell.techniques

    module = sys.modules[record.factory.__module__]
    assert record.factory.__name__ in module.__all__
    for name in module.__all__:
        assert getattr(stepwell.techniques, name) is getattr(module, name)


def test_no_two_techniques_make_the_same_name_public() -> None:
    names = [name for record in OURS.values() for name in sys.modules[record.factory.__module__].__all__]
    assert sorted(names) == sorted(set(names))
