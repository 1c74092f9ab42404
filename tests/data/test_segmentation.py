"""Images with masks: from folders and from archives, with what was learned of the training part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stepwell.core.errors import DataError, JobError
from stepwell.core.signature import Signature
from stepwell.data import segmentation
from stepwell.data.preparation import Preparation
from stepwell.data.registry import LoadedData
from stepwell.data.segmentation import Segmentation
from stepwell.data.split import SplitSpec
from stepwell.data.target_kinds import MaskTarget


def drawn(num: int = 10, height: int = 6, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Noise, brighter where the mask is 255."""
    rng = np.random.default_rng(0)
    masks = (rng.random((num, height, width)) < 0.4).astype(np.uint8) * 255
    images = (rng.integers(0, 100, (num, height, width, 3)) + (masks[..., None] > 0) * 100).astype(np.uint8)
    return images, masks


def folder(place: Path, images: np.ndarray, masks: np.ndarray) -> Path:
    for name, arrays in (("images", images), ("masks", masks)):
        (place / name).mkdir(parents=True)
        for number, array in enumerate(arrays):
            Image.fromarray(array).save(place / name / f"{number:02d}.png")
    return place


def loaded(base: Path, path: str, split: SplitSpec | None = None, **settings: object) -> LoadedData:
    made = Segmentation(path=path, **settings)  # type: ignore[arg-type]
    return made.load(base=base, split=split or SplitSpec(by="time"), task="segmentation", seed=0)


def everything(part: object) -> tuple[torch.Tensor, torch.Tensor]:
    batch = part.batch(torch.arange(len(part)))  # type: ignore[attr-defined, arg-type]
    return batch.inputs, batch.targets


def test_a_folder_and_an_archive_of_the_same_pixels_give_the_same_inputs_and_masks(tmp_path: Path) -> None:
    images, masks = drawn()
    folder(tmp_path / "set", images, masks)
    np.savez(tmp_path / "set.npz", images=images, masks=masks)
    one, other = loaded(tmp_path, "set"), loaded(tmp_path, "set.npz")
    assert one.signature == other.signature == Signature("mask", (3, 6, 5), 1)
    assert one.num_rows == other.num_rows == {"train": 6, "validation": 2, "test": 2}
    train = images[:6].astype("float64") / 255
    mean, spread = train.mean(axis=(0, 1, 2)), train.std(axis=(0, 1, 2))
    for part, rows in (("train", slice(0, 6)), ("validation", slice(6, 8)), ("test", slice(8, 10))):
        expected = ((images[rows] / 255 - mean) / spread).transpose(0, 3, 1, 2)
        for data in (one, other):
            inputs, targets = everything(getattr(data, part))
            np.testing.assert_allclose(inputs.numpy(), expected, rtol=1e-4, atol=1e-5)
            assert targets.dtype == torch.int64
            assert np.array_equal(targets.numpy(), masks[rows] // 255)


def test_three_values_are_three_classes_and_a_palette_is_read_by_number(tmp_path: Path) -> None:
    images, _ = drawn(4)
    masks = np.arange(4 * 30).reshape(4, 6, 5).astype(np.uint8) % 3
    place = folder(tmp_path / "set", images, masks)
    for number in range(4):
        picture = Image.fromarray(masks[number], mode="P")
        picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] + [0] * 759)
        picture.save(place / "masks" / f"{number:02d}.png")
    data = loaded(tmp_path, "set", SplitSpec(validation=0.25, test=0.0, by="time"))
    assert data.signature.num_outputs == 3
    assert data.classes == ["0", "1", "2"]
    assert np.array_equal(everything(data.train)[1].numpy(), masks[:3])


def test_masks_are_resized_to_the_nearest_pixel(tmp_path: Path) -> None:
    images, masks = drawn(4, 8, 8)
    folder(tmp_path / "set", images, masks)
    data = loaded(tmp_path, "set", size=[4, 2])
    inputs, targets = everything(data.train)
    assert inputs.shape[1:] == (3, 4, 2)
    assert targets.shape[1:] == (4, 2)
    assert set(targets.unique().tolist()) <= {0, 1}


def test_large_sets_are_decoded_at_each_use_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "set", *drawn())
    kept = everything(loaded(tmp_path, "set").train)
    monkeypatch.setattr(segmentation, "LARGEST_DECODED", 0)
    later = loaded(tmp_path, "set")
    assert later.train.work_per_sample
    for one, other in zip(kept, everything(later.train)):
        assert torch.equal(one, other)


def test_preparation_survives_json_and_reads_new_images_with_and_without_masks(tmp_path: Path) -> None:
    images, masks = drawn()
    place = folder(tmp_path / "set", images, masks)
    np.savez(tmp_path / "set.npz", images=images, masks=masks)
    for path in ("set", "set.npz"):
        data = loaded(tmp_path, path)
        again = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
        assert again == data.preparation
        inputs, targets = everything(again.examples_from(tmp_path / path))
        assert torch.equal(inputs[:6], everything(data.train)[0])
        assert torch.equal(targets[:6], everything(data.train)[1])
    bare = again.__class__.from_dict(loaded(tmp_path, "set").preparation.to_dict())
    alone = bare.examples_from(place / "images").batch(torch.arange(10))  # type: ignore[attr-defined]
    assert alone.targets is None
    assert bare.examples_from(place / "images" / "03.png").batch(torch.tensor([0])).inputs.equal(alone.inputs[3:4])
    with pytest.raises(DataError, match="no folder 'masks'"):
        bare.examples_from(place / "images", with_targets="required")


def test_scores_become_masks_of_the_files_own_values_and_shares_of_the_pixels() -> None:
    two = MaskTarget(values=(0, 255))
    logits = torch.tensor([[[[3.0, -3.0], [-1.0, -2.0]]]])
    assert two.masks(logits).tolist() == two.masks(logits[:, 0]).tolist() == [[[255, 0], [0, 0]]]
    assert two.masks(logits).dtype == np.uint8
    assert {name: shares.tolist() for name, shares in two.decode(logits).items()} == {"share_0": [0.75], "share_255": [0.25]}
    three = MaskTarget(values=(-1, 4, 700))
    scores = torch.zeros(1, 3, 1, 2)
    scores[0, 2, 0, 0] = scores[0, 1, 0, 1] = 1.0
    assert three.masks(scores).tolist() == three.arrays(scores.movedim(1, -1))["masks"].tolist() == [[[700, 4]]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: (place / "masks" / "03.png").unlink(), "image 03.png has 0 masks"),
        (lambda place: Image.new("L", (5, 6)).save(place / "masks" / "03.bmp"), "image 03.png has 2 masks"),
        (lambda place: (place / "masks" / "03.png").write_bytes(b"no image"), "03.png can't be read as an image"),
        (lambda place: Image.fromarray(drawn()[0][0]).save(place / "masks" / "03.png"), "mask 03.png holds colours"),
        (lambda place: [Image.new("L", (5, 6)).save(f) for f in (place / "masks").iterdir()], "1 different pixel value"),
        (lambda place: [f.unlink() for f in (place / "images").iterdir()], "holds no images"),
    ],
)
def test_folders_that_dont_fit_are_refused(tmp_path: Path, change, said: str) -> None:
    change(folder(tmp_path / "set", *drawn()))
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, "set")


def test_a_mask_with_a_value_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    images, masks = drawn()
    masks[-1, 0, 0] = 7
    folder(tmp_path / "set", images, masks)
    with pytest.raises(DataError, match=r"a mask of 09.png holds 7; expected one of the training masks' values, 0, 255"):
        loaded(tmp_path, "set")


@pytest.mark.parametrize(
    ("masks", "said"),
    [(np.zeros((10, 6, 6), np.uint8), "the masks are uint8 of shape"), (np.zeros((10, 6, 5)), "the masks are float64")],
)
def test_masks_of_another_size_or_of_fractions_are_refused(tmp_path: Path, masks: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "set.npz", images=drawn()[0], masks=masks)
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, "set.npz")


def test_other_tasks_splits_and_sizes_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "set", *drawn())
    with pytest.raises(DataError, match="can't be used for task classification"):
        Segmentation(path="set").load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
    with pytest.raises(JobError, match=r"split.by is stratified"):
        loaded(tmp_path, "set", SplitSpec(by="stratified"))
    with pytest.raises(JobError, match=r"data.size is 0"):
        loaded(tmp_path, "set", size=0)
    with pytest.raises(JobError, match=r"data.channels is 2"):
        loaded(tmp_path, "set", channels=2)
