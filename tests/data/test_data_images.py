import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stepwell.core.errors import DataError, JobError
from stepwell.data import images
from stepwell.data.images import Images
from stepwell.data.preparation import Preparation
from stepwell.data.split import SplitSpec


def folder_of(folder: Path, per_class: int = 10, size: tuple[int, int] = (6, 4)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for place in range(per_class):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{place:02}.png")
            made[f"{name}/{place:02}"] = pixels
    return made


def load(folder: Path, split: SplitSpec | None = None, **settings):
    settings = {"path": "x", "size": [6, 4], **settings}
    return Images(**settings).load(base=folder, split=split or SplitSpec(), task="classification", seed=0)


def test_images_are_standardised_by_channel_and_classes_are_folder_names(tmp_path: Path) -> None:
    folder_of(tmp_path / "x")
    data = load(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert data.num_rows == {"train": 12, "validation": 4, "test": 4}
    batch = data.train.batch(torch.arange(12))
    assert batch.inputs.shape == (12, 3, 6, 4)
    assert batch.inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (batch.inputs.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    assert torch.bincount(batch.targets).tolist() == [6, 6]


def test_decoding_at_each_use_gives_the_bits_of_decoding_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "x")
    held = load(tmp_path)
    monkeypatch.setattr(images, "LARGEST_DECODED", 0)
    read = load(tmp_path)
    assert (held.train.work_per_sample, read.train.work_per_sample) == (False, True)
    index = torch.tensor([5, 0, 11])
    one, other = held.train.batch(index), read.train.batch(index)
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets, other.targets)


def test_other_sizes_and_grey_images_are_made_to_fit(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "x")
    data = load(tmp_path, size=8, channels=1)
    assert data.signature.shape == (1, 8, 8)
    pixels = made["cat/00"].astype(float) @ np.array([0.299, 0.587, 0.114])  # ITU-R 601 luma, as Pillow documents it
    grey = images.decode(tmp_path / "x" / "cat" / "00.png", 6, 4, 1)[0]
    assert np.abs(grey.numpy() - pixels).max() <= 1


def test_new_images_are_read_from_a_file_a_folder_or_class_folders(tmp_path: Path) -> None:
    folder_of(tmp_path / "x")
    preparation = Preparation.from_dict(json.loads(json.dumps(load(tmp_path).preparation.to_dict())))
    one = preparation.examples_from(tmp_path / "x" / "cat" / "00.png").batch(torch.tensor([0]))
    flat = preparation.examples_from(tmp_path / "x" / "cat")
    classes = preparation.examples_from(tmp_path / "x", with_targets="required")
    assert len(flat) == 10
    assert classes.batch(torch.arange(20)).targets.tolist() == [0] * 10 + [1] * 10
    assert torch.equal(one.inputs, flat.batch(torch.tensor([0])).inputs)
    with pytest.raises(DataError, match="no class folders"):
        preparation.examples_from(tmp_path / "x" / "cat", with_targets="required")


def test_parts_can_be_folders_of_their_own(tmp_path: Path) -> None:
    folder_of(tmp_path / "x")
    folder_of(tmp_path / "later", per_class=3)
    data = load(tmp_path, SplitSpec(by="file", test_path="later"))
    assert data.num_rows == {"train": 20, "test": 6}
    inner = load(tmp_path, SplitSpec(by="file", test_path="later", validation=0.25))
    assert inner.num_rows == {"train": 15, "validation": 5, "test": 6}
    with pytest.raises(DataError, match="named for two parts"):
        load(tmp_path, SplitSpec(by="file", test_path="x"))


def test_bad_image_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path)
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load(tmp_path)
    folder_of(tmp_path / "x" / "..", per_class=1)
    (tmp_path / "x" / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path)
    (tmp_path / "x" / "empty" / "a.png").write_bytes(b"no image")
    (tmp_path / "x" / "second").mkdir()
    (tmp_path / "x" / "second" / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"\.png can't be read as an image"):
        load(tmp_path, SplitSpec(validation=0.0, test=0.0))
    with pytest.raises(JobError, match=r"data.size"):
        load(tmp_path, size=0)


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "x")
    folder_of(tmp_path / "later", per_class=1)
    (tmp_path / "later" / "dog").rename(tmp_path / "later" / "fox")
    with pytest.raises(DataError, match=r"class 'fox'.*the test part but not in the training part"):
        load(tmp_path, SplitSpec(by="file", test_path="later"))
