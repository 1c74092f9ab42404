"""Parameters that gradients don't reach."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


class _Cut(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.head, self.how = mlp(4, 8, 6), nn.Linear(6, 2), how

    def forward(self, inputs: Tensor) -> Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                states = self.body(inputs)
        else:
            states = self.body(inputs)
        if self.how == "detach":
            states = states.detach()
        elif self.how == "round":
            states = (4 * states).round() / 4
        elif self.how == "numpy":
            states = torch.from_numpy(states.detach().numpy())
        elif self.how == "straight":
            states = states + (states.round() - states).detach()
        outputs: Tensor = self.head(states)
        return outputs


@pytest.mark.parametrize("how", ["detach", "round", "no_grad"])
def test_a_cut_that_can_be_opened_is_a_mechanism_and_gradients_flow_once_mended(how: str) -> None:
    bench = bench_of(_Cut(how), signs())
    (found,) = said("detached", bench)
    assert (found.id, found.proof) == ("detached_graph", "mechanism")
    assert found.evidence["num_cut"] == 40 + 54  # (4 + 1) * 8 and (8 + 1) * 6
    assert ("_set_grad_enabled" if how == "no_grad" else how) in str(found.evidence["calls"])
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    mended.loss(mended.model(signs()[0]), signs()[1]).backward()
    assert all(bool(part.grad.any()) for part in mended.model.parameters() if part.grad is not None)
    assert all(part.grad is not None for part in mended.model.parameters())


def test_a_way_through_numpy_is_certain_and_named() -> None:
    (found,) = said("detached", bench_of(_Cut("numpy"), signs()))
    assert (found.proof, found.remedy.change) == ("certain", None)
    assert "numpy" in str(found.evidence["calls"])


class _Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.spare = mlp(4, 8, 2), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs)
        return outputs


def test_straight_through_zero_heads_unused_and_unheld_parts_are_healthy() -> None:
    zero = mlp(4, 8, 2)
    nn.init.zeros_(zero[-1].weight)  # type: ignore[arg-type]
    cut = _Cut("detach")
    head = {"name": "sgd", "lr": 0.1, "params": list(cut.head.parameters())}
    for bench in (bench_of(_Cut("straight"), signs()), bench_of(zero, signs()), bench_of(_Unused(), signs())):
        assert ids("detached", bench) == []
    assert ids("detached", bench_of(cut, signs(), optimizer=head)) == []


def test_a_bias_so_low_that_no_row_activates_its_units_is_not_detached() -> None:
    model = mlp(4, 8, 2)
    with torch.no_grad():
        model[0].bias.fill_(-3.2)  # type: ignore[union-attr,operator]
    inputs, targets = signs()
    assert ids("detached", bench_of(model, (inputs.clamp(-1, 1), targets))) == []


def test_a_loss_of_classes_by_argmax_that_asks_for_a_gradient_reaches_nothing() -> None:
    def guessed(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1).float() - targets.float()).square().mean().requires_grad_()

    (found,) = said("detached", bench_of(mlp(4, 8, 2), signs(), loss=guessed))
    assert (found.id, found.proof) == ("detached_graph", "certain")
    assert found.remedy.change is None


def test_a_loss_of_some_of_the_outputs_is_not_cut() -> None:
    assert ids("detached", bench_of(mlp(4, 8, 2), signs(), loss=lambda outputs, targets: outputs[:, :1].square().mean())) == []
