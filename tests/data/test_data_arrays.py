import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stepwell.core.errors import DataError
from stepwell.data.idx import Idx
from stepwell.data.npz import Npz
from stepwell.data.preparation import Preparation
from stepwell.data.split import SplitSpec

TIME = SplitSpec(validation=0.2, test=0.2, by="time")


def npz(folder: Path, task: str = "classification", split: SplitSpec = TIME, arrays: dict | None = None, **settings):
    np.savez(folder / "x.npz", **(arrays or {}))
    return Npz(path="x.npz", **settings).load(base=folder, split=split, task=task, seed=0)


def vectors(n: int = 20) -> dict:
    rng = np.random.default_rng(1)
    return {"inputs": rng.normal(5, 3, (n, 4)), "targets": np.arange(n) % 3}


def test_vectors_are_standardised_by_the_training_parts_columns(tmp_path: Path) -> None:
    data = npz(tmp_path, arrays=vectors())
    x = vectors()["inputs"]
    expected = (x - x[:12].mean(axis=0)) / x[:12].std(axis=0)
    np.testing.assert_allclose(data.test.batch(torch.arange(4)).inputs.numpy(), expected[16:], rtol=1e-5, atol=1e-6)
    assert data.train.batch(torch.arange(4)).targets.tolist() == [0, 1, 2, 0]
    assert data.signature.shape == (4,)
    plain = npz(tmp_path, arrays=vectors(), scale="none")
    np.testing.assert_allclose(plain.test.batch(torch.arange(4)).inputs.numpy(), x[16:], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((20, 6, 5), "uint8", ("image", (1, 6, 5))),
        ((20, 3, 6, 5), "float64", ("image", (3, 6, 5))),
        ((20, 6, 5, 3), "float32", ("image", (3, 6, 5))),
        ((20, 6, 5), "float32", ("series", (6, 5))),
        ((20, 7), "int16", ("vector", (7,))),
    ],
)
def test_the_layout_follows_from_the_shape(tmp_path: Path, shape: tuple, kind: str, expected: tuple) -> None:
    values = np.random.default_rng(0).integers(0, 200, shape).astype(kind)
    data = npz(tmp_path, arrays={"inputs": values, "targets": np.arange(20) % 2})
    assert (data.signature.kind, data.signature.shape) == expected
    batch = data.train.batch(torch.arange(12))
    assert tuple(batch.inputs.shape[1:]) == expected[1]
    dims = {"image": (0, 2, 3), "series": (0, 1), "vector": (0,)}[expected[0]]
    assert batch.inputs.mean(dim=dims).abs().max() < 1e-5
    assert (batch.inputs.std(dim=dims, correction=0) - 1).abs().max() < 1e-4


def test_a_new_archive_is_read_with_the_same_statistics(tmp_path: Path) -> None:
    data = npz(tmp_path, arrays=vectors())
    preparation = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    np.savez(tmp_path / "new.npz", inputs=vectors()["inputs"][16:])
    new = preparation.examples_from(tmp_path / "new.npz").batch(torch.arange(4))
    assert torch.equal(new.inputs, data.test.batch(torch.arange(4)).inputs)
    assert new.targets is None
    with pytest.raises(DataError, match="no array 'targets'"):
        preparation.examples_from(tmp_path / "new.npz", with_targets="required")
    np.savez(tmp_path / "wide.npz", inputs=np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"shape \(5,\)"):
        preparation.examples_from(tmp_path / "wide.npz")


@pytest.mark.parametrize(
    ("arrays", "settings", "task", "said"),
    [
        (vectors(), {"inputs": "x"}, "classification", "no array 'x'"),
        (vectors() | {"targets": np.arange(5)}, {}, "classification", "20 examples and 'targets' has 5"),
        (vectors() | {"inputs": np.array([{}] * 20)}, {}, "classification", "pickled objects"),
        (vectors() | {"inputs": np.zeros((0, 3))}, {}, "classification", "is empty"),
        (vectors() | {"inputs": np.full((20, 2), np.nan)}, {}, "classification", "inputs hold nan in row 0"),
        (vectors() | {"inputs": np.zeros((20, 2, 2, 2, 2))}, {}, "classification", "have shape"),
        (vectors(1), {}, "classification", "1 example"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, arrays: dict, settings: dict, task: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        npz(tmp_path, task, arrays=arrays, **settings)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"can't be read as .npz"):
        Npz(path="x.npz").load(base=tmp_path, split=TIME, task="classification", seed=0)


def write_idx(path: Path, values: np.ndarray) -> None:
    content = bytes([0, 0, 8, values.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(folder: Path, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8), np.arange(50, dtype=np.uint8) % 10
    for name, rows in (("train", slice(0, 40)), ("t10k", slice(40, 50))):
        write_idx(folder / f"{name}-images-idx3-ubyte{suffix}", images[rows])
        write_idx(folder / f"{name}-labels-idx1-ubyte{suffix}", labels[rows])
    return images, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_keep_their_own_test_part_and_are_standardised(tmp_path: Path, suffix: str) -> None:
    images, labels = idx_folder(tmp_path, suffix)
    data = Idx(path=".").load(base=tmp_path, split=SplitSpec(validation=0.0), task="classification", seed=0)
    assert data.num_rows == {"train": 40, "test": 10}
    assert data.signature.shape == (1, 28, 28)
    scaled = images / 255.0
    expected = (scaled - scaled[:40].mean()) / scaled[:40].std()
    test = data.test.batch(torch.arange(10))
    np.testing.assert_allclose(test.inputs[:, 0].numpy(), expected[40:], rtol=1e-4, atol=1e-5)
    assert test.targets.tolist() == labels[40:].tolist()
    assert data.preparation.reader.mean[0] == pytest.approx(scaled[:40].mean())


def test_validation_images_are_taken_from_the_training_images(tmp_path: Path) -> None:
    idx_folder(tmp_path, ".gz")
    data = Idx(path=".", limit=20).load(base=tmp_path, split=SplitSpec(validation=0.25), task="classification", seed=0)
    assert data.num_rows == {"train": 20, "validation": 10, "test": 10}


def test_new_idx_images_are_read_with_their_labels_where_there_are_any(tmp_path: Path) -> None:
    images, _ = idx_folder(tmp_path, ".gz")
    data = Idx(path=".").load(base=tmp_path, split=SplitSpec(validation=0.0), task="classification", seed=0)
    preparation = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    for path in (tmp_path, tmp_path / "t10k-images-idx3-ubyte.gz"):
        new = preparation.examples_from(path, with_targets="required").batch(torch.arange(10))
        assert torch.equal(new.inputs, data.test.batch(torch.arange(10)).inputs)
        assert new.targets.tolist() == data.test.batch(torch.arange(10)).targets.tolist()
    write_idx(tmp_path / "lone-images", images[:3])
    assert preparation.examples_from(tmp_path / "lone-images").batch(torch.arange(3)).targets is None
    with pytest.raises(DataError, match="no targets"):
        preparation.examples_from(tmp_path / "lone-images", with_targets="required")


def test_bad_idx_files_are_refused(tmp_path: Path) -> None:
    idx_folder(tmp_path, "")
    source = Idx(path=".")
    images = tmp_path / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    for content, said in ((whole[:-1], "promises 31360 bytes, there are 31359"), (b"abc", "no idx header")):
        images.write_bytes(content)
        with pytest.raises(DataError, match=said):
            source.load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
    images.unlink()
    with pytest.raises(DataError, match="has no train-images"):
        source.load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="no whole idx file"):
        source.load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
    with pytest.raises(DataError, match="does not exist"):
        Idx(path="nowhere").load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
