"""Units that stay alike."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
from torch import Tensor, nn


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_weights_are_certain_and_drawn_once_mended(value: float) -> None:
    model = mlp(4, 8, 8, 2)
    for part in model.parameters():
        nn.init.constant_(part, value if part.dim() > 1 else 0.0)
    bench = bench_of(model, signs())
    (found,) = said("symmetry", bench)
    assert (found.id, found.proof, found.evidence["num_units"]) == ("symmetric_init", "certain", 8)
    assert found.remedy.change is not None
    weight = next(found.remedy.change(bench.setup).model.parameters())
    assert float((weight - weight[:1]).abs().max()) > 0.05
    assert torch.equal(next(model.parameters()), torch.full((8, 4), value))


class _Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.first(inputs)
        outputs: Tensor = self.head(states + self.last(self.second(states).relu()))
        return outputs


def test_zero_heads_and_zero_branches_part_within_three_steps() -> None:
    zero = mlp(4, 8, 2)
    nn.init.zeros_(zero[-1].weight)  # type: ignore[arg-type]
    for model in (zero, _Branch(), mlp(4, 8, 2)):
        assert ids("symmetry", bench_of(model, signs())) == []


def test_equal_weights_that_are_frozen_on_purpose_are_silent() -> None:
    model = mlp(4, 8, 2)
    nn.init.constant_(model[0].weight, 0.25).requires_grad_(False)  # type: ignore[arg-type]
    assert ids("symmetry", bench_of(model, signs())) == []


class _Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs.unsqueeze(2))[0][:, -1])
        return outputs


def test_an_lstm_of_equal_weights_keeps_one_kind_of_unit_for_each_gate() -> None:
    model = _Reads()
    for part in model.parameters():
        nn.init.constant_(part, 0.1)
    (found,) = said("symmetry", bench_of(model, signs()))
    assert found.id == "symmetric_init"
    assert ids("symmetry", bench_of(_Reads(), signs())) == []


def test_equal_weights_whose_gradients_cancel_are_alike_whatever_rounding_makes_of_them() -> None:
    model = mlp(4, 16, 16, 3)
    with torch.no_grad():
        for part in model.parameters():
            if part.dim() > 1:
                part.fill_(1.0 / part.shape[1])
    inputs, labels = signs()
    train = inputs, labels + (inputs[:, 1] > 1).long()
    (found,) = said("symmetry", bench_of(model, train, optimizer={"name": "rmsprop", "lr": 0.01}))
    assert {"0.weight", "2.weight"} <= set(found.evidence["names"])  # type: ignore[arg-type]


class _Tastes(nn.Module):
    """Ratings as products of two tables' rows."""

    def __init__(self, *, width: int = 6) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(12, width), nn.Embedding(9, width)])
        for table in self.tables:
            nn.init.constant_(table.weight, 0.3)  # type: ignore[arg-type]

    def forward(self, pair: Tensor) -> Tensor:
        products: Tensor = (self.tables[0](pair[:, 0]) * self.tables[1](pair[:, 1])).sum(1, keepdim=True)
        return products


def test_tables_of_one_number_keep_all_their_columns_alike_and_are_drawn_once_mended() -> None:
    draw = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.randint(12, (120,), generator=draw), torch.randint(9, (120,), generator=draw)], 1)
    bench = bench_of(_Tastes(), (pairs, noise(120, 1)), loss=nn.MSELoss())
    (found,) = said("symmetry", bench)
    assert found.evidence["names"] == ["tables.0.weight", "tables.1.weight"]
    assert found.evidence["num_units"] == 6
    assert found.remedy.change is not None
    assert ids("symmetry", bench_of(found.remedy.change(bench.setup).model, (pairs, noise(120, 1)), loss=nn.MSELoss())) == []
    # One number for each film has no second column to be like.
    assert ids("symmetry", bench_of(_Tastes(width=1), (pairs, noise(120, 1)), loss=nn.MSELoss())) == []


def test_a_zero_table_before_a_drawn_layer_parts_within_three_steps() -> None:
    table = nn.Embedding(9, 4)
    nn.init.zeros_(table.weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(table, nn.Flatten(), nn.Linear(12, 2))
    tokens = torch.randint(9, (60, 3), generator=torch.Generator().manual_seed(0))
    assert ids("symmetry", bench_of(model, (tokens, tokens[:, 0] % 2))) == []
