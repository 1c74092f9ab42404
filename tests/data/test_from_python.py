import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from stepwell.core.errors import DataError
from stepwell.data.examples import Examples, MapExamples, TensorExamples
from stepwell.data.from_python import examples_of

ALL = torch.arange(3)
X = np.array([[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]])


class Squares(Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([float(place)]), place * place


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(1), 0)])


def pairs() -> dict[str, object]:
    frame = pd.DataFrame(X, columns=["a", "b"])
    return {
        "tensors": (torch.tensor(X).float(), torch.tensor([0, 1, 2])),
        "arrays": (X, np.array([0, 1, 2], dtype="int32")),
        "lists": (X.tolist(), [0, 1, 2]),
        "frame": (frame, pd.Series([0, 1, 2])),
        "frame of targets": (frame, pd.DataFrame({"y": [0, 1, 2]})),
        "nullable frame": (frame.astype("Float64"), pd.Series([0, 1, 2], dtype="Int64")),
        "backwards": (X[::-1][::-1], np.array([2, 1, 0])[::-1]),
        "big endian": (X.astype(">f8"), np.array([0, 1, 2], dtype=">i2")),
        "TensorDataset": TensorDataset(torch.tensor(X).float(), torch.tensor([0, 1, 2])),
        "loader": DataLoader(TensorDataset(torch.tensor(X).float(), torch.tensor([0, 1, 2])), batch_size=2),
    }


@pytest.mark.parametrize("name", pairs())
def test_everything_that_holds_numbers_gives_float32_inputs_and_int64_targets(name: str) -> None:
    examples = examples_of(pairs()[name])
    assert isinstance(examples, TensorExamples)
    batch = examples.batch(ALL)
    assert batch.inputs.dtype == torch.float32
    assert torch.equal(batch.inputs, torch.tensor(X).float())
    assert batch.targets.dtype == torch.int64
    assert batch.targets.tolist() == [0, 1, 2]


def test_doubles_are_kept_when_asked_for_and_tensors_are_never_changed() -> None:
    assert examples_of((X, X[:, 0]), dtype=torch.float64).batch(ALL).inputs.dtype == torch.float64
    x = torch.tensor(X).float()
    assert examples_of(x).inputs is x


def test_an_array_is_not_copied() -> None:
    x = np.zeros((3, 2), dtype="float32")
    inputs = examples_of(x).inputs
    x[0, 0] = 7
    assert inputs[0, 0] == 7


def test_targets_and_weights_can_stand_apart_or_together() -> None:
    apart = examples_of(X, targets=[1.0, 2.0, 3.0], weights=[1, 2, 3])
    together = examples_of((X, [1.0, 2.0, 3.0], [1, 2, 3]))
    for examples in (apart, together):
        batch = examples.batch(ALL)
        assert batch.targets.dtype == torch.float32
        assert batch.weights.tolist() == [1.0, 2.0, 3.0]
        assert batch.weights.is_floating_point()


def test_a_dict_and_a_list_of_inputs_keep_their_structure() -> None:
    batch = examples_of(({"a": X, "ids": np.array([[1], [2], [3]])}, [0, 1, 0])).batch(ALL)
    assert batch.inputs["a"].dtype == torch.float32
    assert batch.inputs["ids"].dtype == torch.int64
    listed = examples_of(([X, X[:, :1]], [0, 1, 0])).batch(ALL)
    assert [part.shape for part in listed.inputs] == [(3, 2), (3, 1)]


def test_whole_numbers_in_a_frame_of_features_become_floats_and_bytes_stay_bytes() -> None:
    assert examples_of(pd.DataFrame({"a": [1, 2], "b": [True, False]})).inputs.tolist() == [[1.0, 1.0], [2.0, 0.0]]
    assert examples_of(np.zeros((2, 4, 4), dtype="uint8")).inputs.dtype == torch.uint8
    assert examples_of((X, np.array([True, False, True]))).targets.tolist() == [1.0, 0.0, 1.0]


def test_a_memory_mapped_array_stays_on_disk_and_is_narrowed_by_the_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    examples = examples_of((mapped, [0, 1, 2]))
    assert examples.inputs.dtype == torch.float64
    assert examples.inputs.data_ptr() == mapped.ctypes.data
    assert torch.equal(examples.batch(torch.tensor([2])).inputs, torch.tensor(X[[2]]).float())


def test_a_part_of_a_dataset_is_read_like_the_whole() -> None:
    whole = TensorDataset(torch.tensor(X).float(), torch.tensor([0, 1, 2]))
    part = examples_of(Subset(whole, [2, 0]))
    assert isinstance(part, TensorExamples)
    assert part.targets.tolist() == [2, 0]
    items = examples_of(Subset(Squares(), [2, 0]))
    assert items.work_per_sample
    assert items.batch(torch.tensor([0, 1])).targets.tolist() == [4, 0]


def test_map_style_and_iterable_datasets_are_recognised() -> None:
    examples = examples_of(Squares())
    assert isinstance(examples, MapExamples)
    assert examples.batch(ALL).targets.tolist() == [0, 1, 4]
    stream = Stream()
    assert examples_of(stream) is stream
    assert examples_of(DataLoader(stream)) is stream
    ready = TensorExamples(torch.zeros(2))
    assert examples_of(ready) is ready
    assert isinstance(ready, Examples)


def test_a_loaders_dataset_is_used_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    def collate(items: list) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([x for x, _ in items]) + 1, torch.tensor([y for _, y in items])

    with caplog.at_level(logging.INFO, logger="stepwell.data"):
        examples = examples_of(DataLoader(Squares(), batch_size=2, collate_fn=collate))
    assert "its dataset is used with its collate_fn" in caplog.text
    assert examples.batch(ALL).inputs.flatten().tolist() == [1.0, 2.0, 3.0]


NAN = float("nan")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((np.array([[1.0, 2.0], [3.0, NAN]]), [0, 1]), "inputs hold nan in row 1, column 1"),
        ((np.array([[1.0, 2.0], [np.inf, 1]]), [0, 1]), "inputs hold inf in row 1, column 0"),
        ((pd.DataFrame({"age": [1.0, NAN]}), [0, 1]), "row 1, column 'age'"),
        ((pd.DataFrame({"age": pd.array([1, None], dtype="Int64")}), [0, 1]), "row 1, column 'age'"),
        (({"a": torch.tensor([1.0, -np.inf])}, [0, 1]), r"inputs\['a'\] hold -inf in row 1"),
        ((X, [0.0, NAN, 1.0]), "targets hold nan in row 1"),
        ((X, [0.0, 1.0, 2.0], [1.0, NAN, 1.0]), "weights hold nan in row 1"),
        ((X, [0.0, 1.0, 2.0], [1.0, -1.0, 1.0]), "negative"),
        ((X, [0, 1]), "different numbers of examples: 3, 2"),
        ((X[:0], []), "no examples"),
        ((pd.DataFrame({"name": ["a", "b"]}), [0, 1]), "column 'name' holds values of type str"),
        ((X, ["a", "b", "c"]), "expected numbers"),
        ((pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}), [0]), "column 'day' holds values of type datetime"),
        ((X, X, X, X), "tuple of 4"),
        (np.array([1 + 2j]), "complex"),
    ],
)
def test_bad_values_are_refused_with_their_place(data: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        examples_of(data)


def test_large_finite_values_are_not_taken_for_infinite() -> None:
    examples = examples_of(np.full((4, 2), 3e38, dtype="float32"))
    assert len(examples) == 4


def test_a_frame_that_is_not_pandas_is_read_by_its_columns() -> None:
    class Column:
        dtype = "Float64"

    class Frame:  # the part of polars' interface that is used
        columns = ("a", "b")

        def __getitem__(self, name: str) -> Column:
            return Column()

        def to_numpy(self) -> np.ndarray:
            return X

    assert torch.equal(examples_of(Frame()).inputs, torch.tensor(X).float())
