"""The segmenter: a score for every pixel, for images of any size."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.errors import JobError
from stepwell.core.signature import Signature
from stepwell.models.segmenter import segmenter


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 5), (3, 30), (1, 1)])
@pytest.mark.parametrize("classes", [1, 4])
def test_every_pixel_of_an_image_of_any_size_gets_its_scores(height: int, width: int, classes: int) -> None:
    net = segmenter(Signature("mask", (2, height, width), classes), channels=[4, 6, 8]).eval()
    assert net(torch.zeros(3, 2, height, width)).shape == (3, classes, height, width)


def test_it_has_the_parameters_of_its_layers() -> None:
    net = segmenter(Signature("mask", (3, 8, 8), 2), channels=[4, 8])
    down = 9 * (3 * 4 + 4 * 4 + 4 * 8 + 8 * 8) + 2 * (4 + 4 + 8 + 8)
    up = 9 * ((8 + 4) * 4 + 4 * 4) + 2 * (4 + 4)
    assert sum(p.numel() for p in net.parameters()) == down + up + (4 * 2 + 2)


def test_a_pixel_is_answered_from_its_surroundings_and_not_from_the_whole_image() -> None:
    torch.manual_seed(0)
    net = segmenter(Signature("mask", (1, 64, 64), 1), channels=[4, 4, 4], activation="gelu").eval()
    image = torch.randn(1, 1, 64, 64, requires_grad=True)
    [gradient] = torch.autograd.grad(net(image)[0, 0, 32, 32], image)
    seen = gradient[0, 0] != 0
    assert seen[32, 32]
    # Two 3 x 3 convolutions on a quarter of the size alone reach 8 pixels each way; the wide stages alone 4.
    assert seen[32, 24:41].all()
    assert not seen[0].any()


def test_dropout_is_on_the_lowest_stage_only_while_training() -> None:
    net = segmenter(Signature("mask", (1, 8, 8), 1), channels=[2, 2], dropout=0.9)
    image = torch.randn(1, 1, 8, 8)
    assert not torch.equal(net(image), net(image))
    net.eval()
    assert torch.equal(net(image), net(image))


@pytest.mark.parametrize("settings", [{"channels": [0]}, {"dropout": 1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(JobError, match=r"model\.(channels|dropout) is"):
        segmenter(Signature("mask", (1, 8, 8), 1), **settings)  # type: ignore[arg-type]
