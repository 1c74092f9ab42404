"""Networks that can't express what the data hold."""

from __future__ import annotations

import pytest
from small_setups import Pair, bench_of, ids, mlp, noise, said, signs
from torch import Tensor, nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.probes.capacity import hidden_widths
from stepwell.doctor.remedies.wider import wider

ADAM = {"name": "adam", "lr": 0.02}


def _xor(num_rows: int, seed: int) -> Pair:
    inputs = noise(num_rows, 2, seed=seed)
    return inputs, ((inputs[:, 0] > 0) ^ (inputs[:, 1] > 0)).long()


def _bench(*sizes: int) -> Bench:
    return bench_of(mlp(*sizes), _xor(200, 0), _xor(200, 1), optimizer=ADAM, epochs=10)


def test_one_hidden_unit_is_too_narrow_for_exclusive_or_and_a_wide_branch_helps() -> None:
    bench = _bench(2, 1, 2)
    (found,) = said("capacity", bench)
    assert found.id == "capacity_too_small"
    assert found.evidence["narrowest"] == 1
    assert 0.55 < found.weight < 0.58  # above more epochs, below another rate
    assert found.remedy.change is not None
    assert bench.course(found.remedy.change(bench.setup)).skill() > bench.own.skill() + 0.2


def test_three_or_four_units_are_a_last_resort() -> None:
    (found,) = said("capacity", _bench(2, 3, 2))
    assert found.id == "capacity_too_small"
    assert found.weight <= 0.2


def test_a_network_without_a_narrow_layer_underfits() -> None:
    assert ids("capacity", _bench(2, 2)) == ["underfitting"]


def test_a_network_that_learns_its_rows_is_large_enough() -> None:
    assert ids("capacity", bench_of(mlp(4, 16, 2), signs(), signs(seed=1), optimizer=ADAM, epochs=10)) == []


def test_where_simple_methods_do_no_better_nothing_is_missing() -> None:
    train, val = ((noise(200, 4, seed=seed), (noise(200, seed=seed + 50) > 0).long()) for seed in (0, 1))
    bench = bench_of(mlp(4, 2), train, val, optimizer=ADAM, epochs=10)
    assert bench.room < 0.05
    assert bench.own.skill() < 0.65
    assert ids("capacity", bench) == []


def test_widths_are_those_of_all_layers_but_the_last() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5), nn.Linear(5, 2))
    assert hidden_widths(model) == [6, 5]
    assert hidden_widths(nn.Sequential(nn.GRU(3, 7), nn.Linear(7, 2))) == [7]
    assert hidden_widths(nn.Linear(3, 2)) == []


class _Reader(nn.Module):
    """Scores at each of five moments, from those before it or from both sides."""

    def __init__(self, *, both_ways: bool) -> None:
        super().__init__()
        self.cells = nn.GRU(3, 4, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(8 if both_ways else 4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.cells(inputs)[0])
        return outputs


@pytest.mark.parametrize("both_ways", [False, True])
def test_a_branch_beside_a_causal_model_sees_no_more_than_it(both_ways: bool) -> None:
    inputs = noise(40, 5, 3)
    bench = bench_of(
        _Reader(both_ways=both_ways), (inputs, (inputs[:, :, 0] > 0).long()), loss=lambda outputs, targets: outputs.sum()
    )
    model = wider(bench.setup).model.eval()
    later = inputs.clone()
    later[:, 3:] += 1.0
    changed = (model(later) - model(inputs)).abs().amax((0, 2))
    assert bool((changed[:3] > 1e-4).all()) is both_ways
    assert bool((changed[:3] <= 1e-6).all()) is not both_ways
    assert bool((changed[3:] > 1e-4).all())
