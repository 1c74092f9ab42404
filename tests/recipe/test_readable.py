"""Kinds of files that a run reads: another kind is refused with what would be read and how to get there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stepwell.cli.main import main
from stepwell.core.errors import DataError, RunFolderError
from stepwell.data.arrays import ArrayReader
from stepwell.data.documents import DocumentReader
from stepwell.data.images import ImageReader
from stepwell.data.pairs import GroupReader
from stepwell.data.segmentation import MaskedImageReader
from stepwell.data.text import TextReader
from stepwell.recipe.readable import kind_read_by, require_kind
from stepwell.recipe.run_paths import require_folder

IMAGES = ImageReader(height=8, width=8, mean=(0.5,), scale=(0.2,))
ARRAYS = ArrayReader(form="npz", layout="vector", shape=(5,), mean=(0.0,), scale=(1.0,), inputs="x", targets="y")
MAPPED = ArrayReader(form="npy", layout="vector", shape=(5,), mean=(0.0,), scale=(1.0,), inputs="x.npy", targets="y.npy")
IDX = ArrayReader(form="idx", layout="image", shape=(1, 8, 8), mean=(0.0,), scale=(1.0,))
TEXT = TextReader(characters="ab", length=4)
DOCUMENTS = DocumentReader(vocabulary=("", "?"), length=4, text="body")
READERS = {
    "images": IMAGES,
    "npz": ARRAYS,
    "npy": MAPPED,
    "idx": IDX,
    "text": TEXT,
    "documents": DOCUMENTS,
    "pairs": GroupReader(ARRAYS, ("first", "second"), "same"),
    "masks": MaskedImageReader(IMAGES, "images", "masks"),
    "array masks": MaskedImageReader(ARRAYS, "x", "y"),
}


class Prepared:
    def __init__(self, reader: Any) -> None:
        self.reader = reader


def given(name: str, folder: Path) -> Path:
    path = folder / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("reader", "name", "words"),
    [
        ("images", "new.npz", "a folder of images"),
        ("npz", "new.csv", "an .npz file with the array x, of shape (N, 5)"),
        ("npz", "folder", "an .npz file"),
        ("npy", "new.npz", "a folder with x.npy"),
        ("idx", "new.png", "an idx file of images"),
        ("text", "new.npz", "a UTF-8 text file"),
        ("text", "folder", "a UTF-8 text file"),
        ("documents", "new.npz", "a column 'body'"),
        ("pairs", "new.parquet", "the arrays first, second"),
        ("masks", "new.png", "a folder of images"),
        ("array masks", "new.png", "an .npz file with the array x"),
    ],
)
def test_another_kind_is_refused_with_the_kind_that_is_read(reader: str, name: str, words: str, tmp_path: Path) -> None:
    path = given(name, tmp_path)
    with pytest.raises(DataError) as raised:
        require_kind(Prepared(READERS[reader]), path)  # type: ignore[arg-type]
    assert name in raised.value.what
    assert words in raised.value.expected
    assert raised.value.fix == kind_read_by(READERS[reader]).way


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("images", "new.png"),
        ("images", "folder"),
        ("npz", "new.npz"),
        ("npy", "folder"),
        ("idx", "t10k-images-idx3-ubyte"),
        ("idx", "images.gz"),
        ("text", "new.txt"),
        ("text", "README"),
        ("documents", "new.jsonl"),
        ("documents", "new.tsv"),
        ("documents", "folder"),
        ("pairs", "new.npz"),
        ("masks", "folder"),
        ("npz", "absent.csv"),
    ],
)
def test_the_kind_that_is_read_and_what_is_not_there_are_left_to_the_reader(reader: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name if name.startswith("absent") else given(name, tmp_path)
    require_kind(Prepared(READERS[reader]), path)  # type: ignore[arg-type]


def test_pickled_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would run any code in them"):
        require_kind(Prepared(ARRAYS), given("new.pkl", tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model.ckpt"])
def test_a_pickled_file_in_the_place_of_a_run_says_why_and_names_the_command_that_converts_it(name: str, tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0)}
    torch.save(weights, tmp_path / name)
    with pytest.raises(RunFolderError, match="that would run any code in it") as raised:
        require_folder(tmp_path / name)
    command = raised.value.fix.split("`")[1]
    assert command == f"stepwell import {tmp_path / name} --out {tmp_path / 'model.safetensors'}"
    with pytest.raises(SystemExit) as ended:
        main(command.split()[1:])
    assert ended.value.code == 0
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], weights["a"])


def test_another_pickle_in_the_place_of_a_run_is_to_be_converted_where_it_was_made(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(RunFolderError) as raised:
        require_folder(tmp_path / "model.pkl")
    assert 'where it was made: safetensors.torch.save_file(model.state_dict(), "model.safetensors")' in raised.value.fix
