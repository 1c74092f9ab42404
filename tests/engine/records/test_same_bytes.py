"""Equal means equal bytes; the hash of weights is the one that the page describes."""

from __future__ import annotations

import hashlib
import struct

import pytest
import torch

from stepwell.engine.records.same_bytes import (
    bit_sum,
    first_row_difference,
    raw_bytes,
    same_value,
    tensor_differences,
    weight_hash,
)


def test_the_hash_is_that_of_names_kinds_shapes_and_little_endian_bytes_by_name() -> None:
    state = {"b": torch.tensor([[1, -2]], dtype=torch.int16), "a.w": torch.tensor([1.5, -0.0]), "extra": "no tensor"}
    spelled = b'["a.w", "float32", [2]]\n' + struct.pack("<2f", 1.5, -0.0)
    spelled += b'["b", "int16", [1, 2]]\n' + struct.pack("<2h", 1, -2)
    assert weight_hash(state) == hashlib.sha256(spelled).hexdigest()


def test_the_hash_depends_on_what_is_stored_and_not_on_how() -> None:
    square = torch.arange(6.0).view(2, 3)
    strided = torch.arange(6.0).view(2, 3).t().contiguous().t()
    assert weight_hash({"a": square, "b": square}) == weight_hash({"b": square, "a": strided})
    others = [{"a": square.view(3, 2)}, {"a": square.double()}, {"b": square}, {"a": square + 1}, {}]
    assert len({weight_hash(other) for other in [{"a": square}, *others]}) == 6


@pytest.mark.parametrize(
    "kind", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]
)
def test_every_kind_of_number_has_bytes(kind: torch.dtype) -> None:
    tensor = torch.tensor([0, 1, 1]).to(kind)
    assert len(raw_bytes(tensor)) == 3 * tensor.element_size()
    assert raw_bytes(tensor[1:]) == raw_bytes(tensor)[tensor.element_size() :]
    assert raw_bytes(tensor[1]) == raw_bytes(tensor[1:2])
    assert bit_sum([tensor]) != bit_sum([tensor[:2]])
    assert not tensor_differences({"t": tensor}, {"t": tensor.clone()})
    assert tensor_differences({"t": tensor}, {"t": tensor.flip(0)})[0].num_different == 2


def test_a_tensor_of_nans_is_the_same_as_itself_and_a_sign_of_zero_is_seen() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert tensor_differences({"t": nan}, {"t": nan.clone()}) == []
    [found] = tensor_differences({"t": torch.tensor([0.0])}, {"t": torch.tensor([-0.0])})
    assert (found.what, found.num_different, found.largest) == ("values", 1, 0.0)


def test_what_else_can_differ_in_a_tensor_is_named() -> None:
    before = {"gone": torch.ones(1), "kind": torch.ones(2), "shape": torch.ones(2)}
    now = {"shape": torch.ones(1, 2), "kind": torch.ones(2, dtype=torch.int64), "new": torch.ones(1)}
    assert [(item.name, item.what) for item in tensor_differences(before, now)] == [
        ("shape", "shape"),
        ("kind", "dtype"),
        ("new", "missing"),
        ("gone", "missing"),
    ]


def test_rows_part_at_a_value_a_column_or_a_length() -> None:
    rows = [{"step": 2, "loss": 0.5, "lr": 0.1}, {"step": 4, "loss": 0.25, "lr": 0.1}]
    assert first_row_difference("train", rows, [dict(row) for row in rows]) is None
    value = first_row_difference("train", rows, [rows[0], rows[1] | {"lr": 0.2}])
    assert value is not None
    assert (value.step, value.after, value.column, value.before, value.now) == (4, 2, "lr", 0.1, 0.2)
    column = first_row_difference("train", rows, [rows[0] | {"more": 1.0}, rows[1]], after=0)
    assert column is not None
    assert (column.step, column.after, column.column, column.before, column.now) == (2, 0, "more", None, 1.0)
    for before, now in ((rows, rows[:1]), (rows[:1], rows)):
        found = first_row_difference("train", before, now)
        assert found is not None
        assert (found.step, found.after, found.column) == (4, 2, "row")
        assert {found.before, found.now} == {4, None}


def test_values_of_other_types_are_not_the_same() -> None:
    assert same_value("a", "a")
    assert not same_value("1.0", 1.0)
    assert not same_value(None, 0.0)
    assert not same_value(1.0, 1.0 + 2**-52)
