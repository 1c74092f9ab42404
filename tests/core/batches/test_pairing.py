"""Partners, shares and mass: what every mixing technique relies on."""

from __future__ import annotations

import math

import pytest
import torch

from stepwell.core.batch import BLOCK, Batch, rank_bounds
from stepwell.core.batches.pairing import classes_known, drawn_share, mass_of, partners, partners_in, require_mixing
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng


@pytest.mark.parametrize("size", [1, 7, 8, 64, 67])
def test_pairs_are_mutual_and_stay_inside_their_block(size: int) -> None:
    partner = partners(size, torch.device("cpu"))
    places = torch.arange(size)
    assert torch.equal(partner[partner], places)
    assert torch.equal(partner // BLOCK, places // BLOCK)


def test_partners_of_a_rank_s_share_are_those_of_the_whole_batch() -> None:
    whole = partners(37, torch.device("cpu"))
    start, stop = rank_bounds(37, rank=1, world_size=2)
    assert torch.equal(partners_in(Batch({"x": torch.zeros(stop - start, 2)})) + start, whole[start:stop])


def test_a_share_is_drawn_in_so_many_of_the_steps_and_is_the_same_whatever_their_number() -> None:
    always = [drawn_share(Rng(seed), 0.5, 1.0) for seed in range(2000)]
    some = [drawn_share(Rng(seed), 0.5, 0.3) for seed in range(2000)]
    assert None not in always
    assert all(one in (None, other) for one, other in zip(some, always))
    # Binomial(2000, 0.3): 600 with a standard deviation of 20.5; four of them.
    assert abs(sum(share is not None for share in some) - 600) < 82
    assert [drawn_share(Rng(seed), 0.5, 0.0) for seed in range(50)] == [None] * 50


def test_class_numbers_become_mass_and_floats_stay() -> None:
    floats = torch.rand(3, 2)
    assert mass_of(floats, None, "mixup") is floats
    assert mass_of(torch.tensor([2, 0]), 3, "mixup").tolist() == [[0, 0, 1], [1, 0, 0]]
    assert mass_of(torch.tensor([[1, -100]]), 2, "mixup").tolist() == [[[0, 1], [0, 0]]]
    with pytest.raises(DataError, match="is not one of the 2 classes"):
        mass_of(torch.tensor([0, -100]), 2, "mixup")
    with pytest.raises(JobError, match=r"^cutmix got integer labels but cutmix\.num_classes is not set.*Set it"):
        mass_of(torch.tensor([0]), None, "cutmix")


def facts(**known: object) -> DataFacts:
    return DataFacts(8, 1, Batch(torch.zeros(1, 1)), **known)  # type: ignore[arg-type]


def test_the_number_of_classes_is_taken_from_the_model_then_from_the_data_where_it_is_open() -> None:
    assert classes_known(None, facts(num_outputs=7, class_counts=[1, 2]))["num_classes"][0] == 7
    assert classes_known(None, facts(class_counts=[1, 2]))["num_classes"][0] == 2
    assert classes_known(None, facts()) == {}
    assert classes_known(3, facts(num_outputs=7)) == {}


def test_settings_out_of_range_are_refused_by_name() -> None:
    require_mixing("cutmix", 1e-3, 0.0, 1)
    for alpha in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(JobError, match=r"^cutmix\.alpha is .*a number above 0.*leave it out"):
            require_mixing("cutmix", alpha, 1.0, None)
    for probability in (-0.1, 1.1):
        with pytest.raises(JobError, match=r"^cutmix\.probability is .*\[0, 1\]"):
            require_mixing("cutmix", 1.0, probability, None)
    with pytest.raises(JobError, match=r"^cutmix\.num_classes is 0; expected a whole number of at least 1"):
        require_mixing("cutmix", 1.0, 1.0, 0)
