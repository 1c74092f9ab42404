"""Affine transformations: against matrices composed by numpy and read by Pillow, and the amounts that are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import Affine, rotate_pictures, transform_pictures


def moved(picture: torch.Tensor, **amounts: float) -> torch.Tensor:
    usual = {"degrees": 0.0, "right": 0.0, "down": 0.0, "scale": 1.0, "shear": 0.0} | amounts
    return transform_pictures(picture, **{name: torch.tensor([value]) for name, value in usual.items()})  # type: ignore[arg-type]


def pixel(row: int, column: int) -> torch.Tensor:
    """A black picture of 9 x 11 with one white pixel."""
    picture = torch.zeros(1, 1, 9, 11)
    picture[0, 0, row, column] = 1.0
    return picture


@pytest.mark.parametrize(
    ("amounts", "row", "column"),
    [
        ({"right": 2.0}, 4, 8),
        ({"right": -2.0}, 4, 4),
        ({"down": 3.0}, 7, 6),
        ({"down": -3.0}, 1, 6),
        ({"degrees": 90.0}, 3, 5),  # one to the right of the centre -> one above it
        ({"degrees": -90.0}, 5, 5),
        ({"degrees": 90.0, "right": 2.0}, 3, 7),  # turned first, then moved
        ({"degrees": 180.0, "down": 1.0}, 5, 4),
    ],
)
def test_a_white_pixel_beside_the_centre_goes_where_the_mathematics_says(
    amounts: dict[str, float], row: int, column: int
) -> None:
    torch.testing.assert_close(moved(pixel(4, 6), **amounts), pixel(row, column), rtol=0, atol=1e-5)


def test_scale_moves_pixels_away_from_the_centre_and_shear_leans_the_upper_ends_to_the_right() -> None:
    assert float(moved(pixel(4, 7), scale=2.0)[0, 0, 4, 9]) == pytest.approx(1.0, abs=1e-5)
    assert float(moved(pixel(2, 5), scale=2.0)[0, 0, 0, 5]) == pytest.approx(1.0, abs=1e-5)
    assert float(moved(pixel(2, 5), shear=45.0)[0, 0, 2, 7]) == pytest.approx(1.0, abs=1e-5)
    assert float(moved(pixel(6, 5), shear=45.0)[0, 0, 6, 3]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("size", [(24, 24), (20, 28)])
def test_all_amounts_together_are_the_composed_matrix_read_by_pillow(size: tuple[int, int]) -> None:
    height, width = size
    degrees, right, down, scale, shear = 25.0, 1.5, -2.25, 1.2, -10.0
    angle, lean = math.radians(degrees), math.tan(math.radians(shear))
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    sheared = np.array([[1, -lean, 0], [0, 1, 0], [0, 0, 1.0]])
    grown = np.diag([scale, scale, 1.0])
    # Counterclockwise as seen, with y pointing down.
    turned = np.array([[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    shifted = np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]])
    backwards = np.linalg.inv(np.linalg.inv(centre) @ shifted @ turned @ grown @ sheared @ centre)
    picture = torch.rand(size, generator=torch.Generator().manual_seed(0))
    bilinear = Image.Resampling.BILINEAR
    read = Image.fromarray(picture.numpy()).transform((width, height), Image.Transform.AFFINE, backwards[:2].ravel(), bilinear)
    theirs = torch.from_numpy(np.array(read))
    ours = moved(picture[None, None], degrees=degrees, right=right, down=down, scale=scale, shear=shear)[0, 0]
    inside = slice(height // 2 - 4, height // 2 + 4), slice(width // 2 - 4, width // 2 + 4)
    torch.testing.assert_close(ours[inside], theirs[inside], rtol=0, atol=1e-4)


def test_an_angle_alone_is_a_rotation() -> None:
    pictures, degrees = torch.rand(3, 2, 6, 9), torch.tensor([10.0, -70.0, 200.0])
    none, one = torch.zeros(3), torch.ones(3)
    made = transform_pictures(pictures, degrees=degrees, right=none, down=none, scale=one, shear=none, fill="border")
    torch.testing.assert_close(made, rotate_pictures(pictures, degrees, fill="border"), rtol=0, atol=1e-6)


def ramps(technique: Affine, num: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that hold their own columns and rows, counted from the centre, after the technique: (num, 21, 21) each."""
    places = torch.arange(21.0, dtype=torch.float64) - 10
    both = torch.stack([places.expand(21, 21), places[:, None].expand(21, 21)]).expand(num, 2, 21, 21)
    made = technique(Batch(both), Rng(6)).inputs
    return made[:, 0], made[:, 1]


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    """Mean and variance within four standard errors, all values inside, and nearly all of the range covered."""
    spread, num = high - low, len(values)
    assert low - 1e-6 <= float(values.min()) < low + 0.01 * spread
    assert high - 0.01 * spread < float(values.max()) <= high + 1e-6
    assert abs(float(values.mean()) - (low + high) / 2) < 4 * spread / (12 * num) ** 0.5
    assert abs(float(values.var()) - spread**2 / 12) < 4 * spread**2 / 12 * (0.8 / num) ** 0.5


def test_shifts_are_uniform_shares_of_width_and_height() -> None:
    columns, rows = ramps(Affine(translate=(0.2, 0.1)))
    assert_uniform(-columns[:, 10, 10], -4.2, 4.2)
    assert_uniform(-rows[:, 10, 10], -2.1, 2.1)


def test_factors_angles_and_leans_are_uniform_in_their_ranges() -> None:
    columns, _ = ramps(Affine(translate=(0.0, 0.0), scale=(0.8, 1.3)))
    assert_uniform(1 / ((columns[:, 10, 12] - columns[:, 10, 8]) / 4), 0.8, 1.3)
    columns, rows = ramps(Affine(translate=(0.0, 0.0), degrees=40.0))
    assert_uniform(torch.rad2deg(torch.atan2(rows[:, 10, 12], columns[:, 10, 12])), -40.0, 40.0)
    columns, _ = ramps(Affine(translate=(0.0, 0.0), shear=20.0))
    assert_uniform(torch.rad2deg(torch.atan((columns[:, 12, 10] - columns[:, 8, 10]) / 4)), -20.0, 20.0)


def test_so_many_of_the_pictures_are_moved_and_the_others_keep_their_bits() -> None:
    pictures = torch.rand(2000, 1, 5, 5)
    made = Affine(degrees=30.0, probability=0.3)(Batch(pictures), Rng(0)).inputs
    kept = (made == pictures).flatten(1).all(1)
    # Binomial(2000, 0.7): 1400 with a standard deviation of 20.5; four of them.
    assert abs(int(kept.sum()) - 1400) < 82


def test_a_mask_moves_with_its_picture() -> None:
    mask = torch.ones(8, 10, 10, dtype=torch.int64)
    technique = Affine(translate=(0.5, 0.5), fill="zeros", mask_fill=7)
    made = technique(Batch(mask[:, None].float(), mask), Rng(1))
    outside, inside = made.inputs[:, 0] == 0, made.inputs[:, 0] > 0.999
    assert outside.any()
    assert inside.any()
    assert set(made.targets[outside].tolist()) == {7}
    assert set(made.targets[inside].tolist()) == {1}
    border = Affine(translate=(0.5, 0.5), fill="border", mask_fill=7)(Batch(mask[:, None].float(), mask), Rng(1))
    assert set(border.targets.unique().tolist()) == {1}


def test_a_mask_is_filled_with_class_0_unless_told_otherwise() -> None:
    assert set(moved(torch.ones(1, 1, 4, 4, dtype=torch.int64), right=2.0).unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    "changed", [{"degrees": 1.0}, {"translate": (0.1, 0.0)}, {"translate": (0.0, 0.1)}, {"scale": (1.0, 1.1)}, {"shear": 1.0}]
)
def test_it_does_nothing_only_where_every_amount_is_nothing(changed: dict[str, object]) -> None:
    batch = Batch(torch.rand(4, 1, 6, 6))
    nothing: dict[str, object] = {"degrees": 0.0, "translate": (0.0, 0.0), "scale": (1.0, 1.0), "shear": 0.0}
    assert Affine(**nothing)(batch, Rng(0)) is batch  # type: ignore[arg-type]
    assert not torch.equal(Affine(**(nothing | changed))(batch, Rng(0)).inputs, batch.inputs)  # type: ignore[arg-type]


def test_settings_out_of_range_are_refused() -> None:
    usual = Affine()
    assert (usual.degrees, usual.translate, usual.scale, usual.shear) == (0.0, (0.1, 0.1), (1.0, 1.0), 0.0)
    assert (usual.fill, usual.mask_fill, usual.probability) == ("zeros", 0, 1.0)
    Affine(degrees=180.0, translate=(1.0, 0.0), scale=(0.1, 10.0), shear=60.0, probability=0.0)
    bad: list[tuple[str, object]] = [
        ("degrees", 181.0),
        ("degrees", -1.0),
        ("translate", (1.1, 0.0)),
        ("translate", (0.0, -0.1)),
        ("translate", (0.1,)),
        ("scale", (0.05, 1.0)),
        ("scale", (1.0, 10.5)),
        ("shear", 61.0),
        ("shear", -1.0),
        ("fill", "wrap"),
        ("probability", 1.1),
        ("probability", -0.1),
    ]
    for name, value in bad:
        with pytest.raises(JobError, match=rf"^affine\.{name} is"):
            Affine(**{name: value})  # type: ignore[arg-type]
