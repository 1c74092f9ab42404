"""Norm layers compute their formulas, are recognised, and are made for any number of dimensions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.norms import (
    AnyBatchNorm,
    ChannelRms,
    PerPosition,
    check_groups,
    default_groups,
    is_norm,
    kind_of,
    norm,
)

SHAPES: dict[int, tuple[int, ...]] = {0: (5, 8), 1: (5, 8, 7), 2: (5, 8, 4, 3), 3: (5, 8, 2, 3, 4)}


def inputs(dims: int) -> Tensor:
    return torch.randn(SHAPES[dims], generator=torch.Generator().manual_seed(dims), dtype=torch.float64) * 3 + 2


def standardised(values: Tensor, dims: list[int], eps: float) -> Tensor:
    mean = values.mean(dims, keepdim=True)
    return (values - mean) / ((values - mean).square().mean(dims, keepdim=True) + eps).sqrt()


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_each_norm_standardises_what_its_definition_says(dims: int, eps: float) -> None:
    x = inputs(dims)
    after = list(range(2, x.ndim))
    grouped = x.reshape(5, 2, 4, *x.shape[2:])
    expected = {
        "batch": standardised(x, [0, *after], eps),
        "layer": standardised(x, [1, *after], eps),
        "group": standardised(grouped, list(range(2, grouped.ndim)), eps).reshape(x.shape),
        "rms": x / (x.square().mean([1, *after], keepdim=True) + eps).sqrt(),
    }
    if dims:
        expected["instance"] = standardised(x, after, eps)
    for name, values in expected.items():
        made = norm(name, 8, dims, num_groups=2, eps=eps).double()  # type: ignore[arg-type]
        torch.testing.assert_close(made(x), values, rtol=1e-10, atol=1e-10)
        assert kind_of(made) == ("group" if name == "layer" and dims else name)


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["batch", "layer", "group", "instance", "rms"])
def test_a_weight_scales_its_own_channel(dims: int, name: Any) -> None:
    if (dims, name) == (0, "instance"):
        return
    plain, made = norm(name, 8, dims, affine=False).double(), norm(name, 8, dims).double()
    scale = torch.arange(1.0, 9.0, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(scale)
    torch.testing.assert_close(made(inputs(dims)), plain(inputs(dims)) * scale.view(-1, *[1] * dims))
    assert list(plain.parameters()) == []


def test_features_that_come_last_are_normalised_at_every_position() -> None:
    x = inputs(0).view(5, 1, 8).expand(5, 3, 8)
    for name in ("layer", "rms"):
        torch.testing.assert_close(norm(name, 8, 0).double()(x)[:, 1], norm(name, 8, 0).double()(inputs(0)))  # type: ignore[arg-type]


def test_instance_norm_of_vectors_is_refused() -> None:
    with pytest.raises(JobError, match="instance norm was asked for vectors"):
        norm("instance", 8, 0)


def test_unknown_names_and_dimensions_are_refused() -> None:
    with pytest.raises(JobError, match="norm is 'bach'"):
        norm("bach", 8, 2)  # type: ignore[arg-type]
    for dims in (-1, 4):
        with pytest.raises(JobError, match=f"dims is {dims}"):
            norm("batch", 8, dims)


@pytest.mark.parametrize(
    ("width", "groups"),
    [(1, 1), (7, 1), (8, 2), (12, 3), (16, 4), (20, 5), (127, 1), (128, 32), (132, 22), (256, 32), (1024, 32)],
)
def test_the_default_number_of_groups_divides_the_width_with_at_least_four_channels_in_each(width: int, groups: int) -> None:
    assert default_groups(width) == groups
    assert norm("group", width, 2).num_groups == groups


def test_groups_that_do_not_divide_the_width_are_refused_with_the_nearest_that_does() -> None:
    check_groups("x.num_groups", 4, 12)
    with pytest.raises(JobError, match=r"x\.num_groups is 8.*divisor of the 12 channels.*nearest that fits is 4"):
        check_groups("x.num_groups", 8, 12)
    with pytest.raises(JobError, match="num_groups is 3"):
        norm("group", 8, 2, num_groups=3)


def test_rms_of_whole_samples_is_torch_s_over_all_dimensions() -> None:
    x, eps = inputs(2), 1e-3
    torch.testing.assert_close(ChannelRms(8, eps=eps).double()(x), nn.RMSNorm(x.shape[1:], eps=eps).double()(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rms_of_16_bit_numbers_does_not_overflow(dtype: torch.dtype) -> None:
    values = ChannelRms(4).to(dtype)(torch.full((1, 4, 2), 300.0, dtype=dtype))  # 300^2 is more than float16 holds
    assert values.dtype == dtype
    assert torch.equal(values, torch.ones_like(values))


def test_rms_shows_its_width_and_eps() -> None:
    assert repr(ChannelRms(4, eps=0.5)) == "ChannelRms(4, eps=0.5)"


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_batch_norm_for_any_dimensions_is_batch_norm(dims: int) -> None:
    torch.testing.assert_close(AnyBatchNorm(8).double()(inputs(dims)), norm("batch", 8, dims).double()(inputs(dims)))


def test_batch_norm_for_any_dimensions_refuses_what_has_no_samples() -> None:
    with pytest.raises(JobError, match="input is"):
        AnyBatchNorm(8)(torch.zeros(8))


def test_a_norm_per_position_sees_each_position_as_a_sample() -> None:
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(PerPosition(nn.BatchNorm1d(8))(x), nn.BatchNorm1d(8)(x.view(6, 8)).view(2, 3, 8))
    torch.testing.assert_close(PerPosition(nn.GroupNorm(2, 8))(x)[1, 2], nn.GroupNorm(2, 8)(x[1, 2:3])[0])


class LlamaRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class PreNorm(nn.Module):
    """Called a norm, but holds one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.norm = nn.LayerNorm(4)


class WeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))


class LayerNorm2d(LlamaRMSNorm):
    pass


@pytest.mark.parametrize(
    ("module", "kind", "found"),
    [
        (nn.BatchNorm1d(4), "batch", True),
        (nn.BatchNorm3d(4), "batch", True),
        (nn.SyncBatchNorm(4), "batch", True),
        (AnyBatchNorm(4), "batch", True),
        (nn.LayerNorm(4), "layer", True),
        (nn.GroupNorm(2, 4), "group", True),
        (nn.InstanceNorm2d(4), "instance", True),
        (nn.RMSNorm(4), "rms", True),
        (ChannelRms(4), "rms", True),
        (LlamaRMSNorm(), None, True),
        (LayerNorm2d(), None, True),
        (PreNorm(), None, False),
        (WeightNorm(), None, False),
        (nn.Linear(4, 4), None, False),
        (nn.PReLU(4), None, False),
        (nn.Identity(), None, False),
    ],
)
def test_norms_are_told_from_other_modules(module: nn.Module, kind: str | None, found: bool) -> None:
    assert (kind_of(module), is_norm(module)) == (kind, found)
