"""Mixup by hand, and what it promises to ranks and later techniques."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.batch import BLOCK, Batch, rank_bounds
from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.techniques import Mixup, mixup, partners


def test_a_mixture_is_lam_of_one_and_the_rest_of_the_other() -> None:
    mixed = mixup(torch.tensor([[0.0, 10.0], [4.0, 20.0]]), torch.tensor([1, 0]), 0.75)
    assert mixed.tolist() == [[1.0, 12.5], [3.0, 17.5]]


def test_inputs_and_targets_are_mixed_alike_and_targets_stay_probabilities() -> None:
    labels = torch.arange(16) % 5
    inputs = torch.nn.functional.one_hot(labels, 5).float()
    batch = Mixup(alpha=0.4, num_classes=5)(Batch(inputs, labels), Rng(3))
    assert torch.equal(batch.inputs, batch.targets)
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(16))


def test_lam_follows_the_beta_distribution() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)); 4,000 draws put both within four standard errors."""
    alpha = 0.5
    draws = []
    for seed in range(4000):
        inputs = torch.tensor([[0.0], [1.0]])
        draws.append(float(Mixup(alpha=alpha)(Batch(inputs, inputs), Rng(seed)).inputs[1, 0]))
    lam = torch.tensor(draws, dtype=torch.float64)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(float(lam.mean()) - 0.5) < 4 * (variance / 4000) ** 0.5
    assert abs(float(lam.var()) - variance) < 0.1 * variance


@pytest.mark.parametrize("size", [1, 7, 8, 64, 67])
def test_pairs_are_mutual_and_stay_inside_their_block(size: int) -> None:
    partner = partners(size, torch.device("cpu"))
    places = torch.arange(size)
    assert torch.equal(partner[partner], places)
    assert torch.equal(partner // BLOCK, places // BLOCK)


def test_so_many_of_the_steps_are_mixed_and_the_others_left_alone() -> None:
    batch = Batch(torch.eye(4), torch.arange(4))
    mixed = sum(Mixup(probability=0.3, num_classes=4)(batch, Rng(seed)) is not batch for seed in range(1000))
    # Binomial(1000, 0.3): 300 with a standard deviation of 14.5; four of them.
    assert abs(mixed - 300) < 58
    assert Mixup(probability=0.0)(batch, Rng(0)) is batch


def test_a_probability_does_not_change_what_a_mixed_step_is_mixed_to() -> None:
    batch = Batch(torch.eye(4), torch.eye(4))
    for seed in range(20):
        sometimes = Mixup(probability=0.5)(batch, Rng(seed))
        assert sometimes is batch or torch.equal(sometimes.inputs, Mixup()(batch, Rng(seed)).inputs)


def test_the_number_of_classes_is_filled_in_from_the_model_or_the_data() -> None:
    facts = DataFacts(8, 1, Batch(torch.zeros(1, 1)), num_outputs=8)
    assert Mixup().completed(facts)["num_classes"][0] == 8
    assert Mixup(num_classes=5).completed(facts) == {}


def test_inputs_in_a_dict_are_mixed_alike_and_whole_numbers_among_them_refused() -> None:
    batch = Batch({"a": torch.eye(2), "b": (torch.eye(2).double(),)}, torch.eye(2))
    mixed = Mixup()(batch, Rng(1))
    assert torch.equal(mixed.inputs["a"], mixed.targets)
    torch.testing.assert_close(mixed.inputs["b"][0], mixed.targets.double(), rtol=0, atol=1e-7)
    with pytest.raises(JobError, match=r"^mixup got inputs of type torch.int64.*hidden_mixup"):
        Mixup(probability=0.0)(Batch({"a": torch.eye(2), "codes": torch.tensor([1, 2])}, torch.eye(2)), Rng(0))


def test_token_techniques_and_mixup_are_told_apart_by_a_tag() -> None:
    assert "hidden_mixup" in lookup("mixup").conflicts["token_inputs"]
    assert lookup("mixup").conflicts == lookup("cutmix").conflicts


def test_ranks_mix_their_shares_as_one_process_mixes_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.randn(37, 3, generator=generator), torch.randint(0, 4, (37,), generator=generator))
    technique = Mixup(alpha=0.3, num_classes=4)
    whole = technique(batch, Rng(9))
    for rank in range(2):
        start, stop = rank_bounds(37, rank=rank, world_size=2)
        part = technique(batch.part(start, stop), Rng(9))
        assert torch.equal(part.inputs, whole.inputs[start:stop])
        assert torch.equal(part.targets, whole.targets[start:stop])


def test_what_cannot_be_mixed_is_refused_with_the_remedy() -> None:
    with pytest.raises(JobError, match=r"mixup\.alpha.*leave it out"):
        Mixup(alpha=0.0)
    with pytest.raises(JobError, match=r"mixup\.num_classes"):
        Mixup(alpha=0.2)(Batch(torch.zeros(2, 1), torch.tensor([0, 1])), Rng(0))
    with pytest.raises(JobError, match="floating-point"):
        Mixup(alpha=0.2, num_classes=2)(Batch(torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 1])), Rng(0))
    with pytest.raises(JobError, match=r"mixup\.num_classes"):
        Mixup(num_classes=0)
    with pytest.raises(JobError, match=r"mixup\.probability"):
        Mixup(probability=1.1)
    assert (Mixup().alpha, Mixup().probability, Mixup().num_classes) == (0.2, 1.0, None)
