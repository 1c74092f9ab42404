from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError
from stepwell.data.examples import Examples, MapExamples, Subset, TensorExamples, TokenExamples, WindowExamples, as_batch


def test_a_batch_of_tensors_is_the_indexed_rows_in_order() -> None:
    x, y, w = torch.randn(10, 3), torch.arange(10), torch.rand(10)
    index = torch.tensor([7, 0, 7])
    batch = TensorExamples({"a": x, "b": (x[:, :1],)}, y, w).batch(index)
    assert torch.equal(batch.inputs["a"], x[[7, 0, 7]])
    assert torch.equal(batch.inputs["b"][0], x[[7, 0, 7], :1])
    assert batch.targets.tolist() == [7, 0, 7]
    assert torch.equal(batch.weights, w[[7, 0, 7]])


def test_a_slice_has_the_bits_of_a_gather() -> None:
    x = torch.randn(64, 5, dtype=torch.float64)
    for examples in (TensorExamples(x, torch.arange(64)), TensorExamples({"x": x}, dtype=torch.float32)):
        one, other = examples.slice(8, 24), examples.batch(torch.arange(8, 24))
        first, second = (b.inputs if isinstance(b.inputs, torch.Tensor) else b.inputs["x"] for b in (one, other))
        assert torch.equal(first, second)
        assert first.dtype == second.dtype


@pytest.mark.parametrize(
    ("size", "columns", "aligned"), [(64, 3, True), (16, 1, True), (10, 3, False), (8, 2, True), (4, 3, False)]
)
def test_alignment_is_that_of_64_bytes(size: int, columns: int, aligned: bool) -> None:
    assert TensorExamples(torch.zeros(100, columns)).aligned(size) is aligned


def test_memory_mapped_rows_are_read_from_the_file_and_narrowed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 4))
    values.tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", dtype="float64", mode="r+", shape=(50, 4))
    examples = TensorExamples(torch.from_numpy(np.asarray(mapped)), dtype=torch.float32)
    batch = examples.batch(torch.tensor([49, 3]))
    assert batch.inputs.dtype == torch.float32
    assert torch.equal(batch.inputs, torch.from_numpy(values[[49, 3]]).float())


@pytest.mark.parametrize(
    ("inputs", "targets", "said"),
    [
        (torch.zeros(3, 2), torch.zeros(4), "3, 4"),
        (torch.zeros(0, 2), torch.zeros(0), "no examples"),
        (torch.tensor(1.0), None, "first dimension"),
    ],
)
def test_tensors_that_are_no_examples_are_refused(inputs: torch.Tensor, targets: torch.Tensor | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        TensorExamples(inputs, targets)


def test_token_windows_start_at_every_offset_and_targets_are_one_ahead() -> None:
    tokens = torch.randint(0, 200, (50,), dtype=torch.uint8)
    examples = TokenExamples(tokens, length=7)
    assert len(examples) == 43
    batch = examples.batch(torch.arange(43))
    for start in range(43):
        assert batch.inputs[start].tolist() == tokens[start : start + 7].tolist()
        assert batch.targets[start].tolist() == tokens[start + 1 : start + 8].tolist()
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert batch.inputs.is_contiguous()
    assert batch.targets.is_contiguous()


def test_token_windows_with_a_full_stride_predict_each_token_once() -> None:
    batch = TokenExamples(torch.arange(31), length=6, stride=6).batch(torch.arange(5))
    assert batch.targets.flatten().tolist() == list(range(1, 31))


def test_a_text_of_one_window_is_too_short() -> None:
    assert len(TokenExamples(torch.arange(5), length=4)) == 1
    with pytest.raises(DataError, match="4 tokens"):
        TokenExamples(torch.arange(4), length=4)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_window_ends_horizon_rows_before_its_target(horizon: int) -> None:
    series = torch.arange(20.0).view(20, 1) * torch.tensor([1.0, -1.0])
    examples = WindowExamples(series, torch.arange(20), length=4, horizon=horizon)
    assert len(examples) == 20 - 4 - horizon + 1
    batch = examples.batch(torch.arange(len(examples)))
    assert batch.inputs.shape == (len(examples), 4, 2)
    assert torch.equal(batch.inputs[:, -1, 0].long() + horizon, batch.targets)
    assert torch.equal(batch.inputs[0, :, 1], torch.tensor([0.0, -1.0, -2.0, -3.0]))


def test_window_rows_can_be_chosen_but_not_without_a_full_window() -> None:
    series = torch.arange(10.0).view(10, 1)
    chosen = WindowExamples(series, torch.arange(10), length=3, rows=torch.tensor([9, 5]))
    assert chosen.batch(torch.tensor([0, 1])).targets.tolist() == [9, 5]
    with pytest.raises(DataError, match="no full window"):
        WindowExamples(series, torch.arange(10), length=3, rows=torch.tensor([2]))
    with pytest.raises(DataError, match="too few"):
        WindowExamples(series[:3], torch.arange(3), length=3)


class Items(Dataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> object:
        return self.items[place]


def test_a_dataset_may_give_pairs_triples_dicts_and_lone_inputs() -> None:
    x = torch.randn(4, 2)
    index = torch.tensor([3, 1])
    forms: list[list] = [
        [(x[i], i) for i in range(4)],
        [(x[i], i, 0.5) for i in range(4)],
        [{"inputs": x[i], "targets": i} for i in range(4)],
        [x[i] for i in range(4)],
    ]
    for items in forms:
        batch = MapExamples(Items(items)).batch(index)
        assert torch.equal(batch.inputs, x[[3, 1]])
        assert batch.targets is None or batch.targets.tolist() == [3, 1]
    assert MapExamples(Items(forms[1])).batch(index).weights.tolist() == [0.5, 0.5]
    named = MapExamples(Items([{"ids": x[i], "mask": x[i], "labels": i} for i in range(4)])).batch(index)
    assert set(named.inputs) == {"ids", "mask"}
    assert named.targets.tolist() == [3, 1]


def test_a_datasets_doubles_become_floats_unless_kept() -> None:
    items = Items([(np.zeros(2), 1.5)])
    batch = MapExamples(items).batch(torch.tensor([0]))
    assert batch.inputs.dtype == batch.targets.dtype == torch.float32
    assert MapExamples(items, dtype=torch.float64).batch(torch.tensor([0])).targets.dtype == torch.float64


def test_items_of_different_shapes_are_refused_with_a_remedy() -> None:
    with pytest.raises(DataError, match="collate_fn"):
        MapExamples(Items([(torch.zeros(2), 0), (torch.zeros(3), 0)])).batch(torch.arange(2))
    with pytest.raises(DataError, match="no examples"):
        MapExamples(Items([]))
    with pytest.raises(DataError, match="where inputs should be"):
        as_batch(("text", 0))


def test_a_subset_renumbers_its_examples() -> None:
    for examples in (TensorExamples(torch.arange(10.0), torch.arange(10)), MapExamples([(float(i), i) for i in range(10)])):
        part = Subset(examples, torch.tensor([9, 4, 2]))
        assert isinstance(part, Examples)
        assert len(part) == 3
        assert part.work_per_sample == examples.work_per_sample
        assert part.batch(torch.tensor([2, 0])).targets.tolist() == [2, 9]
    with pytest.raises(DataError, match="no examples"):
        Subset(examples, torch.tensor([], dtype=torch.int64))


def test_a_users_own_batch_passes_through() -> None:
    batch = Batch(torch.zeros(2, 3), torch.zeros(2))
    assert as_batch(batch) is batch
