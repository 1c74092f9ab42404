"""The picture of activations through depth shows every network, overflow included, and says it in words."""

from __future__ import annotations

import math
import struct

import pytest

from stepwell.core.modules.activation_variance import ActivationMoments, predicted_moments
from stepwell.report.activation_variance import depth_experiment, depth_picture
from stepwell.report.curves import DARK, LIGHT, png


def size(content: bytes) -> tuple[int, int]:
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_the_experiment_says_what_became_of_each_network() -> None:
    picture = depth_experiment(depth=3, width=16, num_samples=20)
    assert picture.name == "activation_variance"
    assert picture.title == "Activation variance, 16 rectifiers a layer"
    for name in ("too small", "torch's default", "Xavier", "He", "too large"):
        assert f"{name}: variance " in picture.description
    assert "after 3 layers" in picture.description
    assert picture.note == ""
    assert size(png(picture))[0] == 1360


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_lines_with_and_without_a_prediction_can_be_drawn(theme) -> None:
    rows = {str(std): predicted_moments(depth=3, width=8, std=std) for std in (1e-9, 0.1, 0.3, 1, 3, 10, 1e9)}
    picture = depth_picture(rows, {"0.1": rows["0.1"]}, title="Seven")
    assert picture.title == "Seven"
    assert size(png(picture, theme))[0] == 1360


def test_a_network_that_overflowed_is_named_and_drawn_as_far_as_it_goes() -> None:
    rows = [ActivationMoments("inputs", 0.0, 1.0), ActivationMoments("1", 0.0, math.inf)]
    picture = depth_picture({"wild": rows, "tame": rows[:1]})
    assert picture.note == "Where a line ends, the numbers overflowed: wild."
    assert size(png(picture))[0] == 1360


def test_a_network_that_died_is_drawn_without_a_logarithm_of_zero() -> None:
    rows = [ActivationMoments("inputs", 0.0, 1.0), ActivationMoments("1", 0.0, 0.0)]
    assert size(png(depth_picture({"dead": rows})))[0] == 1360
