import json
import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stepwell.core.errors import DataError
from stepwell.data.from_python import examples_of
from stepwell.data.npy import Npy
from stepwell.data.npz import Npz
from stepwell.data.preparation import Preparation
from stepwell.data.registry import LoadedData
from stepwell.data.sources import ShuffledSource, eval_batches
from stepwell.data.split import SplitSpec
from stepwell.recipe.files import read_job
from stepwell.recipe.verbs import evaluate, predict, train

LARGE = 512 << 20


def write(folder: Path, inputs: Any, targets: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "inputs.npy", inputs)
    if targets is not None:
        np.save(folder / "targets.npy", targets)
    return folder


def load(folder: Path, task: str = "classification", split: SplitSpec | None = None, **settings: Any) -> LoadedData:
    return Npy(path=folder.name, **settings).load(base=folder.parent, split=split or SplitSpec(), task=task, seed=3)


def resident() -> int:
    """Bytes of this process that are in memory, those of mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def own() -> int:
    """Bytes in memory that are no file's."""
    _, whole, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (whole - shared) * mmap.PAGESIZE


def growth_while(action: Callable[[], Any], resident: Callable[[], int] = resident) -> int:
    """The most that the memory grew while something ran, looked at every few milliseconds."""
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return max(peak, resident()) - before


def sparse(path: Path, dtype: str, width: int) -> Any:
    """Zeros on disk that take no room there."""
    rows = LARGE // (np.dtype(dtype).itemsize * width)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(rows, width))


TARGETS = {
    "classification": np.array(["ash", "oak", "elm"])[np.arange(60) % 3],
    "binary": np.arange(60) % 2,
    "multilabel": np.stack([np.arange(60) % 2, np.arange(60) % 3 == 0], axis=1).astype("uint8"),
    "regression": np.linspace(-3, 8, 60, dtype="float32")[:, None],
}


@pytest.mark.parametrize(
    ("shape", "dtype", "task", "settings"),
    [
        ((60, 7), "float32", "classification", {}),
        ((60, 7), "float64", "regression", {}),
        ((60, 7), ">f8", "regression", {}),
        ((60, 7), "int64", "binary", {"scale": "none"}),
        ((60, 7), "bool", "binary", {}),
        ((60, 9, 5), "float16", "multilabel", {}),
        ((60, 8, 6), "uint8", "classification", {}),
        ((60, 8, 6), "uint8", "classification", {"layout": "vector", "scale": "none"}),
        ((60, 8, 6, 3), "uint8", "classification", {}),
        ((60, 3, 8, 6), "float32", "regression", {}),
    ],
)
@pytest.mark.parametrize("by", ["random", "time", "stratified"])
def test_batches_have_the_bits_that_the_same_arrays_in_an_archive_have(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, task: str, settings: dict[str, str], by: Any
) -> None:
    values = (np.random.default_rng(0).normal(20, 9, shape).clip(0) if dtype != "bool" else np.eye(*shape)).astype(dtype)
    np.savez(tmp_path / "x.npz", inputs=values, targets=TARGETS[task])
    split = SplitSpec(by=by if task == "classification" or by == "time" else "random")
    archive = Npz(path="x.npz", **settings).load(base=tmp_path, split=split, task=task, seed=3)
    folder = load(write(tmp_path / "x", values, TARGETS[task]), task, split, **settings)
    assert (folder.signature, folder.num_rows, folder.classes) == (archive.signature, archive.num_rows, archive.classes)
    for mapped, held in zip((folder.train, folder.validation, folder.test), (archive.train, archive.validation, archive.test)):
        index = torch.randperm(len(held))
        one, other = mapped.batch(index), held.batch(index)
        assert one.inputs.dtype == torch.float32
        assert one.inputs.stride() == other.inputs.stride()
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert mapped.batch(index[:0]).inputs.shape == (0, *folder.signature.shape)


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", np.zeros((1, 1)), None)
    values = sparse(folder / "inputs.npy", "float32", 16384)
    values[:, 0] = np.arange(len(values))
    np.save(folder / "targets.npy", np.arange(len(values)) % 2)
    rows, values = len(values), None
    data, seen = None, []

    def passes() -> None:
        nonlocal data
        data = load(folder)
        for part in (data.validation, data.test):
            seen.extend(batch.inputs[:, 0].clone() for batch in eval_batches(part, batch_size=64))

    def epoch() -> None:
        source = ShuffledSource(data.train, batch_size=64, seed=0)
        seen.extend(source.next(cursor).inputs[:, 0].clone() for cursor in range(source.steps_per_epoch))

    assert growth_while(passes) < LARGE // 2
    # Pages of the file that scattered rows lie in stay mapped; the system can take them back at any time.
    assert growth_while(epoch, own) < LARGE // 4
    assert len(torch.cat(seen).unique()) == rows


def test_a_large_map_from_python_is_not_copied_to_check_or_to_shuffle_it(tmp_path: Path) -> None:
    values = sparse(tmp_path / "x.npy", "float16", 16384)
    targets = np.arange(len(values)) % 2

    def some_steps() -> None:
        source = ShuffledSource(examples_of((np.load(tmp_path / "x.npy", mmap_mode="r"), targets)), batch_size=64, seed=0)
        for cursor in (0, 1, source.steps_per_epoch):
            assert source.next(cursor).inputs.shape == (64, 16384)

    assert growth_while(some_steps, own) < LARGE // 3


def test_a_bad_value_is_found_wherever_it_is_and_named_by_its_row_in_the_file(tmp_path: Path) -> None:
    values = np.zeros((3000, 2048), dtype="float32")
    values[2900, 5] = np.inf
    folder = write(tmp_path / "x", values, np.arange(3000) % 2)
    with pytest.raises(DataError, match=r"inputs.npy: inputs.npy hold inf in row 2900, column 5"):
        load(folder)


def test_a_new_folder_is_read_with_the_training_parts_statistics(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(5, 3, (40, 4))
    data = load(write(tmp_path / "x", values, np.arange(40) % 2), split=SplitSpec(by="time"))
    preparation = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    assert preparation == data.preparation
    new = preparation.examples_from(write(tmp_path / "new", values[32:], None)).batch(torch.arange(8))
    expected = (values[32:] - values[:24].mean(axis=0)) / values[:24].std(axis=0)
    np.testing.assert_allclose(new.inputs.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert new.targets is None
    with pytest.raises(DataError, match=r"file of targets 'targets.npy' does not exist"):
        preparation.examples_from(tmp_path / "new", with_targets="required")
    targets = preparation.examples_from(tmp_path / "x", with_targets="required").batch(torch.arange(3)).targets
    assert targets.tolist() == [0, 1, 0]
    for wrong, said in ((np.zeros((2, 5)), r"shape \(5,\)"), (np.full((2, 4), np.nan), "hold nan in row 0")):
        with pytest.raises(DataError, match=said):
            preparation.examples_from(write(tmp_path / "wrong", wrong, None))


@pytest.mark.parametrize(
    ("inputs", "targets", "said"),
    [
        (np.zeros((20, 3)), None, r"'targets.npy' does not exist"),
        (np.zeros((20, 3)), np.arange(5), r"'inputs.npy' has 20 examples and 'targets.npy' has 5"),
        (np.array([{}] * 20), np.arange(20), r"inputs.npy holds pickled objects"),
        (np.zeros((20, 3)), np.array([{}] * 20), r"targets.npy holds pickled objects"),
        (np.zeros((0, 3)), np.arange(0), r"inputs.npy is empty"),
        (np.zeros((20, 0)), np.arange(20), r"inputs.npy is empty"),
        (np.array(3.0), np.arange(20), r"inputs.npy is empty"),
        (np.full((20, 3), "oak"), np.arange(20), r"inputs.npy holds values of type <U3"),
        (np.zeros((20, 3), dtype="complex64"), np.arange(20), r"inputs.npy holds values of type complex64"),
        (np.zeros((20, 2, 2, 2, 2)), np.arange(20) % 2, r"the inputs have shape"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, inputs: Any, targets: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(write(tmp_path / "x", inputs, targets))


def test_files_that_are_no_whole_arrays_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", np.zeros((20, 3)), np.arange(20) % 2)
    whole = (folder / "inputs.npy").read_bytes()
    for content in (b"", b"no array", whole[:-8], whole[:40]):
        (folder / "inputs.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"inputs.npy is no whole .npy file"):
            load(folder)
    np.savez(tmp_path / "x.npz", inputs=np.zeros(3))
    (tmp_path / "x.npz").rename(folder / "inputs.npy")
    with pytest.raises(DataError, match=r"is an .npz archive"):
        load(folder)
    with pytest.raises(DataError, match=r"inputs.npy is a file; expected the folder"):
        Npy(path="x/inputs.npy").load(base=tmp_path, split=SplitSpec(), task="classification", seed=0)
    with pytest.raises(DataError, match=r"folder of .npy files 'nowhere' does not exist"):
        load(tmp_path / "nowhere")


def test_a_job_file_trains_on_maps_and_its_model_answers_a_new_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(300) % 2
    values = rng.normal(50, 4, (300, 6)) + 12 * targets[:, None]
    write(tmp_path / "x", values, targets)
    job = "task: classification\ndata: {source: npy, path: x}\nmodel: {name: mlp, hidden: [8]}\nbudget: 5 epochs\nseed: 1\n"
    (tmp_path / "job.yaml").write_text(job + "recipe: {optimizer: {name: adamw, lr: 0.01}, batch_size: 16}\n")
    train(read_job(tmp_path / "job.yaml"), out=tmp_path / "run", base=tmp_path)
    assert evaluate(tmp_path / "run").metrics["accuracy"] == 1.0
    answers = predict(tmp_path / "run", write(tmp_path / "new", values[:10], None))
    assert [int(answer) for answer in answers["prediction"]] == targets[:10].tolist()
