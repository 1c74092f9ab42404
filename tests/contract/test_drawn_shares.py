"""Which images of a batch a technique changes: those whose own draw lies below the probability."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.catalog import lookup
from stepwell.core.randomness import Rng

# id -> draws per image, of which the last decides, and settings that leave hardly an image as it was by chance.
DRAWS: dict[str, tuple[int, dict[str, Any]]] = {
    "affine": (6, {"degrees": 20.0}),
    "color_jitter": (5, {}),
    "erasing": (5, {}),
    "flip": (1, {}),
    "random_crop": (3, {}),
    "resized_crop": (5, {}),
    "rotation": (2, {}),
}


@pytest.mark.parametrize("id", DRAWS)
def test_an_image_is_changed_where_the_last_of_its_draws_lies_below_the_probability(id: str) -> None:
    num, settings = DRAWS[id]
    draws = Rng(3).uniform(0, 64, num)[:, -1]
    probability = float(draws[(draws - 0.5).abs().argmin()])  # one draw is the probability itself, and not below it
    pictures = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = lookup(id).factory(probability=probability, **settings)(Batch(pictures), Rng(3)).inputs
    changed, below = (made != pictures).flatten(1).any(1), draws < probability
    assert not changed[~below].any()
    assert int((~changed[below]).sum()) <= 2  # a window of a crop can lie where it was
