"""Parameters that never move."""

from __future__ import annotations

import copy

from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


def test_an_optimizer_of_another_model_is_certain_and_holds_all_once_mended() -> None:
    model = mlp(4, 8, 2)
    former = list(copy.deepcopy(model).parameters())
    bench = bench_of(model, signs(), optimizer={"name": "sgd", "lr": 0.1, "params": former})
    (found,) = said("held", bench)
    assert (found.id, found.proof, found.evidence["num_held"]) == ("params_not_in_optimizer", "certain", 0)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    held = {id(part) for group in mended.build_optimizer().param_groups for part in group["params"]}
    assert held == {id(part) for part in mended.model.parameters()}


def test_an_optimizer_of_the_head_only_is_a_mechanism_with_its_share() -> None:
    model = mlp(4, 8, 2)
    held = list(model[-1].parameters())
    (found,) = said("held", bench_of(model, signs(), optimizer={"name": "sgd", "lr": 0.1, "params": held}))
    assert (found.id, found.proof) == ("params_not_in_optimizer", "mechanism")
    assert found.evidence["missing_share"] == 40 / 58  # (4 + 1) * 8 of (4 + 1) * 8 + (8 + 1) * 2


def test_groups_that_hold_all_are_healthy() -> None:
    model = mlp(4, 8, 2)
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters()), "lr": 0.01}]
    assert ids("held", bench_of(model, signs(), optimizer={"name": "sgd", "lr": 0.1, "params": groups})) == []


def test_frozen_layers_are_a_symptom_with_their_share() -> None:
    model = mlp(4, 8, 2)
    model[0].requires_grad_(False)
    (found,) = said("held", bench_of(model, signs()))
    assert (found.id, found.proof, found.evidence["num_frozen"]) == ("frozen_params", "symptom", 40)


def test_frozen_parameters_that_play_no_part_are_silent() -> None:
    assert ids("held", bench_of(_Unused(), signs())) == []


class _Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(4, 8, 2)
        self.unused = nn.Linear(50, 50).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs)
        return outputs
