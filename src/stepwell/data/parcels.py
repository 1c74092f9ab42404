"""Objects between two processes: tensors travel as the bytes they are, large ones in memory that the other side maps.

The memory is anonymous (`memfd_create`), so it neither needs room in /dev/shm nor stays behind when a process is killed.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
import torch.multiprocessing  # what can't travel as bytes (sparse tensors, objects that hold tensors) goes its way
from torch import Tensor

__all__ = ["Line"]

_HEAD = struct.Struct("!QQB")  # bytes of the object, bytes of its tensors, whether those come as a file descriptor
LARGEST_INLINE = 1 << 16  # bytes; below, a copy is cheaper than a mapping
_ALIGNED = 64  # bytes, as torch allots: some kernels choose their path by alignment
READ, WRITE = "read", "write"


@dataclass(frozen=True)
class _Piece:
    # A tensor in the parcel: `extent` elements at `place` (bytes), to be seen with these sizes and strides.
    place: int
    extent: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def opened(self, memory: Any, *, copied: bool) -> Tensor:
        if not self.extent:
            return torch.empty(0, dtype=self.dtype).as_strided(self.size, self.stride)
        flat = torch.frombuffer(memory, dtype=self.dtype, count=self.extent, offset=self.place)
        return (flat.clone() if copied else flat).as_strided(self.size, self.stride)


class Line:
    """One end of a socket pair that carries objects; tensors arrive with the bits and strides they had.

    Args:
        end: the socket. Where it doesn't block, `wait` is asked to.
        wait: called with "read" or "write" until the end is ready for it; raises to give up.

    >>> one, other = (Line(end) for end in socket.socketpair())
    >>> one.send({"x": torch.arange(3), "name": "a"})
    >>> other.receive()
    {'x': tensor([0, 1, 2]), 'name': 'a'}
    """

    def __init__(self, end: socket.socket, wait: Callable[[str], None] | None = None) -> None:
        self.end, self._wait = end, wait

    def send(self, value: Any) -> None:
        """Hand over an object.

        Raises:
            EOFError: the other side has gone.
        """
        pieces: list[Tensor] = []
        total = 0

        def taken(tensor: Tensor) -> Any:
            nonlocal total
            if not _travels(tensor):
                return tensor
            size, stride = tuple(tensor.shape), tensor.stride()
            extent = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if tensor.numel() else 0
            pieces.append(tensor.detach().as_strided((extent,), (1,)))
            piece = _Piece(total, extent, tensor.dtype, size, stride)
            total += -(-extent * tensor.element_size() // _ALIGNED) * _ALIGNED
            return piece

        told = bytes(ForkingPickler.dumps(_mapped(taken, Tensor, value)))
        content = [piece.view(torch.uint8).numpy().data for piece in pieces]
        memory = _in_memory(content, total) if total > LARGEST_INLINE else None
        try:
            if memory is None:
                self._push(_HEAD.pack(len(told), total, 0) + told)
                for part in content:
                    self._push(part)
                    self._push(bytes(-len(part) % _ALIGNED))
            else:
                head = _HEAD.pack(len(told), total, 1)
                sent = socket.send_fds(self.end, [head], [memory])
                self._push(head[sent:] + told)
        except ConnectionError as error:
            raise EOFError from error
        finally:
            if memory is not None:
                os.close(memory)

    def receive(self) -> Any:
        """The next object.

        Raises:
            EOFError: the other side has gone.
        """
        descriptors: list[int] = []
        try:
            length, total, apart = _HEAD.unpack(self._pull(_HEAD.size, descriptors))
            told = self._pull(length)
            # Only our own loader processes hold the other end.
            skeleton = ForkingPickler.loads(told)
            memory: Any = b"" if total == 0 else _mapping(descriptors[0], total) if apart else self._pull(total)
        except ConnectionError as error:
            raise EOFError from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return _mapped(lambda piece: piece.opened(memory, copied=not apart), _Piece, skeleton)

    def close(self) -> None:
        """The other side sees the end at once, whoever else holds this socket."""
        with suppress(OSError):  # it has gone already
            self.end.shutdown(socket.SHUT_RDWR)
        self.end.close()

    def _push(self, content: Any) -> None:
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[self.end.send(rest) :]
            except BlockingIOError:
                self._until(WRITE)

    def _pull(self, size: int, descriptors: list[int] | None = None) -> bytearray:
        content = bytearray(size)
        rest = memoryview(content)
        while rest:
            try:
                if descriptors is None:
                    count = self.end.recv_into(rest)
                else:
                    piece, found, _, _ = socket.recv_fds(self.end, len(rest), 1)
                    descriptors += found
                    count = len(piece)
                    rest[:count] = piece
            except BlockingIOError:
                self._until(READ)
                continue
            if not count:
                raise EOFError
            rest = rest[count:]
        return content

    def _until(self, what: str) -> None:
        assert self._wait is not None, "an end that doesn't block needs a wait"
        self._wait(what)


def _mapped(function: Callable[[Any], Any], kind: type, tree: Any) -> Any:
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, dict):
        return {key: _mapped(function, kind, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [_mapped(function, kind, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _travels(tensor: Tensor) -> bool:
    plain = type(tensor) is Tensor and tensor.layout is torch.strided and tensor.device.type == "cpu"
    return plain and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def _in_memory(content: list[memoryview], total: int) -> int | None:
    """A descriptor of anonymous memory that holds the pieces, or None where the system gives none: then they go inline."""
    try:
        memory = os.memfd_create("stepwell-batch")
    except (AttributeError, OSError):
        return None
    try:
        os.ftruncate(memory, total)
        place = 0
        for part in content:
            rest = part
            while rest:
                rest = rest[os.pwrite(memory, rest, place + len(part) - len(rest)) :]
            place += -(-len(part) // _ALIGNED) * _ALIGNED
    except OSError:
        os.close(memory)
        return None
    return memory


def _mapping(descriptor: int, total: int) -> mmap.mmap:
    return mmap.mmap(descriptor, total, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
