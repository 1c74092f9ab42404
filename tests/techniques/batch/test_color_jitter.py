"""Colour jitter: each change by hand, what is kept, and the amounts that are drawn."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import ColorJitter, jitter_colors

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)  # Rec. ITU-R BT.601


def colors(num: int = 3, size: int = 5) -> torch.Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def luma(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures * LUMA[:, None, None]).sum(1, keepdim=True)


def changed(pictures: torch.Tensor, **amounts: list[float]) -> torch.Tensor:
    num = len(pictures)
    usual = {"brightness": [1.0] * num, "contrast": [1.0] * num, "saturation": [1.0] * num, "hue": [0.0] * num} | amounts
    return jitter_colors(pictures, **{name: torch.tensor(value) for name, value in usual.items()})  # type: ignore[arg-type]


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).double().view(-1, 1, 1, 1)


def close(ours: torch.Tensor, expected: torch.Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


def test_nothing_changes_where_every_factor_is_one_and_no_hue_is_turned() -> None:
    close(changed(colors()), colors())


def test_brightness_multiplies() -> None:
    close(changed(colors(), brightness=[0.5, 1.0, 1.3]), colors() * column([0.5, 1.0, 1.3]))


def test_contrast_stretches_around_the_mean_luma_of_each_picture() -> None:
    factors = column([0.0, 0.7, 1.2])
    mean = luma(colors()).mean((2, 3), keepdim=True)
    close(changed(colors(), contrast=[0.0, 0.7, 1.2]), mean + factors * (colors() - mean))


def test_saturation_stretches_around_the_luma_of_each_pixel() -> None:
    factors = column([0.0, 0.7, 1.2])
    close(changed(colors(), saturation=[0.0, 0.7, 1.2]), luma(colors()) + factors * (colors() - luma(colors())))


def chroma(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Length and angle (in turns) of each pixel's colour in YUV: U = 0.492111 (B - Y), V = 0.877283 (R - Y)."""
    u, v = 0.492111 * (pictures[:, 2:] - luma(pictures)), 0.877283 * (pictures[:, :1] - luma(pictures))
    return (u**2 + v**2).sqrt(), torch.atan2(v, u) / (2 * math.pi)


@pytest.mark.parametrize("hue", [0.1, -0.1, 0.25, 0.5])
def test_hue_turns_the_chroma_and_keeps_luma_and_saturation(hue: float) -> None:
    turned = changed(colors(), hue=[hue] * 3)
    close(luma(turned), luma(colors()))
    (length, angle), (old_length, old_angle) = chroma(turned), chroma(colors())
    close(length, old_length)
    turns = (angle - old_angle - hue + 0.5) % 1 - 0.5
    close(turns, torch.zeros_like(turns), atol=1e-8)


@pytest.mark.parametrize(("start", "goal"), [((1.0, 0.0, 0.0), 1), ((0.0, 1.0, 0.0), 2), ((0.0, 0.0, 1.0), 0)])
def test_a_third_of_a_turn_takes_red_to_green_green_to_blue_and_blue_to_red(start: tuple[float, ...], goal: int) -> None:
    pixel = torch.tensor(start, dtype=torch.float64).view(1, 3, 1, 1)
    turned = changed(pixel, hue=[1 / 3]).flatten()
    assert int(turned.argmax()) == goal
    # The same way round as HSV counts its hue, by about as much.
    shade = turned - turned.min()
    hue = colorsys.rgb_to_hsv(*(shade / shade.max()).tolist())[0]
    assert abs((hue - goal / 3 + 0.5) % 1 - 0.5) < 0.12


def test_all_four_together_are_one_after_another() -> None:
    one_by_one = changed(colors(), brightness=[0.8, 1.1, 1.2])
    one_by_one = changed(one_by_one, contrast=[1.2, 0.9, 0.8])
    one_by_one = changed(one_by_one, saturation=[0.5, 1.5, 1.0])
    one_by_one = changed(one_by_one, hue=[0.1, -0.2, 0.3])
    together = changed(
        colors(), brightness=[0.8, 1.1, 1.2], contrast=[1.2, 0.9, 0.8], saturation=[0.5, 1.5, 1.0], hue=[0.1, -0.2, 0.3]
    )
    close(together, one_by_one, atol=1e-9)


def test_of_grey_pictures_only_brightness_and_contrast_change() -> None:
    grey = colors()[:, :1]
    mean = grey.mean((2, 3), keepdim=True)
    made = changed(grey, brightness=[0.5, 1.0, 2.0], contrast=[1.0, 0.5, 0.5], saturation=[0.0] * 3, hue=[0.3] * 3)
    factors, stretch = column([0.5, 1.0, 2.0]), column([1.0, 0.5, 0.5])
    close(made, factors * (mean + stretch * (grey - mean)))


def test_grey_in_three_channels_stays_grey_whatever_happens_to_hue_and_saturation() -> None:
    grey = colors()[:, :1].expand(-1, 3, -1, -1)
    close(changed(grey, saturation=[2.0] * 3, hue=[0.4] * 3), grey)


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    """Mean and variance within four standard errors, all inside, nearly all of the range covered."""
    spread, num = high - low, len(values)
    assert low - 1e-5 <= float(values.min()) < low + 0.01 * spread
    assert high - 0.01 * spread < float(values.max()) <= high + 1e-5
    assert abs(float(values.mean()) - (low + high) / 2) < 4 * spread / (12 * num) ** 0.5
    assert abs(float(values.var()) - spread**2 / 12) < 4 * spread**2 / 12 * (0.8 / num) ** 0.5


NOTHING: dict[str, float] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def test_amounts_are_uniform_on_both_sides() -> None:
    pair = torch.tensor([[[[0.25, 0.75]]]], dtype=torch.float64).repeat(1, 3, 1, 1)
    pair[:, 0] += 0.2
    pictures = Batch(pair.expand(2000, 3, 1, 2))

    def made(**amount: float) -> torch.Tensor:
        return ColorJitter(**(NOTHING | amount))(pictures, Rng(4)).inputs  # type: ignore[arg-type]

    assert_uniform(made(brightness=0.3)[:, 0, 0, 1] / 0.95, 0.7, 1.3)
    assert_uniform((made(contrast=0.4)[:, 0, 0, 1] - made(contrast=0.4)[:, 0, 0, 0]) / 0.5, 0.6, 1.4)
    assert_uniform((made(saturation=0.5)[:, 0, 0, 0] - made(saturation=0.5)[:, 1, 0, 0]) / 0.2, 0.5, 1.5)
    angles = chroma(made(hue=0.2))[1][:, 0, 0, 0] - chroma(pair)[1][0, 0, 0, 0]
    assert_uniform((angles + 0.5) % 1 - 0.5, -0.2, 0.2)


def test_amounts_of_one_picture_are_drawn_independently() -> None:
    pictures = Batch(torch.tensor([[[[0.25, 0.75]]]], dtype=torch.float64).expand(4000, 1, 1, 2))
    made = ColorJitter(**(NOTHING | {"brightness": 0.3, "contrast": 0.3}))(pictures, Rng(4)).inputs.squeeze()  # type: ignore[arg-type]
    brightness, contrast = made.sum(1), (made[:, 1] - made[:, 0]) / made.sum(1)
    correlation = float(torch.corrcoef(torch.stack([brightness, contrast]))[0, 1])
    assert abs(correlation) < 4 / 4000**0.5


def test_whether_a_picture_is_changed_says_nothing_about_its_amounts() -> None:
    pictures = Batch(torch.tensor([0.8, 0.2, 0.2], dtype=torch.float64).view(1, 3, 1, 1).expand(3000, 3, 1, 1))
    made = ColorJitter(**(NOTHING | {"hue": 0.2, "probability": 0.5}))(pictures, Rng(4)).inputs  # type: ignore[arg-type]
    angles = (chroma(made)[1] - chroma(pictures.inputs)[1]).flatten()
    turned = angles[angles.abs() > 1e-9]
    assert abs(float((turned > 0).double().mean()) - 0.5) < 4 * 0.5 / len(turned) ** 0.5


@pytest.mark.parametrize("field", list(NOTHING))
def test_it_does_nothing_only_where_every_amount_is_nothing(field: str) -> None:
    batch = Batch(torch.rand(4, 3, 6, 6))
    assert ColorJitter(**NOTHING)(batch, Rng(0)) is batch  # type: ignore[arg-type]
    assert not torch.equal(ColorJitter(**(NOTHING | {field: 0.1}))(batch, Rng(0)).inputs, batch.inputs)  # type: ignore[arg-type]


def test_standardised_pictures_are_changed_as_plain_ones_and_standardised_again() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    centre, scale = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    plain = ColorJitter()(Batch(colors(8)), Rng(1)).inputs
    standardised = ColorJitter(mean=mean, std=std)(Batch((colors(8) - centre) / scale), Rng(1)).inputs
    close(standardised, (plain - centre) / scale, atol=1e-9)


def test_limits_cut_the_plain_picture_off() -> None:
    free = ColorJitter(brightness=1.0)(Batch(colors(8)), Rng(1)).inputs
    assert float(free.max()) > 1
    close(ColorJitter(brightness=1.0, limits=(0.1, 0.8))(Batch(colors(8)), Rng(1)).inputs, free.clamp(0.1, 0.8))
    inside = ColorJitter(brightness=1.0, limits=(0.1, 0.8), mean=(0.5,) * 3, std=(0.1,) * 3)
    close(inside(Batch((colors(8) - 0.5) / 0.1), Rng(1)).inputs, (free.clamp(0.1, 0.8) - 0.5) / 0.1, atol=1e-5)


def test_so_many_of_the_pictures_are_changed_and_the_others_keep_their_bits_and_targets_stay() -> None:
    masks = torch.zeros(2000, 2, 2, dtype=torch.int64)
    batch = Batch(torch.rand(2000, 3, 2, 2), masks)
    made = ColorJitter(probability=0.3)(batch, Rng(0))
    kept = (made.inputs == batch.inputs).flatten(1).all(1)
    # Binomial(2000, 0.7): 1400 with a standard deviation of 20.5; four of them.
    assert abs(int(kept.sum()) - 1400) < 82
    assert made.targets is not None
    assert torch.equal(made.targets, masks)


def test_channels_that_are_no_colours_are_refused() -> None:
    with pytest.raises(DataError, match=r"^color_jitter got images of 4 channels"):
        ColorJitter()(Batch(torch.rand(2, 4, 3, 3)), Rng(0))
    with pytest.raises(DataError, match=r"^color_jitter\.mean has 1 numbers, but images have 3 channels"):
        ColorJitter(mean=(0.5,), std=(0.5,))(Batch(torch.rand(2, 3, 3, 3)), Rng(0))


def test_settings_out_of_range_are_refused() -> None:
    usual = ColorJitter()
    assert (usual.brightness, usual.contrast, usual.saturation, usual.hue) == (0.2, 0.2, 0.2, 0.1)
    assert (usual.mean, usual.std, usual.limits, usual.probability) == (None, None, None, 1.0)
    ColorJitter(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5, probability=0.0)
    bad: list[tuple[str, dict[str, object]]] = [
        ("brightness", {"brightness": 1.1}),
        ("brightness", {"brightness": -0.1}),
        ("contrast", {"contrast": 1.1}),
        ("saturation", {"saturation": -0.1}),
        ("hue", {"hue": 0.6}),
        ("hue", {"hue": -0.1}),
        ("mean", {"mean": (0.5,)}),
        ("mean", {"std": (0.5,)}),
        ("mean", {"mean": (0.5, 0.5), "std": (0.5, 0.5)}),
        ("mean", {"mean": (math.nan,), "std": (0.5,)}),
        ("std", {"mean": (0.5,), "std": (0.0,)}),
        ("std", {"mean": (0.5,), "std": (0.5,) * 3}),
        ("limits", {"limits": (1.0, 0.0)}),
        ("limits", {"limits": (1.0,)}),
        ("probability", {"probability": 1.1}),
    ]
    for name, settings in bad:
        with pytest.raises(JobError, match=rf"^color_jitter\.{name} is"):
            ColorJitter(**settings)  # type: ignore[arg-type]
