"""Rotations against quarter turns, against Pillow, and the angles that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import Rotation, rotate_pictures


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_quarter_turns_are_torch_s(quarters: int, dtype: torch.dtype) -> None:
    pictures = (torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    turned = rotate_pictures(pictures, torch.full((2,), 90.0 * quarters))
    assert turned.dtype == dtype
    torch.testing.assert_close(turned, torch.rot90(pictures, quarters, (2, 3)), rtol=0, atol=1e-4 * (dtype != torch.int64))


def test_half_turns_of_pictures_that_are_no_squares_keep_every_pixel() -> None:
    pictures = torch.rand(1, 2, 4, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotate_pictures(pictures, torch.tensor([180.0])), pictures.flip(2, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [15.0, -37.0, 120.0])
@pytest.mark.parametrize("size", [(20, 20), (16, 24)])
def test_any_angle_is_pillow_s_away_from_the_edge(degrees: float, size: tuple[int, int]) -> None:
    picture = torch.rand(size, generator=torch.Generator().manual_seed(1))
    turned = rotate_pictures(picture[None, None], torch.tensor([degrees]))[0, 0]
    theirs = torch.from_numpy(np.array(Image.fromarray(picture.numpy()).rotate(degrees, Image.Resampling.BILINEAR)))
    # Inside the circle that stays in the picture both mix the same four pixels; Pillow places them to 1/65,536.
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    inside = (rows**2 + columns**2).sqrt() < min(size) / 2 - 1.5
    torch.testing.assert_close(turned[inside], theirs[inside], rtol=0, atol=1e-4)


def angles(technique: Rotation, num: int) -> torch.Tensor:
    """By how much each picture was turned, in degrees, read off a ramp that rises to the right."""
    ramp = (torch.arange(9.0) - 4).expand(num, 1, 9, 9)
    turned = technique(Batch(ramp), Rng(2)).inputs[:, 0]
    # Turned counterclockwise, the ramp rises to the right by the cosine and upwards by the sine.
    right, up = turned[:, 4, 5] - turned[:, 4, 3], turned[:, 3, 4] - turned[:, 5, 4]
    return torch.rad2deg(torch.atan2(up, right))


def test_angles_are_uniform_up_to_the_largest_in_both_directions() -> None:
    found = angles(Rotation(degrees=30.0), 3000)
    assert float(found.abs().max()) <= 30.001
    assert float(found.max()) > 29
    assert float(found.min()) < -29
    # Uniform on [-30, 30]: variance 300; mean and variance within four standard errors.
    assert abs(float(found.mean())) < 4 * (300 / 3000) ** 0.5
    assert abs(float(found.var()) - 300) < 4 * 300 * (0.8 / 3000) ** 0.5


def test_so_many_of_the_pictures_are_turned_and_the_others_keep_their_bits() -> None:
    pictures = torch.rand(2000, 1, 5, 5)
    turned = Rotation(degrees=90.0, probability=0.4)(Batch(pictures), Rng(0)).inputs
    kept = (turned == pictures).flatten(1).all(1)
    # Binomial(2000, 0.6): 1200 with a standard deviation of 21.9; four of them.
    assert abs(int(kept.sum()) - 1200) < 88


def test_whether_a_picture_is_turned_says_nothing_about_its_angle() -> None:
    found = angles(Rotation(degrees=30.0, probability=0.5), 2000)
    turned = found[found != 0]
    assert float(turned.min()) < -29
    assert float(turned.max()) > 29


def test_no_angle_leaves_the_batch_alone_and_a_small_one_does_not() -> None:
    batch = Batch(torch.rand(4, 1, 6, 6))
    assert Rotation(degrees=0.0)(batch, Rng(0)) is batch
    assert not torch.equal(Rotation(degrees=1.0)(batch, Rng(0)).inputs, batch.inputs)


def test_a_mask_is_filled_with_class_0_unless_told_otherwise() -> None:
    ones = torch.ones(1, 1, 8, 8, dtype=torch.int64)
    assert set(rotate_pictures(ones, torch.tensor([45.0])).unique().tolist()) == {0, 1}


def test_a_mask_turns_with_its_picture_and_is_filled_with_its_own_number() -> None:
    mask = torch.zeros(16, 12, 12, dtype=torch.int64)
    mask[:, :, :6] = 3
    batch = Batch(mask[:, None].double() + 1, mask)
    made = Rotation(degrees=180.0, mask_fill=-100)(batch, Rng(0))
    assert set(made.targets.unique().tolist()) == {-100, 0, 3}
    # Wherever no other class is near, the picture says what the mask says: 0 outside, else the class plus one.
    outside, low, high = made.inputs[:, 0] == 0, made.inputs[:, 0] == 1, (made.inputs[:, 0] - 4).abs() < 1e-9
    assert torch.equal(made.targets[outside], torch.full_like(made.targets[outside], -100))
    assert set(made.targets[low].tolist()) == {0}
    assert set(made.targets[high].tolist()) == {3}


def test_what_comes_in_at_the_corners_can_be_chosen() -> None:
    ones = Batch(torch.ones(4, 1, 8, 8))
    assert float(Rotation(degrees=45.0, fill="border")(ones, Rng(0)).inputs.min()) > 0.999
    assert float(Rotation(degrees=45.0, fill="reflection")(ones, Rng(0)).inputs.min()) > 0.999
    assert float(Rotation(degrees=45.0)(ones, Rng(0)).inputs.min()) == 0


def test_settings_out_of_range_are_refused() -> None:
    assert (Rotation().degrees, Rotation().fill, Rotation().mask_fill, Rotation().probability) == (15.0, "zeros", 0, 1.0)
    Rotation(degrees=180.0, probability=0.0)
    Rotation(degrees=0.5)
    for degrees in (-1.0, 180.5):
        with pytest.raises(JobError, match=r"^rotation\.degrees"):
            Rotation(degrees=degrees)
    with pytest.raises(JobError, match=r"^rotation\.fill"):
        Rotation(fill="wrap")  # type: ignore[arg-type]
    for probability in (-0.1, 1.1):
        with pytest.raises(JobError, match=r"^rotation\.probability"):
            Rotation(probability=probability)
