"""The probe that asks whether a few rows alone can be learnt."""

from __future__ import annotations

import torch
from tests.doctor.probes.small_setups import bench_of, ids, mlp, noise, said, signs
from torch import Tensor, nn

from stepwell.doctor.bench import Bench
from stepwell.doctor.checklist import STAGES


class _Forgetful(nn.Module):
    """Outputs that depend on weights, and not on the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(inputs.mean(0, keepdim=True)))).expand(len(inputs), 2)


def forgetful() -> Bench:
    return bench_of(_Forgetful(), signs(), epochs=3)


def test_a_network_that_loses_the_rows_is_told_with_its_numbers() -> None:
    (item,) = said("one_batch", forgetful())
    assert (item.id, item.proof, item.remedy.change) == ("underfitting", "mechanism", None)
    assert item.evidence["num_rows"] == 64
    assert item.evidence["num_steps"] == 150
    assert len(item.evidence["rates"]) == 3  # type: ignore[arg-type]
    assert item.evidence["learnt_at_best"] < 0.1  # type: ignore[operator]
    assert item.evidence["learnt_by_one_hidden_layer"] >= 0.95  # type: ignore[operator]
    assert item.evidence["gradient_to_weights"] > 0  # type: ignore[operator]


def test_a_training_that_learns_its_rows_is_not_asked_and_costs_nothing() -> None:
    bench = bench_of(mlp(4, 32, 2), signs(), optimizer={"name": "adam", "lr": 0.01}, epochs=20)
    assert bench.own.last.train_skill is not None
    before = bench.spent_steps
    assert ids("one_batch", bench) == []
    assert bench.spent_steps == before


def test_a_rate_that_is_too_low_is_no_fault_of_the_network() -> None:
    bench = bench_of(mlp(4, 32, 2), signs(), optimizer={"name": "adam", "lr": 1e-6})
    assert ids("one_batch", bench) == []
    assert bench.one_batch.verdict != "stuck"
    assert bench.one_batch.best.factor > 100


def test_labels_that_no_input_tells_apart_are_no_fault_of_the_network() -> None:
    same = torch.ones(200, 4), (noise(200) > 0).long()
    assert ids("one_batch", bench_of(mlp(4, 32, 2), same)) == []


def test_frozen_weights_without_gradients_are_left_to_other_probes() -> None:
    model = mlp(4, 8, 2)
    bench = bench_of(model, signs(), loss=lambda outputs, targets: outputs.square().mean() * 0.0)
    assert ids("one_batch", bench) == []


def test_it_stands_in_the_stage_of_its_own() -> None:
    assert [stage.probes for stage in STAGES if stage.name == "fit"] == [("one_batch",)]


def test_the_bench_keeps_what_it_measured() -> None:
    bench = forgetful()
    first = bench.one_batch
    steps = bench.spent_steps
    assert bench.one_batch is first
    assert bench.spent_steps == steps
