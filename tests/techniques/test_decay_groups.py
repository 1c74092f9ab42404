"""Decay groups: by module type, dimensions and declared roles, each tensor once, never by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.techniques.optimizer.decay_groups import DecayGroups, decay_table


def decayed(model: nn.Module) -> set[str]:
    return {row.name for row in decay_table(model) if row.decays}


class Named(nn.Module):
    """Names that say the opposite of what the modules are."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_bias_norm = nn.Linear(3, 3)
        self.downsample = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))


def test_names_decide_nothing() -> None:
    assert decayed(Named()) == {"bn_bias_norm.weight", "downsample.0.weight"}


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.LayerNorm(4),
        nn.LayerNorm((4, 4)),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm1d(4, affine=True),
        nn.RMSNorm((4, 4)),
    ],
)
def test_no_parameter_of_a_norm_decays(norm: nn.Module) -> None:
    groups = DecayGroups()(nn.Sequential(nn.Linear(4, 4), norm))
    expected = {"0.bias", *(f"1.{name}" for name, _ in norm.named_parameters())}
    assert groups == {name: {"weight_decay": 0.0} for name in expected}


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 8, 4))
        self.first = nn.Parameter(torch.zeros(1, 1, 4))
        self.size = nn.Parameter(torch.ones(4, 1))
        self.matrix = nn.Parameter(torch.ones(4, 4))
        self.gain = nn.Parameter(torch.ones(4))
        self.temperature = nn.Parameter(torch.ones(()))


def test_bare_parameters_decay_unless_a_role_is_declared_on_them() -> None:
    model = Tokens()
    assert decayed(model) == {"place", "first", "size", "matrix"}
    for name, role in {"place": "position", "first": "class_token", "size": "scale"}.items():
        getattr(model, name).stepwell_role = role
    assert decayed(model) == {"matrix"}


def test_a_role_declared_on_the_module_survives_a_copy() -> None:
    model = Tokens()
    model.stepwell_roles = {"place": "position"}
    assert decayed(copy.deepcopy(nn.Sequential(model))) == {"0.first", "0.size", "0.matrix"}


def test_an_unknown_role_is_refused_with_the_nearest_one() -> None:
    model = Tokens()
    model.place.stepwell_role = "positon"
    with pytest.raises(JobError, match="Did you mean 'position'"):
        DecayGroups()(model)


def test_a_tied_weight_appears_once_and_decays() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(7, 4), "head": nn.Linear(4, 7, bias=False)})
    model["head"].weight = model["embedding"].weight
    assert [(row.name, row.decays, row.reason) for row in decay_table(model)] == [("embedding.weight", True, "a weight, tied")]


def test_every_tensor_is_listed_once_with_its_shape_and_a_reason() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.LSTM(8, 4))
    rows = decay_table(model)
    assert [(row.name, row.shape) for row in rows] == [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    reasons = {row.name: row.reason for row in rows}
    assert reasons["0.weight"] == "a weight"
    assert reasons["0.bias"] == "has 1 dimension"
    assert reasons["1.weight"] == "of a BatchNorm2d"
    assert {row.name for row in rows if row.decays} == {"0.weight", "3.weight_ih_l0", "3.weight_hh_l0"}


def test_one_step_of_sgd_leaves_what_does_not_decay_where_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    factors = DecayGroups()(model)
    groups = [
        {"params": [p], "weight_decay": 0.5 * factors.get(name, {}).get("weight_decay", 1.0)}
        for name, p in model.named_parameters()
    ]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.SGD(groups, lr=0.1).step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["0.weight"].detach(), before["0.weight"] * (1 - 0.1 * 0.5))
    assert all(torch.equal(after[name], before[name]) for name in ("0.bias", "1.weight", "1.bias"))
