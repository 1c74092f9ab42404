"""The catalog: what the decorator makes, finding, and refusing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from stepwell.core import catalog
from stepwell.core.catalog import discover, lookup, record_of, settings_of, technique
from stepwell.core.errors import JobError


@pytest.fixture(autouse=True)
def _catalog_as_before() -> Iterator[None]:
    discover()
    before = dict(catalog._RECORDS)
    yield
    catalog._RECORDS.clear()
    catalog._RECORDS.update(before)


def shrink() -> Any:
    @technique(id="shrink_for_test", slot="grad", paper="none", search={"by": (0.1, 1.0, "log")})
    class Shrink:
        """Divide.

        And more.
        """

        by: float = 0.5
        kind: str

        def __call__(self, value: float) -> float:
            return value * self.by

    return Shrink


def test_settings_are_keyword_only_and_frozen() -> None:
    made = shrink()(kind="a")
    assert (made.by, made.kind) == (0.5, "a")
    with pytest.raises(FrozenInstanceError):
        made.by = 0.1


def test_a_positional_argument_is_applied_at_once() -> None:
    cls = shrink()
    assert cls(8.0, by=0.25, kind="a") == cls(by=0.25, kind="a")(8.0) == 2.0


def test_the_record_knows_summary_fields_defaults_and_search() -> None:
    shrink()
    record = lookup("shrink_for_test")
    assert record.summary == "Divide."
    assert list(record.fields) == ["by", "kind"]
    assert record.fields["by"].default == 0.5
    assert record.fields["by"].type is float
    assert record.fields["by"].search == (0.1, 1.0, "log")
    assert record.fields["kind"].required
    assert not record.fields["by"].required


def test_settings_of_an_object_are_its_name_and_every_field() -> None:
    made = shrink()(by=0.2, kind="a")
    assert settings_of(made) == {"name": "shrink_for_test", "by": 0.2, "kind": "a"}
    assert record_of(made) is lookup("shrink_for_test")


def test_what_is_no_technique_has_no_record() -> None:
    assert record_of(3) is None
    assert record_of(object()) is None


def test_a_second_technique_of_the_same_id_is_refused() -> None:
    shrink()

    def other() -> None:
        @technique(id="shrink_for_test", slot="batch", paper="none")
        class Other:
            """Other."""

    with pytest.raises(JobError, match="two techniques are called 'shrink_for_test'"):
        other()


def test_importing_the_same_file_twice_is_no_clash() -> None:
    assert shrink().technique_id == shrink().technique_id


def test_every_technique_of_the_package_is_found_sorted_by_id() -> None:
    records = discover()
    assert list(records) == sorted(records)
    assert {"mixup", "clip_norm", "ema", "swa", "one_cycle", "plateau", "early_stopping"} <= set(records)


def test_a_misspelt_name_is_answered_with_the_nearest_of_its_slot() -> None:
    with pytest.raises(JobError, match=r"unknown schedule technique 'one_cicle'.*Did you mean 'one_cycle'"):
        lookup("one_cicle", slot="schedule")


def test_a_technique_of_another_slot_is_refused_with_its_own() -> None:
    with pytest.raises(JobError, match="'mixup' is a technique of the batch slot; expected a technique of the schedule slot"):
        lookup("mixup", slot="schedule")
