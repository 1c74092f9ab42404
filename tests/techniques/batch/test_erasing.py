"""Erasing: whole pixels inside the box and nothing outside it, with the fill that was asked for."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.batches.images import Boxes
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import Erasing, erase_boxes


def test_a_box_holds_its_rows_and_columns_and_nothing_else() -> None:
    boxes = Boxes(*torch.tensor([[1, 0], [0, 2], [2, 1], [3, 1]]))
    erased = erase_boxes(torch.ones(2, 1, 4, 4), boxes, torch.tensor(5.0))
    assert erased[0, 0].tolist() == [[1, 1, 1, 1], [5, 5, 5, 1], [5, 5, 5, 1], [1, 1, 1, 1]]
    assert erased[1, 0].tolist() == [[1, 1, 5, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


def holes(technique: Erasing, num: int = 3000, height: int = 40, width: int = 50) -> torch.Tensor:
    """Where each of many white pictures is black, (num, height, width)."""
    return technique(Batch(torch.ones(num, 1, height, width)), Rng(7)).inputs[:, 0] == 0


def test_holes_are_rectangles_of_the_area_and_proportions_that_were_asked_for() -> None:
    black = holes(Erasing(probability=1.0, area=(0.1, 0.2), ratio=(0.5, 2.0)))
    rows, columns = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(rows * columns, black.sum((1, 2)))
    share = black.double().mean((1, 2))
    # Uniform on [0.1, 0.2]; rounding both sides to whole pixels moves single areas, not their mean by more than 0.001.
    assert abs(float(share.mean()) - 0.15) < 4 * 0.1 / (12 * 3000) ** 0.5 + 0.001
    assert 0.09 < float(share.min()) < 0.105
    assert 0.195 < float(share.max()) < 0.212
    logs = torch.log2(columns / rows)
    assert abs(float(logs.mean())) < 4 * (4 / 12 / 3000) ** 0.5 + 0.01
    assert float(logs.max()) > 0.9
    assert float(logs.min()) < -0.9


def test_holes_reach_every_edge() -> None:
    black = holes(Erasing(probability=1.0, area=(0.05, 0.05), ratio=(1.0, 1.0)), 1000, 16, 16)
    assert all(bool(edge.any()) for edge in (black[:, 0], black[:, -1], black[:, :, 0], black[:, :, -1]))


def test_so_many_of_the_pictures_are_erased_and_the_others_keep_their_bits() -> None:
    black = holes(Erasing(probability=0.3), 3000, 8, 8).flatten(1).any(1)
    # Binomial(3000, 0.3): 900 with a standard deviation of 25; four of them.
    assert abs(int(black.sum()) - 900) < 100


def erased(fill: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pictures = torch.rand(64, 2, 12, 12, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0])[:, None, None]
    made = Erasing(probability=1.0, area=(0.3, 0.3), fill=fill)(Batch(pictures), Rng(0)).inputs  # type: ignore[arg-type]
    return pictures, made, made != pictures


def test_the_mean_is_that_of_each_picture_s_own_channel() -> None:
    pictures, made, hole = erased("mean")
    means = pictures.mean((2, 3), keepdim=True).expand_as(made)
    torch.testing.assert_close(made[hole], means[hole], rtol=1e-6, atol=0)


def test_noise_lies_between_the_least_and_largest_value_and_differs_everywhere() -> None:
    pictures, made, hole = erased("noise")
    least, largest = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
    assert bool((made >= least).all())
    assert bool((made <= largest).all())
    share = ((made - least) / (largest - least))[hole]
    # Uniform on [0, 1]; four standard errors. Draws repeat about as seldom as 24 bits let them.
    assert abs(float(share.mean()) - 0.5) < 4 / (12 * len(share)) ** 0.5
    assert abs(float(share.var()) - 1 / 12) < 4 / 12 * (0.8 / len(share)) ** 0.5
    assert share.unique().numel() > 0.99 * len(share)


def test_a_single_picture_is_filled_with_noise_too() -> None:
    made = Erasing(probability=1.0, area=(0.25, 0.25), fill="noise")(Batch(torch.eye(8)[None, None]), Rng(0)).inputs
    assert int(((made > 0) & (made < 1)).sum()) >= 12


def test_masks_stay_as_they_are() -> None:
    masks = torch.ones(4, 8, 8, dtype=torch.int64)
    made = Erasing(probability=1.0)(Batch(torch.ones(4, 1, 8, 8), masks), Rng(0))
    assert made.targets is masks or torch.equal(made.targets, masks)
    assert float(made.inputs.min()) == 0


def test_settings_out_of_range_are_refused() -> None:
    usual = Erasing()
    assert (usual.probability, usual.area, usual.fill) == (0.2, (0.02, 0.4), "zeros")
    assert usual.ratio == (0.3, pytest.approx(10 / 3))
    Erasing(probability=1.0, area=(0.0, 1.0), ratio=(0.01, 100.0))
    bad: list[tuple[str, object]] = [
        ("probability", 1.1),
        ("probability", -0.1),
        ("area", (0.0, 1.1)),
        ("area", (-0.1, 0.5)),
        ("ratio", (0.001, 1.0)),
        ("ratio", (1.0, 101.0)),
        ("fill", "white"),
    ]
    for name, value in bad:
        with pytest.raises(JobError, match=rf"^erasing\.{name} is"):
            Erasing(**{name: value})  # type: ignore[arg-type]
