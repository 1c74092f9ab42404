"""Flips: exact, with their masks, in so many of the pictures."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import Flip, flip_pictures

PICTURE = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])


def test_horizontal_mirrors_left_to_right_and_vertical_upside_down() -> None:
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert flip_pictures(PICTURE, yes, "horizontal")[0, 0].tolist() == [[3, 2, 1], [6, 5, 4]]
    assert flip_pictures(PICTURE, yes, "vertical")[0, 0].tolist() == [[4, 5, 6], [1, 2, 3]]
    assert flip_pictures(PICTURE, no, "vertical")[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_so_many_of_the_pictures_are_mirrored_with_their_masks(axis: str) -> None:
    batch = Batch(PICTURE.expand(4000, 3, 2, 3), PICTURE[:, 0].long().expand(4000, 2, 3))
    made = Flip(probability=0.3, axis=axis)(batch, Rng(1))  # type: ignore[arg-type]
    mirrored = made.inputs[:, 0, 0, 0] != 1
    # Binomial(4000, 0.3): 1200 with a standard deviation of 29; four of them.
    assert abs(int(mirrored.sum()) - 1200) < 116
    flipped = PICTURE[0, 0].flip(1 if axis == "horizontal" else 0)
    assert torch.equal(made.inputs[mirrored], flipped.expand(int(mirrored.sum()), 3, 2, 3))
    assert torch.equal(made.targets, made.inputs[:, 0].long())


def test_settings_out_of_range_are_refused() -> None:
    assert (Flip().probability, Flip().axis) == (0.5, "horizontal")
    Flip(probability=1.0)
    for probability in (-0.1, 1.1):
        with pytest.raises(JobError, match=r"^flip\.probability"):
            Flip(probability=probability)
    with pytest.raises(JobError, match=r"^flip\.axis"):
        Flip(axis="diagonal")  # type: ignore[arg-type]
