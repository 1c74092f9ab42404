"""Three techniques at once, sampled: what holds for pairs holds for triples."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import MIDDLES, Part, assembled, catalog, finished, standing
from settings import world_of

IDS = sorted(catalog())


@pytest.mark.slow
@given(st.lists(st.sampled_from(IDS), min_size=3, max_size=3, unique=True).map(sorted))
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_three_techniques_of_which_each_two_compose_train_and_resume_to_the_bit(ids: list[str]) -> None:
    if any(standing(*pair).kind != "composes" for pair in combinations(ids, 2)):
        return
    parts, world = tuple(Part(id) for id in ids), world_of(*ids)
    whole = finished(assembled(parts, world))
    assert whole.ended[1] >= MIDDLES[0]
    rows = [*whole.train, *whole.validation]
    assert all(abs(value) < float("inf") for row in rows for value in row.values() if isinstance(value, float))
    again = assembled(parts, world)
    history = again.trainer.recorder.history
    history.train, history.validation, history.layers = list(whole.train), list(whole.validation), list(whole.layers)
    again.trainer.load_state_dict(whole.middle)
    resumed = finished(again)
    assert (resumed.state, resumed.delivered, resumed.rows) == (whole.state, whole.delivered, whole.rows)
