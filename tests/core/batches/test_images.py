"""Pictures in a batch: what counts as one, what lies on them, where a warp reads, and the boxes that are drawn."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from stepwell.core.batch import Batch
from stepwell.core.batches.images import (
    Pictures,
    changed_where,
    draw_boxes,
    move_pictures,
    pictures_of,
    require_fill,
    require_range,
    unit_range,
    warp,
)
from stepwell.core.errors import DataError, JobError
from stepwell.core.randomness import Rng

HOST = torch.device("cpu")


def test_floating_tensors_of_four_dimensions_are_pictures_and_nothing_else_is() -> None:
    picture = torch.zeros(2, 3, 4, 5)
    size = pictures_of(Batch({"age": torch.zeros(2), "scan": picture, "codes": torch.zeros(2, 1, 9, 9, dtype=torch.int64)}), "x")
    assert size == Pictures(2, 4, 5, HOST)


@pytest.mark.parametrize("inputs", [torch.zeros(2, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8), {}])
def test_inputs_without_pictures_are_refused_with_the_remedy(inputs: object) -> None:
    with pytest.raises(DataError, match=r"^flip found no images.*Convert whole numbers"):
        pictures_of(Batch(inputs), "flip")


def test_pictures_of_several_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"^flip got images of several sizes: \(4, 5\), \(4, 6\)"):
        pictures_of(Batch((torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 6))), "flip")


def test_targets_of_the_pictures_height_and_width_move_with_them_and_others_stay() -> None:
    inputs = torch.rand(2, 3, 4, 5)
    targets = {
        "mask": torch.arange(40).view(2, 4, 5),
        "depth": torch.rand(2, 1, 4, 5),
        "label": torch.tensor([0, 1]),
        "turned": torch.rand(2, 5, 4),
        "vectors": torch.rand(2, 4),
    }
    moved = move_pictures(Batch(inputs, targets), Pictures(2, 4, 5, HOST), lambda picture: picture.flip(3))
    assert torch.equal(moved.inputs, inputs.flip(3))
    assert torch.equal(moved.targets["mask"], targets["mask"].flip(2))
    assert torch.equal(moved.targets["depth"], targets["depth"].flip(3))
    assert all(torch.equal(moved.targets[name], targets[name]) for name in ("label", "turned", "vectors"))
    assert move_pictures(Batch(inputs), Pictures(2, 4, 5, HOST), lambda picture: picture).targets is None


@pytest.mark.parametrize("which", [[True, False, True], [True] * 3, [False] * 3])
def test_chosen_samples_are_changed_with_their_own_parameters_and_the_others_keep_their_bits(which: list[bool]) -> None:
    pictures, amounts = torch.tensor([math.nan, 2.0, 3.0]).view(3, 1, 1, 1), torch.tensor([10.0, 20.0, 30.0])
    made = changed_where(
        torch.tensor(which), pictures, lambda some, rows: amounts[rows].view(-1, 1, 1, 1) + 0 * some.nan_to_num()
    )
    expected = [amount if changed else own for changed, amount, own in zip(which, amounts.tolist(), pictures.flatten().tolist())]
    torch.testing.assert_close(made.flatten(), torch.tensor(expected), rtol=0, atol=0, equal_nan=True)
    assert math.isnan(float(pictures[0]))


def test_draws_cover_a_range_from_its_least_value_on() -> None:
    assert unit_range(torch.tensor([0.0, 0.25, 0.5]), -2.0, 6.0).tolist() == [-2.0, 0.0, 2.0]


def matrices(x: tuple[float, float, float], y: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor([[x, y]], dtype=torch.float64)


def test_a_warp_reads_where_its_matrix_says() -> None:
    picture = torch.arange(8.0).view(1, 1, 2, 4)
    swapped = warp(picture, matrices((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
    assert swapped.tolist() == [[[[7.0, 6.0, 5.0, 4.0], [3.0, 2.0, 1.0, 0.0]]]]
    half_a_pixel = warp(picture, matrices((1.0, 0.0, 0.25), (0.0, 1.0, 0.0)), fill="border")
    assert half_a_pixel.tolist() == [[[[0.5, 1.5, 2.5, 3.0], [4.5, 5.5, 6.5, 7.0]]]]


@pytest.mark.parametrize(("fill", "row"), [("zeros", [2, 3, 0, 0]), ("border", [2, 3, 3, 3]), ("reflection", [2, 3, 3, 2])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8])
def test_what_lies_outside_is_zeros_the_border_or_the_mirror_image(fill: str, row: list[int], dtype: torch.dtype) -> None:
    picture = torch.tensor([[[[0, 1, 2, 3]]]], dtype=dtype)
    moved = warp(picture, matrices((1.0, 0.0, 1.0), (0.0, 1.0, 0.0)), fill=fill)  # type: ignore[arg-type]
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.flatten().double(), torch.tensor(row).double(), rtol=0, atol=1e-6)


def test_whole_numbers_are_read_from_the_nearest_pixel_and_filled_with_their_own_number() -> None:
    mask = torch.tensor([[[[2**40 + 1, 5, 6, 7]]]])
    moved = warp(mask, matrices((1.0, 0.0, -0.7), (0.0, 1.0, 0.0)), mask_fill=-100)
    assert moved.tolist() == [[[[-100, 2**40 + 1, 5, 6]]]]
    truth = torch.tensor([[[[True, False]]]])
    assert warp(truth, matrices((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))).tolist() == [[[[False, True]]]]


def test_a_warp_agrees_with_torch_s_own_affine_grid() -> None:
    draw = torch.Generator().manual_seed(0)
    pictures = torch.rand(5, 3, 7, 9, generator=draw, dtype=torch.float64)
    maps = torch.randn(5, 2, 3, generator=draw, dtype=torch.float64) * 0.5
    expected = F.grid_sample(pictures, F.affine_grid(maps, [5, 3, 7, 9], align_corners=False), align_corners=False)
    torch.testing.assert_close(warp(pictures, maps), expected, rtol=0, atol=1e-12)


def boxes(area: tuple[float, float], aspect: tuple[float, float], size: Pictures, **rest: str):  # type: ignore[no-untyped-def]
    return draw_boxes(Rng(5).uniform(0, size.num, 4), size, area=area, aspect=aspect, **rest)  # type: ignore[arg-type]


def test_boxes_have_the_drawn_area_lie_inside_and_keep_to_the_proportions_that_fit() -> None:
    size = Pictures(4000, 20, 50, HOST)
    made = boxes((0.1, 0.9), (0.5, 8.0), size)
    share = made.height * made.width / (20 * 50)
    # Uniform on [0.1, 0.9]: mean 0.5, variance 0.8^2 / 12; four standard errors of 4,000 draws.
    assert float(share.min()) >= 0.1 - 1e-9
    assert float(share.max()) <= 0.9 + 1e-9
    assert abs(float(share.mean()) - 0.5) < 4 * (0.64 / 12 / 4000) ** 0.5
    ratio = made.width / made.height
    assert float(ratio.max()) <= 8.0 + 1e-9
    for start, side, whole in ((made.top, made.height, 20), (made.left, made.width, 50)):
        assert float(start.min()) >= 0
        assert float((start + side).max()) <= whole + 1e-9


def test_a_ratio_is_drawn_log_uniformly_where_every_one_fits() -> None:
    size = Pictures(4000, 64, 64, HOST)
    ratio = (made := boxes((0.05, 0.05), (0.25, 4.0), size)).width / made.height
    # log2 is uniform on [-2, 2]: mean 0, variance 16 / 12.
    logs = torch.log2(ratio)
    assert abs(float(logs.mean())) < 4 * (16 / 12 / 4000) ** 0.5
    assert abs(float(logs.var()) - 16 / 12) < 0.1
    assert float(logs.min()) >= -2 - 1e-9
    assert float(logs.max()) <= 2 + 1e-9


def test_boxes_on_pixels_are_whole_never_empty_and_stand_everywhere_alike() -> None:
    size = Pictures(6000, 3, 4, HOST)
    made = boxes((0.0, 0.0), (1.0, 1.0), size, edges="on pixels")
    assert made.height.unique().tolist() == [1.0]
    assert made.width.unique().tolist() == [1.0]
    counts = torch.bincount((made.top * 4 + made.left).long(), minlength=12)
    # 6,000 over 12 pixels: 500 each, standard deviation 21.4; five of them.
    assert counts.numel() == 12
    assert int((counts - 500).abs().max()) < 108
    whole = boxes((1.0, 1.0), (1.0, 1.0), size, edges="on pixels")
    assert (whole.top.unique().tolist(), whole.left.unique().tolist()) == ([0.0], [0.0])
    assert (whole.height.unique().tolist(), whole.width.unique().tolist()) == ([3.0], [4.0])


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (2, 28, 28, 1), (2, 5, 6, 4), (2, 480, 640, 3)])
def test_images_whose_channels_come_last_are_refused_with_the_permutation(shape: tuple[int, ...]) -> None:
    channels_last = torch.rand(shape)
    with pytest.raises(DataError, match=r"^flip got images of shape .* whose channels seem to come last") as refusal:
        pictures_of(Batch({"age": torch.zeros(2), "image": channels_last}), "flip")
    assert "permute(0, 3, 1, 2)" in refusal.value.fix
    assert pictures_of(Batch(channels_last.permute(0, 3, 1, 2)), "flip").width == shape[2]
    # The other way out, for pictures that are so narrow.
    assert pictures_of(Batch(channels_last.transpose(2, 3)), "flip").height == shape[3]


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 32, 3), (2, 1, 32, 1), (2, 4, 32, 4), (2, 3, 3, 3), (2, 1, 28, 28), (2, 64, 1, 1), (2, 16, 4, 4), (2, 2, 40, 1)],
)
def test_narrow_images_with_their_channels_first_are_pictures(shape: tuple[int, ...]) -> None:
    pictures = pictures_of(Batch(torch.zeros(shape)), "flip")
    assert (pictures.height, pictures.width) == shape[2:]


@pytest.mark.parametrize("value", [(0.5, 0.4), (0.1, 0.9), (0.2, 1.1), (0.3,), 0.5, (0.2, math.nan), (math.nan, 0.5)])
def test_what_is_no_range_is_refused(value: object) -> None:
    with pytest.raises(JobError, match=r"^x\.y is .*expected two numbers, the least first, in \[0\.2, 1\]\. Mend it"):
        require_range("x.y", value, 0.2, 1.0, "Mend it")  # type: ignore[arg-type]


def test_a_range_may_touch_its_limits_and_be_a_single_number() -> None:
    require_range("x.y", (0.2, 1.0), 0.2, 1.0, "")
    require_range("x.y", (0.5, 0.5), 0.2, 1.0, "")


def test_an_unknown_fill_is_refused() -> None:
    with pytest.raises(JobError, match=r"^x\.fill is 'mirror'; expected one of zeros, border, reflection"):
        require_fill("x.fill", "mirror")
