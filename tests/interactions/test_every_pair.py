"""Any two techniques in one recipe either work together, in every respect, or are refused with the reason."""

from __future__ import annotations

from itertools import combinations

import pytest
from core_pairs import core_pairs, must_compose
from pairs import catalog, standing, verdict
from table import PAGE, REFUSALS, page, reason_for

IDS = sorted(catalog())


def check(one: str, other: str) -> None:
    found = verdict(one, other)
    assert found.failures == []
    assert found.kind in ("composes", "exclusive", "refused")
    if found.kind == "composes":
        assert "trains" in found.checked
        assert "resumes" in found.checked
    if found.kind == "refused":
        assert reason_for(one, other), found.reason


@pytest.mark.parametrize(("one", "other"), core_pairs())
def test_two_techniques_compose_or_are_refused_with_a_reason(one: str, other: str) -> None:
    check(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("one", IDS[:-1])
def test_a_technique_composes_with_all_that_follow_it_or_is_refused_with_a_reason(one: str) -> None:
    for other in IDS[IDS.index(one) + 1 :]:
        check(one, other)


def test_what_the_recipes_of_the_field_are_made_of_is_never_refused() -> None:
    refused = {pair: found.reason for pair in must_compose() if (found := standing(*pair)).kind == "refused"}
    assert refused == {}


def test_at_most_one_pair_in_twenty_is_refused_and_each_for_a_reason_with_its_source() -> None:
    kinds = {pair: standing(*pair) for pair in combinations(IDS, 2)}
    refused = [pair for pair, found in kinds.items() if found.kind == "refused"]
    open_pairs = sum(found.kind != "exclusive" for found in kinds.values())
    assert [pair for pair in refused if not reason_for(*pair)] == []
    assert len(refused) <= 0.05 * open_pairs, f"{len(refused)} of {open_pairs}"
    # A reason that no refusal needs any more is out of date.
    assert [key for key in REFUSALS if not any(reason_for(*pair) == REFUSALS[key] for pair in refused)] == []


def test_the_page_of_interactions_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "renew it with: python tests/interactions/table.py"
