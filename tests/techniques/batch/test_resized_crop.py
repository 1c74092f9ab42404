"""Resized crops: against torch's own resizing, and the parts that are drawn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Boxes
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import ResizedCrop, resize_boxes


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    """(top, left, height, width) of each."""
    return Boxes(*torch.tensor(rows, dtype=torch.float64).unbind(1))


def test_a_part_is_enlarged_as_torch_enlarges_it_away_from_the_cut() -> None:
    pictures = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = resize_boxes(pictures, boxes((3, 4, 6, 8), (6, 0, 6, 4)))
    first = F.interpolate(pictures[:1, :, 3:9, 4:12], (12, 16), mode="bilinear", align_corners=False)
    second = F.interpolate(pictures[1:, :, 6:12, 0:4], (12, 16), mode="bilinear", align_corners=False)
    # At a cut inside the picture torch knows nothing beyond it; the last half pixel of the part is left out here.
    torch.testing.assert_close(made[:1, :, 1:-1, 1:-1], first[:, :, 1:-1, 1:-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(made[1:, :, 1:, :-2], second[:, :, 1:, :-2], rtol=0, atol=1e-12)


def test_the_whole_picture_stays_as_it_is() -> None:
    pictures = torch.rand(1, 2, 5, 7)
    torch.testing.assert_close(resize_boxes(pictures, boxes((0, 0, 5, 7))), pictures, rtol=0, atol=1e-5)


def test_a_mask_is_enlarged_by_the_nearest_pixel() -> None:
    mask = torch.tensor([[[[1, 2, 3, 4]]]])
    assert resize_boxes(mask, boxes((0, 2, 1, 2))).flatten().tolist() == [3, 3, 4, 4]


def parts(technique: ResizedCrop, num: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    """Top, left, height and width of each part, read off pictures that hold their own rows and columns."""
    rows = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None].expand(height, width)
    columns = (torch.arange(width, dtype=torch.float64) + 0.5).expand(height, width)
    made = technique(Batch(torch.stack([rows, columns]).expand(num, 2, height, width)), Rng(8)).inputs
    row, column = made[:, 0, :, 0], made[:, 1, 0, :]
    middle = height // 2, width // 2
    sizes = (row[:, middle[0]] - row[:, middle[0] - 1]) * height, (column[:, middle[1]] - column[:, middle[1] - 1]) * width
    return (
        row[:, middle[0]] - (middle[0] + 0.5) / height * sizes[0],
        column[:, middle[1]] - (middle[1] + 0.5) / width * sizes[1],
        *sizes,
    )


def test_parts_have_the_area_the_proportions_and_the_places_that_were_asked_for() -> None:
    top, left, height, width = parts(ResizedCrop(scale=(0.2, 0.6), ratio=(0.5, 2.0)), 3000, 32, 32)
    share = height * width / 32**2
    # Uniform on [0.2, 0.6]; four standard errors of 3,000 draws.
    assert abs(float(share.mean()) - 0.4) < 4 * 0.4 / (12 * 3000) ** 0.5
    assert 0.2 - 1e-6 <= float(share.min()) < 0.201
    assert 0.599 < float(share.max()) <= 0.6 + 1e-6
    small = share < 0.5  # every ratio from 1/2 to 2 fits
    logs = torch.log2(width / height)[small]
    assert abs(float(logs.mean())) < 4 * (4 / 12 / len(logs)) ** 0.5
    assert abs(float(logs.var()) - 4 / 12) < 4 * 4 / 12 * (0.8 / len(logs)) ** 0.5
    for start, side in ((top, height), (left, width)):
        free = (start / (32 - side))[side < 31.5]
        assert -1e-6 <= float(free.min()) < 0.01
        assert 0.99 < float(free.max()) <= 1 + 1e-6
        assert abs(float(free.mean()) - 0.5) < 4 / (12 * len(free)) ** 0.5


def test_so_many_of_the_pictures_are_cropped_and_the_others_keep_their_bits_and_masks() -> None:
    mask = torch.randint(0, 9, (1500, 6, 6), generator=torch.Generator().manual_seed(0))
    batch = Batch(mask[:, None].float(), mask)
    made = ResizedCrop(scale=(0.3, 0.3), probability=0.4)(batch, Rng(0))
    kept = (made.inputs == batch.inputs).flatten(1).all(1)
    # Binomial(1500, 0.6): 900 with a standard deviation of 19; four of them.
    assert abs(int(kept.sum()) - 900) < 76
    assert torch.equal((made.targets == mask).flatten(1).all(1), kept)


def test_settings_out_of_range_are_refused() -> None:
    usual = ResizedCrop()
    assert (usual.scale, usual.ratio, usual.probability) == ((0.8, 1.0), (0.75, 4 / 3), 1.0)
    ResizedCrop(scale=(0.01, 1.0), ratio=(0.1, 10.0), probability=0.0)
    bad: list[tuple[str, object]] = [
        ("scale", (0.005, 1.0)),
        ("scale", (0.5, 1.1)),
        ("ratio", (0.05, 1.0)),
        ("ratio", (1.0, 11.0)),
        ("probability", -0.1),
        ("probability", 1.1),
    ]
    for name, value in bad:
        with pytest.raises(JobError, match=rf"^resized_crop\.{name} is"):
            ResizedCrop(**{name: value})  # type: ignore[arg-type]
