"""Mixup by hand, and what it promises to ranks and later techniques."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.batch import BLOCK, Batch, rank_bounds
from stepwell.core.errors import JobError
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
