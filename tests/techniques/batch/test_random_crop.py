"""Random crops: whole pixels, the windows of the padded picture, every one as likely."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng
from stepwell.techniques import RandomCrop, pad_pictures, shift_pictures


@pytest.mark.parametrize(("fill", "mode"), [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")])
@pytest.mark.parametrize("padding", [0, 1, 2, 7])
def test_padding_is_numpy_s(fill: str, mode: str, padding: int) -> None:
    pictures = torch.rand(2, 3, 3, 2)
    expected = np.pad(pictures.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode=mode)
    assert torch.equal(pad_pictures(pictures, padding, fill=fill), torch.from_numpy(expected))  # type: ignore[arg-type]


def test_masks_are_padded_with_their_own_number() -> None:
    assert pad_pictures(torch.tensor([[[[7]]]]), 1, mask_fill=-100).flatten().tolist() == [-100] * 4 + [7] + [-100] * 4
    assert pad_pictures(torch.ones(1, 1, 1, 1), 1, mask_fill=-100).sum() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_windows_are_slices(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    padded = torch.randint(0, 100, (6, 3, 9, 7), generator=draw).to(dtype)
    rows, columns = torch.tensor([0, 4, 2, 1, 4, 0]), torch.tensor([0, 3, 1, 2, 0, 3])
    made = shift_pictures(padded, rows, columns, height=5, width=4)
    expected = [padded[k, :, r : r + 5, c : c + 4] for k, (r, c) in enumerate(zip(rows.tolist(), columns.tolist()))]
    assert torch.equal(made, torch.stack(expected))
    assert torch.equal(shift_pictures(padded.mT.contiguous().mT, rows, columns, height=5, width=4), made)


def shifts(technique: RandomCrop, num: int) -> torch.Tensor:
    """By how many pixels (down, right) each of many pictures with one white pixel in the middle was shifted."""
    pictures = torch.zeros(num, 1, 9, 9)
    pictures[:, :, 4, 4] = 1.0
    moved = technique(Batch(pictures), Rng(3)).inputs
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(num))
    return moved.flatten(1).argmax(1)


def test_every_shift_up_to_the_padding_is_as_likely() -> None:
    places = shifts(RandomCrop(padding=2), 5000)
    counts = torch.bincount(places, minlength=81).view(9, 9)[2:7, 2:7]
    # 25 shifts, 200 each with a standard deviation of 13.9; five of them. Nothing outside.
    assert int(counts.sum()) == 5000
    assert int((counts - 200).abs().max()) < 70


def test_so_many_of_the_pictures_are_shifted_and_the_others_keep_their_bits() -> None:
    places = shifts(RandomCrop(padding=4, probability=0.25), 4000)
    # A shifted one stays in place once in 81; Binomial(4000, 0.25 * 80 / 81): 988, standard deviation 27.3.
    assert abs(int((places != 40).sum()) - 988) < 110


def test_a_picture_its_mask_and_its_depth_move_together() -> None:
    draw = torch.Generator().manual_seed(1)
    mask = torch.randint(1, 5, (32, 8, 10), generator=draw)
    batch = Batch(mask[:, None].float().expand(-1, 3, -1, -1), {"mask": mask, "depth": mask[:, None].double()})
    moved = RandomCrop(padding=3)(batch, Rng(0))
    assert torch.equal(moved.inputs[:, 1].long(), moved.targets["mask"])
    assert torch.equal(moved.targets["depth"][:, 0].long(), moved.targets["mask"])
    assert not torch.equal(moved.targets["mask"], mask)
    filled = RandomCrop(padding=3, mask_fill=-100)(batch, Rng(0)).targets["mask"]
    assert torch.equal(filled, torch.where(moved.targets["mask"] == 0, -100, moved.targets["mask"]))


def test_a_crop_is_one_of_the_windows_of_a_loop_over_samples() -> None:
    pictures = torch.rand(12, 3, 6, 5)
    moved = RandomCrop(padding=2)(Batch(pictures), Rng(4)).inputs
    padded = F.pad(pictures, (2, 2, 2, 2))
    for k in range(12):
        windows = [padded[k, :, r : r + 6, c : c + 5] for r in range(5) for c in range(5)]
        assert sum(torch.equal(moved[k], window) for window in windows) == 1


def test_settings_out_of_range_are_refused() -> None:
    assert (RandomCrop().padding, RandomCrop().fill, RandomCrop().mask_fill, RandomCrop().probability) == (4, "zeros", 0, 1.0)
    RandomCrop(padding=4096, probability=0.0)
    for padding in (-1, 4097):
        with pytest.raises(JobError, match=r"^random_crop\.padding"):
            RandomCrop(padding=padding)
    with pytest.raises(JobError, match=r"^random_crop\.fill"):
        RandomCrop(fill="mirror")  # type: ignore[arg-type]
    for probability in (-0.1, 1.1):
        with pytest.raises(JobError, match=r"^random_crop\.probability"):
            RandomCrop(probability=probability)
