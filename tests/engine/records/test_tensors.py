"""Tensors as safetensors: the same bytes for the same tensors, and strangers' files refused before a tensor is made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from stepwell.core.errors import DataError, RunFolderError
from stepwell.engine.records.tensors import MOST_HEADER, MOST_TENSORS, decode_tensors, encode_tensors, read_tensors

MEMORY = torch.arange(10.0)
TENSORS = {
    "b": MEMORY[:4].view(2, 2),
    "a": MEMORY[4:],
    "bfloat": torch.ones(3, 4, dtype=torch.bfloat16),
    "half": torch.full((2,), 0.5, dtype=torch.float16),
    "double": torch.tensor([float("nan"), float("-inf")], dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3),
    "truth": torch.tensor([True, False]),
    "byte": torch.tensor([255], dtype=torch.uint8),
    "complex": torch.ones(2, dtype=torch.complex64) * 1j,
    "ünï": torch.ones(1, dtype=torch.int16),
}


def file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: Any = (1,), kind: str = "F32", end: int = 4) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [0, end]}


def test_the_library_reads_what_we_write_and_we_read_what_the_library_writes() -> None:
    whole = {name: tensor.clone().contiguous() for name, tensor in TENSORS.items()}
    for read in (
        load(encode_tensors(TENSORS)),
        decode_tensors(save(whole), name="x"),
        decode_tensors(encode_tensors(whole), name="x"),
    ):
        assert set(read) == set(TENSORS)
        for name, tensor in TENSORS.items():
            assert read[name].dtype == tensor.dtype
            torch.testing.assert_close(read[name], tensor, atol=0, rtol=0, equal_nan=True)


def test_equal_tensors_give_equal_bytes_whatever_their_order_strides_or_memory() -> None:
    turned = {name: tensor.clone() for name, tensor in reversed(TENSORS.items())}
    turned["bfloat"] = turned["bfloat"].t().contiguous().t()
    turned["complex"] = turned["complex"].conj().resolve_conj().conj()
    assert encode_tensors(TENSORS) == encode_tensors(turned)
    assert encode_tensors({}) == encode_tensors({})
    assert decode_tensors(encode_tensors({}), name="x") == {}


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.ones(1, dtype=torch.complex128)], ids=["sparse", "complex128"]
)
def test_what_the_format_has_no_form_for_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(DataError):
        encode_tensors({"a": tensor})


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"1234567",
    "header longer than the file": (10**15).to_bytes(8, "little") + b"{}",
    "header beyond the limit": file(b" " * MOST_HEADER + b"{}"),
    "too many tensors": file({str(number): entry([0], end=0) for number in range(MOST_TENSORS + 1)}),
    "no json": file(b"{'a': 1}"),
    "not utf-8": file(b'{"\xff": 1}'),
    "a list": file(b"[]"),
    "deep": file(b"[" * 200_000),
    "a name twice": file(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", bytes(4)),
    "an entry that is a number": file({"a": 1}),
    "no shape": file({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "a huge shape": file({"a": entry([2**40, 2**40])}, bytes(4)),
    "a huge shape of nothing": file({"a": entry([0, 2**62, 8], end=0)}),
    "a negative shape": file({"a": entry([-1])}, bytes(4)),
    "many dimensions": file({"a": entry([1] * 65)}, bytes(4)),
    "a long number": file(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', bytes(4)),
    "an unknown kind": file({"a": entry(kind="F4", shape=[8])}, bytes(4)),
    "an unheard-of kind": file({"a": entry(kind="X9")}, bytes(4)),
    "offsets beyond the file": file({"a": entry(end=8, shape=[2])}, bytes(4)),
    "overlap": file({"a": entry(), "b": entry()}, bytes(4)),
    "a hole": file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)),
    "bytes after the end": file({"a": entry()}, bytes(8)),
    "metadata that is no text": file({"__metadata__": {"a": 1}}),
    "a pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^w\.safetensors can't be read as safetensors"):
        decode_tensors(content, name="w.safetensors")


def test_links_and_pipes_are_refused_and_the_file_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(encode_tensors({"a": torch.ones(2)}))
    (tmp_path / "link").symlink_to(tmp_path / "w.safetensors")
    os.mkfifo(tmp_path / "pipe")
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["a"], torch.ones(2))
    for name in ("link", "pipe", "."):
        with pytest.raises((RunFolderError, IsADirectoryError)):
            read_tensors(tmp_path / name)
