"""Fixup: the paper's factors, zeros and scalars, and steps that don't grow with depth."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.models.parts import Residual
from stepwell.models.registry import build
from stepwell.techniques.model.fixup import Fixup, fixup_factor
from stepwell.techniques.model.swap_norm import SwapNorm
from stepwell.techniques.optimizer.decay_groups import decay_table

IMAGES = Signature("image", (3, 8, 8), 4)


def resnet(**settings: object) -> nn.Module:
    return build("resnet", IMAGES, {"channels": [4, 8], "num_blocks": 2, "norm": "none", **settings}, seed=0)


def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("num_blocks", "num_layers", "factor"), [(16, 2, 0.25), (81, 2, 1 / 9), (16, 3, 0.5), (64, 4, 0.5), (9, 1, 1.0), (1, 2, 1.0)]
)
def test_the_factor_is_the_paper_s(num_blocks: int, num_layers: int, factor: float) -> None:
    # L^(-1 / (2m - 2)): Zhang et al. 2019, rule 2; for m = 2 that is 1 / sqrt(L).
    assert fixup_factor(num_blocks, num_layers) == pytest.approx(factor)


def test_weights_inside_branches_are_scaled_and_their_last_and_the_head_are_zero() -> None:
    plain = resnet()
    before = copy.deepcopy(plain.state_dict())
    after = Fixup()(plain, Rng(0)).state_dict()
    for block in (2, 3, 4, 5):
        torch.testing.assert_close(
            after[f"body.{block}.branch.0.weight"], before[f"body.{block}.branch.0.weight"] / 2
        )  # 4^(-1/2)
        assert not after[f"body.{block}.branch.2.weight"].any()
        assert not after[f"body.{block}.branch.2.bias"].any()
    assert not after["head.weight"].any()
    assert not after["head.bias"].any()
    for name in ("body.0.weight", "body.4.shortcut.0.weight"):
        assert torch.equal(after[name], before[name])


def test_every_layer_and_activation_gets_a_bias_from_0_and_every_branch_a_multiplier_from_1() -> None:
    model = Fixup()(resnet(), Rng(0))
    layers = [name for name, part in model.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear, nn.ReLU))]
    biases = {name: parameter for name, parameter in model.named_parameters() if name.endswith("fixup_bias")}
    scales = {name: parameter for name, parameter in model.named_parameters() if name.endswith("fixup_scale")}
    assert list(biases) == [f"{name}.fixup_bias" for name in layers]
    assert list(scales) == [f"body.{block}.branch.2.fixup_scale" for block in (2, 3, 4, 5)]
    assert {tuple(parameter.tolist()) for parameter in biases.values()} == {(0.0,)}
    assert {tuple(parameter.tolist()) for parameter in scales.values()} == {(1.0,)}


def test_what_is_neither_a_layer_nor_an_activation_gets_no_bias() -> None:
    branch = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.ReLU(), nn.Linear(2, 2))
    model = Fixup()(nn.Sequential(Residual(branch), nn.Flatten(), nn.Linear(2, 1), nn.Softmax(dim=1)), Rng(0))
    names = [name for name, _ in model.named_parameters() if name.endswith("fixup_bias")]
    assert names == [f"{place}.fixup_bias" for place in ("0.branch.0", "0.branch.2", "0.branch.3", "2")]


def test_it_computes_biases_before_and_the_multiplier_after() -> None:
    branch = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    model = Fixup()(nn.Sequential(Residual(branch), nn.Linear(2, 1)), Rng(0))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(3, 2)
    first, tanh, last = branch
    hidden = torch.tanh((x + first.fixup_bias) @ first.weight.T + first.bias + tanh.fixup_bias)
    total = x + last.fixup_scale * ((hidden + last.fixup_bias) @ last.weight.T + last.bias)
    torch.testing.assert_close(model(x), (total + model[1].fixup_bias) @ model[1].weight.T + model[1].bias)


def test_names_of_all_other_tensors_stay() -> None:
    plain = resnet()
    before = list(plain.state_dict())
    assert [name for name in Fixup()(plain, Rng(0)).state_dict() if "fixup" not in name] == before


def test_blocks_start_as_their_shortcuts_and_the_output_as_zero() -> None:
    model = Fixup()(resnet(), Rng(0))
    hidden = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.get_submodule("body.2")(hidden), hidden)
    assert not model(images()).any()


def test_everything_but_the_head_gets_a_gradient_after_the_head_moved() -> None:
    model = Fixup()(resnet(), Rng(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images()), torch.arange(4)).backward()
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_scalars_get_no_weight_decay() -> None:
    rows = {row.name: row.decays for row in decay_table(Fixup()(resnet(), Rng(0)))}
    assert not any(decays for name, decays in rows.items() if "fixup" in name)
    assert rows["body.0.weight"]
    roles = Fixup()(resnet(), Rng(0)).get_submodule("body.2.branch.2").stepwell_roles
    assert roles == {"fixup_bias": "scale", "fixup_scale": "scale"}


def test_scalars_have_the_dtype_of_the_weights_and_survive_a_copy() -> None:
    model = copy.deepcopy(Fixup()(resnet().double(), Rng(0)))
    scale = model.get_parameter("body.2.branch.2.fixup_scale")
    assert scale.dtype == torch.float64
    with torch.no_grad():
        model.get_parameter("body.2.branch.2.bias").fill_(1.0)
        scale.fill_(3.0)
    zero = torch.zeros(1, 4, 8, 8, dtype=torch.float64)
    assert model.get_submodule("body.2")(zero).unique().tolist() == [3.0]


def test_with_norms_taken_out_first_it_serves_a_network_that_had_them() -> None:
    model = SwapNorm(old="any", to="none")(resnet(norm="batch"), Rng(0))
    assert not Fixup()(model, Rng(0))(images()).any()


def test_twice_is_no_error_and_adds_nothing() -> None:
    model = Fixup()(resnet(), Rng(0))
    names = list(model.state_dict())
    again = Fixup()(model, Rng(0))
    assert list(again.state_dict()) == names
    assert again.get_parameter("body.2.branch.2.fixup_scale").item() == 1.0


def test_a_softmax_gets_no_bias_for_it_would_not_feel_it() -> None:
    model = Fixup()(nn.Sequential(Residual(nn.Linear(2, 2)), nn.Linear(2, 2), nn.Softmax(dim=1)), Rng(0))
    assert [name for name, _ in model.named_parameters() if "2." in name[:2]] == []


def test_the_head_can_be_named() -> None:
    model = nn.ModuleDict({"head": nn.Linear(2, 2), "body": Residual(nn.Linear(2, 2)), "extra": nn.Linear(2, 2)})
    Fixup(head="head")(model, Rng(0))
    assert (bool(model["head"].weight.any()), bool(model["extra"].weight.any())) == (False, True)


@pytest.mark.parametrize("head", ["heat", "body.branch"])
def test_a_head_that_is_no_layer_outside_the_blocks_is_refused(head: str) -> None:
    model = nn.ModuleDict({"head": nn.Linear(2, 2), "body": Residual(nn.Linear(2, 2))})
    with pytest.raises(JobError, match=rf"fixup\.head is '{head}'.*head"):
        Fixup(head=head)(model, Rng(0))


def test_a_model_without_an_output_layer_of_its_own_is_refused() -> None:
    with pytest.raises(JobError, match="fixup found no output layer of its own"):
        Fixup()(nn.Sequential(Residual(nn.Linear(2, 2))), Rng(0))


def test_norms_in_branches_are_refused_with_the_way_to_take_them_out() -> None:
    with pytest.raises(
        JobError, match=r"norm in the branch of the residual block body\.3: body\.3\.branch\.1.*swap_norm.*to: none"
    ):
        Fixup()(resnet(norm="batch"), Rng(0))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.MultiheadAttention(4, 2), "can't scale the weights of 0.branch.0, a MultiheadAttention"),
        (nn.GRU(4, 4), "can't scale the weights of 0.branch.0, a GRU"),
        (nn.ReLU(), "found no linear or convolution layer in the branch of the residual block 0"),
    ],
)
def test_branches_it_can_not_scale_are_refused(part: nn.Module, message: str) -> None:
    with pytest.raises(JobError, match=message):
        Fixup()(nn.Sequential(Residual(nn.Sequential(part)), nn.Linear(4, 4)), Rng(0))


def test_a_model_without_residual_blocks_and_wrong_patterns_are_refused() -> None:
    with pytest.raises(JobError, match=r"no residual block that declares itself.*fixup\.patterns"):
        Fixup()(nn.Linear(2, 2), Rng(0))
    with pytest.raises(JobError, match=r"fixup\.patterns is 3"):
        Fixup(patterns=3)  # type: ignore[arg-type]


def first_step(num_blocks: int, *, fixed: bool) -> float:
    """How much one step of 0.01 changes the outputs of a network of this depth."""
    torch.manual_seed(0)
    parts: list[Any] = []
    for _ in range(num_blocks):
        branch = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        for layer in (branch[0], branch[2]):
            nn.init.kaiming_normal_(layer.weight)
        parts.append(Residual(branch))
    model = nn.Sequential(*parts, nn.Linear(16, 2))
    if fixed:
        Fixup()(model, Rng(0))
    inputs, before = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        outputs = model(inputs)
        before = outputs.detach()
        nn.functional.cross_entropy(outputs, torch.arange(8) % 2).backward()
        optimizer.step()
    return (model(inputs) - before).abs().mean().item()


def test_a_step_changes_a_network_of_a_hundred_blocks_by_about_what_it_changes_one_of_ten() -> None:
    assert first_step(100, fixed=True) < 3 * first_step(10, fixed=True)
    assert not first_step(100, fixed=False) < 1000 * first_step(10, fixed=False)
