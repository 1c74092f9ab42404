"""Confidences: bins by how a finding was reached, shares by Laplace's rule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.confidence import BINS, COUNTS, LEAST, MOST, Standing, bin_of, confidence, counted, standing_of
from stepwell.doctor.findings import Remedy, Suspicion, Tried
from stepwell.doctor.judge import judged
from stepwell.doctor.setup import setup_of

CERTAIN = Suspicion("nan_in_inputs", "", "", {}, Remedy(""), proof="certain")


@pytest.mark.parametrize(
    ("standing", "bin"),
    [
        (Standing("certain", 0.9), "certain"),
        (Standing("certain", 0.9, num_rivals=1), "certain, one of several"),
        (Standing("mechanism", 0.9), "measured"),
        (Standing("symptom", 0.5, gain=0.5, spread=0.1), "clear"),
        (Standing("mechanism", 0.5, gain=0.5, spread=0.2), "fair"),
        (Standing("symptom", 0.5, gain=0.1), "slight"),
        (Standing("symptom", 0.2, gain=0.9), "last resort"),
        (Standing("symptom", 0.5, gain=0.9, num_rivals=1), "tried, one of several"),
    ],
)
def test_a_bin_follows_from_how_it_was_reached(standing: Standing, bin: str) -> None:
    assert bin_of(standing) == bin


def test_the_larger_spread_of_before_and_after_counts() -> None:
    tried = Tried((0.2, 0.5), (0.8, 0.9), (1.0, 1.0), (0.1, 0.1), 10)
    found = standing_of(CERTAIN, tried, 2)
    assert (found.gain, found.spread, found.num_rivals) == (pytest.approx(0.5), pytest.approx(0.3), 2)


# Overall (9 + 1) / (10 + 2) = 5/6. Of "fair" 1 of 2 right: (1 + 4 * 5/6) / (2 + 4) = 0.7222; of "clear", with none, 5/6.
def test_a_bin_of_few_cases_says_little_more_than_all() -> None:
    counts = {"certain": (8, 8), "fair": (1, 2)}
    assert confidence(Standing("symptom", 0.5, gain=0.2), counts) == pytest.approx(0.7222, abs=1e-4)  # type: ignore[arg-type]
    assert confidence(Standing("symptom", 0.5, gain=0.9), counts) == pytest.approx(5 / 6)  # type: ignore[arg-type]


def test_no_confidence_is_certainty_or_less_than_a_guess() -> None:
    assert confidence(Standing("certain", 0.9), {"certain": (10_000, 10_000)}) == MOST
    assert confidence(Standing("certain", 0.9), {"certain": (0, 10_000)}) == LEAST


def test_findings_are_counted_by_bin() -> None:
    clear, slight = Standing("symptom", 0.5, gain=0.8), Standing("symptom", 0.5, gain=0.06)
    assert counted([(clear, True), (clear, False), (slight, True)]) == {"clear": (1, 2), "slight": (1, 1)}


def test_the_table_of_the_module_has_known_bins_and_no_more_right_than_all() -> None:
    assert set(COUNTS) <= set(BINS)
    assert len(COUNTS) >= 5
    assert all(0 <= right <= num for right, num in COUNTS.values())


def test_the_judge_gives_a_finding_its_standing_and_the_confidence_of_it() -> None:
    data = torch.zeros(8, 2), torch.zeros(8, dtype=torch.long)
    setup = setup_of(nn.Linear(2, 2), data, None, loss="cross_entropy", optimizer="sgd", batch_size=4, epochs=1, shuffle=True)
    (finding,) = judged(Bench(setup), [CERTAIN])
    assert finding.standing == Standing("certain", 0.5)
    assert finding.confidence == confidence(Standing("certain", 0.5))
