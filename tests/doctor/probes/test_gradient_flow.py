"""Gradients that get lost or grow on their way."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, noise, said, signs
from torch import Tensor, nn

from stepwell.doctor.probes.gradient_flow import Flow, flow_of


class _Reader(nn.Module):
    """A plain recurrence whose states are carried on with a small factor; only the last one is read."""

    def __init__(self, carried: float) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body, self.head = nn.RNN(2, 8, num_layers=2, batch_first=True), nn.Linear(8, 2)
        with torch.no_grad():
            for layer in range(2):
                getattr(self.body, f"weight_hh_l{layer}").copy_(carried * torch.eye(8))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs)[0][:, -1])
        return outputs


def _deep(unit: type[nn.Module]) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [layer for _ in range(7) for layer in (nn.Linear(4, 4), unit())]
        return nn.Sequential(*layers, nn.Linear(4, 2))


def test_the_decay_is_the_least_of_the_first_half_over_the_most_of_the_last() -> None:
    ratios, norms = {"a": 0.2, "b": 0.1, "c": 0.5, "d": 2.0}, {"a": 1.0, "b": 3.0, "c": 4.0, "d": 5.0}
    flow = Flow(ratios=ratios, norms=norms, biases=10.0, through_time=None)
    assert flow.decay == pytest.approx(0.05)  # 0.1 / 2.0, and of norms 1 / 5
    assert flow.most == 2.0
    assert flow.beside_biases == 0.5
    alone = Flow(ratios={"a": 1e-9}, norms={"a": 1e-9}, biases=0.0, through_time=None)
    assert (alone.decay, alone.beside_biases) == (1.0, 1.0)


def test_seven_sigmoids_let_hardly_anything_through_and_rectified_units_do() -> None:
    bench = bench_of(_deep(nn.Sigmoid), signs())
    found = said("gradient_flow", bench)
    assert {item.id for item in found} == {"vanishing_gradient"}
    assert float(str(found[0].evidence["decay"])) < 1e-3
    assert found[0].remedy.change is not None
    mended = bench_of(found[0].remedy.change(bench.setup).model, signs())
    assert flow_of(mended.setup, mended.first_batch).decay > 1e-3


def test_what_a_long_sequence_began_with_is_forgotten_by_a_plain_recurrence_of_two_layers() -> None:
    train = noise(64, 24, 2), (noise(64, 24, 2)[:, 0, 0] > 0).long()
    bench = bench_of(_Reader(0.1), train)
    found = said("gradient_flow", bench)
    assert {item.id for item in found} == {"vanishing_gradient"}
    assert found[0].remedy.text.startswith("Use a gated recurrence")
    # Twenty moments at 0.1 each and less by tanh: far below a thousandth; at a factor of 1 nothing like it.
    assert float(str(found[0].evidence["through_time"])) < 1e-10
    bench = bench_of(_Reader(0.99), train)
    through_time = flow_of(bench.setup, bench.first_batch).through_time
    assert through_time is not None
    assert through_time > 1e-3


def test_a_gradient_many_times_the_weight_explodes() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.001)
    bench = bench_of(model, (torch.ones(32, 1), torch.full((32, 1), 100.0)), loss=nn.MSELoss())
    found = said("gradient_flow", bench)
    assert {item.id for item in found} == {"exploding_gradient"}
    assert found[0].evidence["gradient_over_weight"] == [pytest.approx(2 * (100 - 0.001) / 0.001, rel=1e-4)]


def test_usual_networks_let_gradients_through() -> None:
    for model in (mlp(4, 16, 16, 16, 2), _deep(nn.Tanh), _deep(nn.GELU)):
        assert ids("gradient_flow", bench_of(model, signs(), epochs=1)) == []


def test_a_gradient_that_only_has_the_unit_of_its_targets_is_not_exploding() -> None:
    inputs, targets = law()
    given = {"loss": nn.MSELoss(), "optimizer": {"name": "adam", "lr": 1e-3}, "epochs": 1}
    assert "exploding_gradient" not in ids("gradient_flow", bench_of(mlp(4, 8, 1), (inputs, 1e4 * targets), **given))


def test_tables_of_embeddings_of_which_a_batch_touches_few_rows_are_not_vanishing() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5000, 4), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    inputs = torch.randint(5000, (200, 2), generator=torch.Generator().manual_seed(0))
    given = {"loss": nn.MSELoss(), "optimizer": {"name": "sgd", "lr": 1e-3}, "epochs": 1}
    flow = flow_of(
        bench_of(model, (inputs, noise(200, 1)), **given).setup, bench_of(model, (inputs, noise(200, 1)), **given).some
    )
    assert list(flow.ratios) == ["2.weight", "4.weight"]


def test_a_sequence_of_which_no_moment_gets_a_gradient_has_forgotten_nothing_on_the_way() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = nn.Linear(3, 2)

        def forward(self, steps: Tensor) -> Tensor:
            outputs: Tensor = self.answer(torch.ones(len(steps), 3)) + 0.0 * steps.sum((1, 2)).unsqueeze(1)
            return outputs

    bench = bench_of(Asks(), (noise(60, 12, 3), torch.arange(60) % 2))
    assert flow_of(bench.setup, bench.first_batch).through_time is None
