"""Modules and tensors that the model doesn't know as its parts."""

from __future__ import annotations

from typing import Any

import torch
from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


class _Uses(nn.Module):
    """A head behind whatever `part` computes, which lies in `held` as it was given."""

    def __init__(self, held: Any, how: str) -> None:
        super().__init__()
        self.held, self.how = held, how
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.how == "list":
            inputs = self.held[0](inputs)
        elif self.how == "dict":
            inputs = self.held["a"]["b"](inputs)
        elif self.how == "tensor":
            inputs = inputs @ self.held
        elif self.how == "call":
            inputs = self.held(inputs)
        outputs: Tensor = self.head(inputs.relu())
        return outputs


def test_layers_in_lists_and_dicts_are_found_by_name_and_trained_once_mended() -> None:
    for held, how, where in (([nn.Linear(4, 4)], "list", "held.0"), ({"a": {"b": nn.Linear(4, 4)}}, "dict", "held.a.b")):
        bench = bench_of(_Uses(held, how), signs())
        (found,) = said("unregistered", bench)
        assert (found.id, found.proof) == ("unregistered_params", "certain")
        assert (found.evidence["hidden"], found.evidence["num_hidden"]) == ([where], 20)
        assert found.remedy.change is not None
        mended = found.remedy.change(bench.setup)
        assert sum(part.numel() for part in mended.model.parameters()) == 20 + 10
        assert len(list(bench.setup.model.parameters())) == 2


def test_a_bare_tensor_is_a_mechanism_that_becomes_a_parameter() -> None:
    bench = bench_of(_Uses(torch.randn(4, 4), "tensor"), signs())
    (found,) = said("unregistered", bench)
    assert found.proof == "mechanism"
    assert found.remedy.change is not None
    assert isinstance(found.remedy.change(bench.setup).model.held, nn.Parameter)


def test_a_layer_in_a_closure_is_found_but_only_its_author_can_mend_it() -> None:
    layer = nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    (found,) = said("unregistered", bench_of(_Uses(lambda inputs: layer(inputs), "call"), signs()))
    assert found.id == "unregistered_params"
    assert found.remedy.change is None
    assert torch.equal(layer.weight, before)


def test_layers_that_are_registered_or_held_or_unused_are_healthy() -> None:
    registered = _Uses(None, "none")
    registered.layers = nn.ModuleList([nn.Linear(4, 4)])
    registered.held = [registered.layers[0]]
    registered.how = "list"
    assert ids("unregistered", bench_of(registered, signs())) == []
    assert ids("unregistered", bench_of(_Uses([nn.Linear(4, 4)], "none"), signs())) == []
    layer = nn.Linear(4, 4)
    model = _Uses([layer], "list")
    held = [*model.parameters(), *layer.parameters()]
    assert ids("unregistered", bench_of(model, signs(), optimizer={"name": "sgd", "lr": 0.1, "params": held})) == []
    assert ids("unregistered", bench_of(mlp(4, 8, 2), signs())) == []


def test_a_layer_that_each_forward_pass_makes_anew_is_found() -> None:
    class Makes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.head(nn.Linear(4, 4)(inputs).relu())
            return outputs

    (found,) = said("unregistered", bench_of(Makes(), signs()))
    assert (found.id, found.proof, found.evidence["shapes"]) == ("unregistered_params", "certain", [[4, 4]])


def test_a_parameter_that_a_cast_has_turned_into_a_plain_tensor_is_found_on_a_copy() -> None:
    model = _Uses(nn.Parameter(torch.randn(4, 4)) * 1.0, "tensor")
    (found,) = said("unregistered", bench_of(model, signs()))
    assert (found.id, found.proof, found.evidence["hidden"]) == ("unregistered_params", "certain", ["held"])
    assert not model.held.is_leaf
