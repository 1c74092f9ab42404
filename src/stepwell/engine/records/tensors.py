"""Tensors by name as safetensors, the only form in which they are stored: no code, and the same bytes for the same tensors.

A file from a stranger is checked before a tensor is made: a regular file, no larger than this machine's memory, its header
short enough and with few enough entries to be read at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError
from stepwell.engine.records.storage import read_bytes
from stepwell.engine.records.strict_json import parse_json

__all__ = ["MOST_HEADER", "MOST_TENSORS", "decode_tensors", "encode_tensors", "read_tensors", "tensor_pieces"]

MOST_HEADER = 8 << 20  # bytes of JSON; a model of 7 billion parameters in 32 layers needs some 30 thousand
MOST_TENSORS = 20_000  # the library takes seconds for 100,000 empty ones
MOST_DIMENSIONS = 64
_KINDS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        OSError: it isn't there or can't be read.
        RunFolderError: a link, a pipe or a device, or more bytes than this machine has memory.
        DataError: it isn't such a file, is damaged, or its header passes the limits.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return decode_tensors(read_bytes(path, most=memory), name=str(path))


def decode_tensors(content: bytes, *, name: str) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file, in the order of their names.

    Args:
        name: what errors call it, a path for example.

    Raises:
        DataError: damaged, or a header beyond `MOST_HEADER` bytes or `MOST_TENSORS` tensors.

    >>> decode_tensors(encode_tensors({"bias": torch.ones(2)}), name="example")
    {'bias': tensor([1., 1.])}
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    _check_header(content, name)
    try:
        read = load(content)
    # A kind of number that torch doesn't have is a KeyError, a shape that it can't have is a RuntimeError.
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise _damaged(name, str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error
    return {key: read[key] for key in sorted(read)}


def encode_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file. Equal tensors give equal bytes, whatever their order, strides or device.

    Tensors that share memory are written apart.

    Raises:
        DataError: a sparse or quantised tensor, or a kind of number that the format has no form for.
    """
    return b"".join(tensor_pieces(tensors))


def tensor_pieces(tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
    """The bytes of a safetensors file one after the other, the tensors' own memory among them: nothing large is copied.

    Args:
        tensors: stay as they are until the pieces were written.

    Raises:
        DataError: as `encode_tensors`.
    """
    plain = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    # The format's own order: wide numbers first, so that each begins at a multiple of its width; then by name.
    names = sorted(plain, key=lambda name: (-plain[name].element_size(), name))
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        start, end = end, end + plain[name].numel() * plain[name].element_size()
        header[name] = {"dtype": _KINDS[plain[name].dtype], "shape": list(plain[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(names) > MOST_TENSORS or len(text) > MOST_HEADER:  # nothing is written that could not be read again
        raise DataError(
            f"{len(names)} tensors with a header of {len(text)} bytes are too many for one file",
            expected=f"at most {MOST_TENSORS} tensors and {MOST_HEADER} bytes",
            fix="Split them, or give them shorter names",
        )
    return [len(text).to_bytes(8, "little") + text, *(_memory(plain[name]) for name in names if plain[name].numel())]


def _plain(name: str, tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise DataError(f"tensor {name} is sparse or quantised", expected="dense tensors", fix="Convert it: tensor.to_dense()")
    if tensor.dtype not in _KINDS:
        raise DataError(
            f"safetensors has no form for {tensor.dtype}, of tensor {name}",
            expected="real numbers, or complex64",
            fix="Convert it",
        )
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()


def _memory(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_header(content: bytes, name: str) -> None:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise _damaged(name, "it is shorter than its own header says")
    if length > MOST_HEADER:
        raise _damaged(name, f"its header has {length} bytes, {MOST_HEADER} at most are read")
    try:
        header = parse_json(content[8 : 8 + length])
    except ValueError as error:
        raise _damaged(name, f"its header can't be read: {str(error)[:150]}") from error
    entries = [entry for key, entry in header.items() if key != "__metadata__"] if isinstance(header, dict) else [None]
    if len(entries) > MOST_TENSORS:
        raise _damaged(name, f"its header lists {len(entries)} tensors, {MOST_TENSORS} at most are read")
    for entry in entries:
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS:
            raise _damaged(name, "its header is not one of safetensors")


def _damaged(name: str, why: str) -> DataError:
    return DataError(
        f"{name} can't be read as safetensors ({why})",
        expected="a whole .safetensors file",
        fix="Get the file anew, or save it again: safetensors.torch.save_file(model.state_dict(), path)",
    )
