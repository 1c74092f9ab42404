"""Swap norm: the right successor everywhere, with its weights, counted and refused where there is nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.norms import AnyBatchNorm, ChannelRms, PerPosition, kind_of
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.models.registry import build
from stepwell.techniques.model.swap_norm import SwapNorm, swapped_norm

CHANNELS = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
FEATURES = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(1)) * 2 + 1


def marked(norm: nn.Module) -> nn.Module:
    """A norm with a weight and a bias that can be told from new ones."""
    with torch.no_grad():
        for place, parameter in enumerate(norm.parameters()):
            parameter.copy_(torch.arange(8.0) + 1 + place)
    return norm


def affine(values: Tensor) -> Tensor:
    return values * (torch.arange(8.0) + 1).view(-1, 1, 1) + (torch.arange(8.0) + 2).view(-1, 1, 1)


@pytest.mark.parametrize(
    ("to", "reference"),
    [
        ("layer", nn.GroupNorm(1, 8, affine=False)),
        ("group", nn.GroupNorm(2, 8, affine=False)),  # at most 32 groups of at least 4 channels
        ("instance", nn.InstanceNorm2d(8)),
    ],
)
def test_batch_norm_of_images_becomes_each_other_kind_with_its_weight_and_bias(to: Any, reference: nn.Module) -> None:
    new = swapped_norm(marked(nn.BatchNorm2d(8)), to)
    torch.testing.assert_close(new(CHANNELS), affine(reference(CHANNELS)))


def test_batch_norm_of_images_becomes_rms_without_a_bias() -> None:
    new = swapped_norm(marked(nn.BatchNorm2d(8)), "rms")
    expected = CHANNELS / (CHANNELS.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(new(CHANNELS), expected * (torch.arange(8.0) + 1).view(-1, 1, 1))
    assert [name for name, _ in new.named_parameters()] == ["weight"]


@pytest.mark.parametrize(
    "old",
    [
        nn.GroupNorm(4, 8),
        nn.InstanceNorm2d(8, affine=True),
        nn.BatchNorm2d(8),
        nn.SyncBatchNorm(8),
        nn.BatchNorm1d(8),
        AnyBatchNorm(8),
    ],
)
def test_norms_of_channels_become_batch_norm_or_layer_norm_of_channels(old: nn.Module) -> None:
    marked(old)
    if kind_of(old) != "batch":
        torch.testing.assert_close(swapped_norm(old, "batch")(CHANNELS), affine(nn.BatchNorm2d(8, affine=False)(CHANNELS)))
    torch.testing.assert_close(swapped_norm(old, "layer")(CHANNELS), affine(nn.GroupNorm(1, 8, affine=False)(CHANNELS)))


def test_rms_of_channels_becomes_batch_norm() -> None:
    new = swapped_norm(marked(ChannelRms(8)), "batch")
    torch.testing.assert_close(new(CHANNELS), nn.BatchNorm2d(8, affine=False)(CHANNELS) * (torch.arange(8.0) + 1).view(-1, 1, 1))


@pytest.mark.parametrize("old", [nn.BatchNorm1d(8), nn.GroupNorm(2, 8)])
def test_instance_norm_of_any_dimensions_refuses_channels_of_one_number(old: nn.Module) -> None:
    new = swapped_norm(old, "instance")
    torch.testing.assert_close(new(CHANNELS), nn.InstanceNorm2d(8)(CHANNELS))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        new(torch.zeros(1, 8))


@pytest.mark.parametrize("old", [nn.BatchNorm3d(8), nn.InstanceNorm3d(8, affine=True), nn.InstanceNorm1d(8, affine=True)])
def test_the_number_of_dimensions_is_kept(old: nn.Module) -> None:
    assert type(swapped_norm(old, "instance")).__name__[-2:] == type(old).__name__[-2:]
    if not isinstance(old, nn.BatchNorm3d):
        assert type(swapped_norm(old, "batch")).__name__[-2:] == type(old).__name__[-2:]


@pytest.mark.parametrize("old", [nn.LayerNorm(8), nn.RMSNorm(8)])
def test_norms_of_features_stay_norms_of_features(old: nn.Module) -> None:
    weight = torch.arange(8.0) + 1
    torch.testing.assert_close(
        swapped_norm(marked(copy.deepcopy(old)), "rms" if isinstance(old, nn.LayerNorm) else "layer")(FEATURES),
        (nn.RMSNorm(8, eps=1e-5) if isinstance(old, nn.LayerNorm) else nn.LayerNorm(8))(FEATURES) * weight,
    )
    flat = FEATURES.view(20, 8)
    batch, group = (swapped_norm(marked(copy.deepcopy(old)), to, 2) for to in ("batch", "group"))
    bias = weight + 1 if isinstance(old, nn.LayerNorm) else 0.0
    torch.testing.assert_close(batch(FEATURES), (nn.BatchNorm1d(8)(flat) * weight + bias).view(4, 5, 8))
    torch.testing.assert_close(group(FEATURES), (nn.GroupNorm(2, 8)(flat) * weight + bias).view(4, 5, 8))
    assert isinstance(batch, PerPosition)
    with pytest.raises(JobError, match="swap_norm can't put instance norm in the place of a norm of features"):
        swapped_norm(old, "instance")


def test_eps_dtype_mode_and_frozen_weights_are_kept() -> None:
    old = nn.BatchNorm2d(8, eps=0.25).double().eval()
    old.weight.requires_grad_(False)
    new = swapped_norm(old, "group")
    assert (new.eps, new.weight.dtype, new.training) == (0.25, torch.float64, False)
    assert (new.weight.requires_grad, new.bias.requires_grad) == (False, True)


def test_a_norm_without_weights_gets_a_successor_without_weights() -> None:
    assert list(swapped_norm(nn.BatchNorm2d(8, affine=False), "group").parameters()) == []


def test_a_bias_that_the_old_norm_lacked_starts_at_zero() -> None:
    new = swapped_norm(marked(nn.LayerNorm(8, bias=False)), "group", 2)
    assert not new.norm.bias.any()


def test_none_leaves_nothing_there() -> None:
    model = SwapNorm(old="any", to="none")(nn.Sequential(nn.BatchNorm2d(8), nn.LayerNorm(8)), Rng(0))
    assert [type(part) for part in model] == [nn.Identity, nn.Identity]


def test_all_norms_of_one_kind_are_swapped_wherever_they_are_and_the_others_left() -> None:
    net = build("resnet", Signature("image", (3, 8, 8), 2), {"channels": [8, 16]}, seed=0)
    model = SwapNorm(num_groups=4)(nn.ModuleDict({"net": net, "norm": nn.LayerNorm(4)}), Rng(0))
    kinds = [kind_of(part) for part in model.modules() if kind_of(part)]
    assert kinds == ["group"] * 6 + ["layer"]
    assert {part.num_groups for part in model.modules() if isinstance(part, nn.GroupNorm)} == {4}
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 2)


def test_names_of_weights_stay() -> None:
    net = build("convnet", Signature("image", (1, 8, 8), 2), {"channels": [8, 8]}, seed=0)
    before = [name for name, _ in net.named_parameters()]
    assert [name for name, _ in SwapNorm()(net, Rng(0)).named_parameters()] == before


def test_patterns_choose_by_module() -> None:
    model = nn.ModuleDict({"a": nn.Sequential(nn.BatchNorm2d(8)), "b": nn.Sequential(nn.BatchNorm2d(8)), "b2": nn.BatchNorm2d(8)})
    SwapNorm(to="layer", patterns=["b"])(model, Rng(0))
    assert [kind_of(part) for part in (model["a"][0], model["b"][0], model["b2"])] == ["batch", "group", "batch"]


def test_one_norm_in_two_places_stays_one() -> None:
    norm = nn.BatchNorm2d(8)
    model = SwapNorm()(nn.Sequential(norm, nn.ReLU(), norm), Rng(0))
    assert model[0] is model[2]
    assert kind_of(model[0]) == "group"


def test_a_model_that_is_a_norm_is_swapped_itself() -> None:
    assert isinstance(SwapNorm()(nn.BatchNorm2d(8), Rng(0)), nn.GroupNorm)


@pytest.mark.parametrize("to", ["rms", "group", "none"])
def test_torch_s_transformer_layers_still_evaluate(to: Any) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = SwapNorm(old="layer", to=to)(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), Rng(0))
    trained = model.train()(FEATURES)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(FEATURES), trained)


class NormAct(nn.BatchNorm2d):
    """A norm and more in one class."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(super().forward(inputs))


def test_a_subclass_that_may_do_more_is_not_taken_for_the_norm() -> None:
    with pytest.raises(JobError, match=r"found no batch norm in the model.*the model has NormAct"):
        SwapNorm()(nn.Sequential(NormAct(8)), Rng(0))


def test_a_model_without_the_old_kind_is_refused_and_told_what_it_has() -> None:
    with pytest.raises(JobError, match=r"found no batch norm in the model.*the model has GroupNorm, LayerNorm"):
        SwapNorm()(nn.Sequential(nn.LayerNorm(8), nn.GroupNorm(2, 8)), Rng(0))
    with pytest.raises(JobError, match=r"found no norm in the model.*the model has none"):
        SwapNorm(old="any")(nn.Linear(2, 2), Rng(0))


def test_a_pattern_that_covers_no_norm_is_refused_with_the_nearest() -> None:
    model = nn.ModuleDict({"stem": nn.BatchNorm2d(8), "head": nn.Linear(2, 2)})
    with pytest.raises(JobError, match=r"swap_norm\.patterns has 'stemm', which covers no batch norm.*Did you mean 'stem'"):
        SwapNorm(patterns=["stemm"])(model, Rng(0))
    with pytest.raises(JobError, match="'head'"):
        SwapNorm(patterns=["stem", "head"])(model, Rng(0))


def test_groups_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(JobError, match=r"swap_norm\.num_groups is 3"):
        SwapNorm(num_groups=3)(nn.BatchNorm2d(8), Rng(0))


def test_a_layer_norm_over_several_dimensions_is_refused() -> None:
    with pytest.raises(JobError, match=r"can't swap a LayerNorm over \(8, 3, 3\)"):
        SwapNorm(old="layer")(nn.LayerNorm((8, 3, 3)), Rng(0))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"old": "bach"}, "old"),
        ({"to": "bach"}, "to"),
        ({"old": "any", "to": "any"}, "to"),
        ({"old": "group", "to": "group"}, "to"),
        ({"num_groups": 0}, "num_groups"),
        ({"num_groups": -1}, "num_groups"),
        ({"patterns": []}, "patterns"),
        ({"patterns": "a"}, "patterns"),
        ({"patterns": [1]}, "patterns"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(JobError, match=f"swap_norm.{name} is"):
        SwapNorm(**settings)


def test_one_group_is_allowed() -> None:
    assert SwapNorm(num_groups=1)(nn.BatchNorm2d(8), Rng(0)).num_groups == 1
