"""Sampling: each class equally often, or in proportion to the weights, as a function of (seed, epoch)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepwell.core.errors import DataError, JobError
from stepwell.data.examples import MapExamples, Subset, TensorExamples, WindowExamples
from stepwell.data.sampling import SampledOrder, column_of, sampled_order
from stepwell.data.sources import ShuffledSource
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Recipe

CLASSES = torch.tensor([0] * 8 + [1] * 3 + [2])


def test_each_class_fills_a_third_of_a_balanced_epoch_and_within_a_class_every_example_comes_equally_often() -> None:
    order = SampledOrder(seed=0, classes=CLASSES)
    for epoch in range(5):
        drawn = order.whole(epoch)
        assert len(drawn) == 12
        assert torch.bincount(CLASSES[drawn]).tolist() == [4, 4, 4]
        times = torch.bincount(drawn, minlength=12)
        assert times[:8].max() == 1  # 4 of 8
        assert sorted(times[8:11].tolist()) == [1, 1, 2]  # 4 over 3
        assert times[11] == 4


def test_what_is_left_over_goes_to_other_classes_in_other_epochs() -> None:
    order = SampledOrder(seed=0, classes=torch.tensor([0, 0, 0, 1, 1]))
    counts = {tuple(torch.bincount(torch.tensor([0, 0, 0, 1, 1])[order.whole(epoch)]).tolist()) for epoch in range(20)}
    assert counts == {(2, 3), (3, 2)}


def test_weighted_draws_are_the_floor_or_the_ceiling_of_the_share_and_never_of_no_weight() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0, 0.0, 1.5, 0.5, 0.0])
    shares = 8 * weights / weights.sum()
    totals = torch.zeros(8)
    for epoch in range(200):
        times = torch.bincount(SampledOrder(seed=3, weights=weights).whole(epoch), minlength=8)
        assert ((times == shares.floor()) | (times == shares.ceil())).all()
        totals += times
    # The mean over epochs is the share: its standard error is at most 0.5 / sqrt(200).
    assert (totals / 200 - shares).abs().max() < 4 * 0.5 / 200**0.5


def test_an_epoch_is_a_function_of_the_seed_and_its_number_and_any_part_can_be_taken() -> None:
    one, other = (SampledOrder(seed=1, classes=CLASSES) for _ in range(2))
    assert torch.equal(one.take(7, 3, 9), other.whole(7)[3:9])
    assert torch.equal(one.take(2, 0, 12), other.whole(2))
    assert not torch.equal(one.whole(0), one.whole(1))
    assert not torch.equal(one.whole(0), SampledOrder(seed=2, classes=CLASSES).whole(0))
    drawn = one.whole(0)
    assert not torch.equal(CLASSES[drawn], CLASSES[drawn].sort().values), "classes are mixed within an epoch"


@pytest.mark.parametrize("sampling", ["balanced", "weighted"])
def test_a_source_draws_any_step_at_any_time_and_weights_dont_count_twice(sampling: str) -> None:
    def made() -> ShuffledSource:
        examples = TensorExamples(torch.arange(12.0), CLASSES, torch.linspace(0, 1, 12))
        return ShuffledSource(examples, batch_size=5, seed=0, sampling=sampling)  # type: ignore[arg-type]

    source = made()
    assert source.steps_per_epoch == 3
    forwards = [source.next(cursor) for cursor in range(6)]
    backwards = [made().next(cursor) for cursor in reversed(range(6))][::-1]
    for one, other in zip(forwards, backwards):
        assert torch.equal(one.inputs, other.inputs)
        assert (one.weights is None) == (sampling == "weighted")


def test_examples_that_cost_work_each_are_drawn_in_the_same_order() -> None:
    class Items:
        targets = CLASSES

        def __len__(self) -> int:
            return 12

        def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor(float(place)), CLASSES[place]

    kept = TensorExamples(torch.arange(12.0), CLASSES)
    sources = [ShuffledSource(e, batch_size=5, seed=4, sampling="balanced") for e in (MapExamples(Items()), kept)]
    for cursor in range(4):
        assert torch.equal(sources[0].next(cursor).inputs, sources[1].next(cursor).inputs)


def test_the_targets_of_a_part_are_those_of_its_examples() -> None:
    part = Subset(TensorExamples(torch.zeros(12), CLASSES), torch.tensor([11, 0, 8]))
    found = column_of(part, "targets")
    assert found is not None
    assert found.tolist() == [2, 0, 1]
    assert column_of(WindowExamples(torch.zeros(9, 1), torch.zeros(9), length=3), "targets") is None


@pytest.mark.parametrize(
    ("targets", "weights", "sampling", "said"),
    [
        (torch.tensor([0.2, 1.0]), None, "balanced", "not one class per example"),
        (torch.zeros(2, 3), None, "balanced", "not one class per example"),
        (torch.zeros(2, 4, 4, dtype=torch.int64), None, "balanced", "not one class per example"),
        (None, None, "balanced", "not one class per example"),
        (torch.ones(2), None, "balanced", "of one class"),
        (torch.tensor([0, 1]), None, "weighted", "no sample weights"),
    ],
)
def test_sampling_that_the_data_can_not_give_is_refused(targets, weights, sampling: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        sampled_order(TensorExamples(torch.zeros(2), targets, weights), sampling, seed=0)  # type: ignore[arg-type]


def test_a_word_that_is_no_way_of_sampling_is_refused_with_the_known_ones() -> None:
    with pytest.raises(JobError, match=r"sampling is 'even'.*balanced"):
        sampled_order(TensorExamples(torch.zeros(2)), "even", seed=0)  # type: ignore[arg-type]


def test_binary_targets_of_zeros_and_ones_are_classes() -> None:
    order = sampled_order(TensorExamples(torch.zeros(4), torch.tensor([[0.0], [0.0], [0.0], [1.0]])), "balanced", seed=0)
    assert order is not None
    assert (order.whole(0) == 3).sum() == 2


def test_a_saved_order_is_refused_under_another_sampling() -> None:
    examples = TensorExamples(torch.zeros(4), torch.tensor([0, 0, 0, 1]))
    saved = ShuffledSource(examples, batch_size=2, seed=0).state_dict()
    with pytest.raises(DataError, match="sampling once, this one has balanced"):
        ShuffledSource(examples, batch_size=2, seed=0, sampling="balanced").load_state_dict(saved)
    del saved["sampling"]  # as written before there was a choice
    ShuffledSource(examples, batch_size=2, seed=0).load_state_dict(saved)


class Counting(nn.Linear):
    """Remembers what it was trained on."""

    def __init__(self) -> None:
        super().__init__(1, 2)
        self.seen: list[float] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += inputs.flatten().tolist()
        return super().forward(inputs)


def test_fit_draws_a_rare_class_as_often_as_the_other() -> None:
    model = Counting()
    inputs = torch.arange(12.0).unsqueeze(1)
    recipe = Recipe(optimizer="sgd", batch_size=4)
    fit(model, (inputs, (CLASSES == 2).long()), recipe=recipe, budget="2 epochs", sampling="balanced")
    assert len(model.seen) == 24
    assert model.seen.count(11.0) == 12


def test_fit_with_weights_gives_the_bits_of_weights_in_the_data_and_of_a_weighted_objective_by_hand() -> None:
    inputs, weights = torch.randn(12, 1, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 2, 12)
    models = []
    for data, given in (((inputs, CLASSES.clamp(max=1)), weights), ((inputs, CLASSES.clamp(max=1), weights), None)):
        torch.manual_seed(0)
        models.append(nn.Linear(1, 2))
        recipe = Recipe(optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0}, batch_size="full")
        fit(models[-1], data, weights=given, recipe=recipe, budget="1 steps")
    assert torch.equal(models[0].weight, models[1].weight)
    torch.manual_seed(0)
    oracle = nn.Linear(1, 2)
    losses = nn.functional.cross_entropy(oracle(inputs), CLASSES.clamp(max=1), reduction="none")
    ((losses * weights).sum() / weights.sum()).backward()
    assert torch.allclose(models[0].weight, oracle.weight - 0.5 * oracle.weight.grad, atol=1e-6)


def test_weights_beside_data_that_has_its_own_are_refused() -> None:
    with pytest.raises(DataError, match="weights are given twice"):
        fit(nn.Linear(1, 2), (torch.zeros(4, 1), torch.zeros(4).long(), torch.ones(4)), weights=torch.ones(4))
    with pytest.raises(DataError, match="weights are given beside a TensorExamples"):
        fit(nn.Linear(1, 2), TensorExamples(torch.zeros(4, 1), torch.zeros(4).long()), weights=torch.ones(4))
    with pytest.raises(DataError, match="weights are given beside a ItemsOfTwo"):
        fit(nn.Linear(1, 2), ItemsOfTwo(), weights=torch.ones(4))


class ItemsOfTwo(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Four items."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(1), place % 2
