"""Inputs that tell no rows apart, and targets that are all the same."""

from __future__ import annotations

from typing import Any

import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
from torch import Tensor, nn
from torch.utils.data import Dataset


def test_images_that_whole_number_division_made_black_are_told() -> None:
    images = noise(100, 1, 6, 6).sigmoid() // 255
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    (found,) = said("constant_data", bench_of(model, (images, signs(100)[1])))
    assert found.id == "constant_features"
    assert found.proof == "certain"
    assert found.remedy.change is None
    assert found.evidence["num_distinct_rows"] == 1
    assert found.evidence["share_of_constant_columns"] == 1.0


def test_nine_equal_rows_in_ten_are_told_and_eight_are_not() -> None:
    def repeated(num_equal: int) -> tuple[Tensor, Tensor]:
        inputs, targets = signs(100)
        inputs[:num_equal] = inputs[0]
        return inputs, targets

    assert ids("constant_data", bench_of(mlp(4, 8, 2), repeated(90))) == ["constant_features"]
    assert ids("constant_data", bench_of(mlp(4, 8, 2), repeated(80))) == []


def test_constant_columns_matter_only_where_the_others_tell_nothing() -> None:
    inputs, labels = torch.zeros(200, 10), signs(200, seed=3)[1]
    inputs[:, :1] = noise(200, 1, seed=9)
    val = (inputs[100:], labels[100:])
    assert ids("constant_data", bench_of(mlp(10, 8, 2), (inputs[:100], labels[:100]), val)) == ["constant_features"]
    labels = (inputs[:, 0] > 0).long()
    assert ids("constant_data", bench_of(mlp(10, 8, 2), (inputs[:100], labels[:100]), (inputs[100:], labels[100:]))) == []


def test_one_target_is_told_with_its_value() -> None:
    (found,) = said("constant_data", bench_of(mlp(4, 8, 1), (noise(50, 4), torch.full((50, 1), 2.0)), loss=nn.MSELoss()))
    assert found.id == "constant_labels"
    assert found.evidence == {"num_rows": 50, "value": 2.0}


def test_targets_that_the_loss_never_looks_at_may_be_constant() -> None:
    def size(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.square().mean()

    assert ids("constant_data", bench_of(mlp(4, 8, 1), (noise(50, 4), torch.zeros(50, 1)), loss=size)) == []


def test_a_plain_table_is_no_matter() -> None:
    assert ids("constant_data", bench_of(mlp(4, 8, 2), signs())) == []


class _Joins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        outputs: Tensor = self.layer(torch.cat(inputs, 1))
        return outputs


def test_one_of_two_inputs_that_never_changes_matters_where_the_other_tells_nothing() -> None:
    told, other = noise(200, 1), noise(200, 4, seed=1)
    lost = torch.zeros(200, 1)
    for inputs, targets, ids_ in (
        ((lost, other), told, ["constant_features"]),
        ((lost, other), other[:, :1], []),
        ((told, other), told, []),
    ):
        rows = [(inputs[0][part], inputs[1][part]) for part in (slice(0, 120), slice(120, 200))]
        bench = bench_of(
            _Joins(),
            _Pairs(rows[0], targets[:120]),
            _Pairs(rows[1], targets[120:]),
            loss=nn.MSELoss(),
        )
        assert ids("constant_data", bench) == ids_


class _Pairs(Dataset[Any]):
    def __init__(self, inputs: tuple[Tensor, Tensor], targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        return (self.inputs[0][index], self.inputs[1][index]), self.targets[index]


class _Prefers(nn.Module):
    """How much better the first of two is than the second; or both their scores."""

    def __init__(self, *, both: bool = False, bias: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.score, self.both, self.bias = nn.Linear(4, 1), both, nn.Parameter(torch.ones(1)) if bias else None

    def forward(self, pair: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        first, second = self.score(pair[:, 0]), self.score(pair[:, 1])
        if self.both:
            return first, second
        gap: Tensor = first - second
        return gap if self.bias is None else gap + self.bias


def test_the_first_of_each_pair_is_the_better_one_and_that_is_no_constant_label() -> None:
    pairs = noise(60, 2, 4), torch.ones(60, 1)

    def ranked(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.softplus(-outputs * targets).mean()

    def ranked_of_two(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        return nn.functional.margin_ranking_loss(outputs[0], outputs[1], targets, margin=1.0)

    assert ids("constant_data", bench_of(_Prefers(), pairs, loss=ranked)) == []
    assert ids("constant_data", bench_of(_Prefers(both=True), pairs, loss=ranked_of_two)) == []

    # Numbers of viewers aren't numbers of films: the two can't be exchanged, and the same target for all stays one.
    class Ratings(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.viewers, self.films = nn.Embedding(60, 3), nn.Embedding(2, 3)

        def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
            marks: Tensor = (self.viewers(pair[0]) * self.films(pair[1])).sum(1, keepdim=True)
            return marks

    class Rated(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, row: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
            return (torch.tensor(row), torch.tensor(row % 2)), torch.ones(1)

    assert ids("constant_data", bench_of(Ratings(), Rated(), loss=nn.MSELoss())) == ["constant_labels"]
    # With a bias of its own the order of a pair isn't all that is learnt: one constant answer fits every row.
    assert ids("constant_data", bench_of(_Prefers(bias=True), pairs, loss=ranked)) == ["constant_labels"]
