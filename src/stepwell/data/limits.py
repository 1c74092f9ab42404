"""What a small file may grow to: compressed content from elsewhere is refused before it fills the memory."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from stepwell.core.errors import DataError

__all__ = ["MOST_COLUMNS", "MOST_PIXELS", "refuse_growth", "require_modest_gzip", "unpacked"]

# Up to this size content may have been compressed as well as it can be; above it, by no more than the ratio. Masks and
# one-hot codes reach 1000 to 1, measurements 10 to 1.
FREE_BYTES = 256 << 20
RATIO = 200
MOST_COLUMNS = 50_000  # of a table; readers of tables spend kilobytes on each
MOST_PIXELS = 64 << 20  # of one image; decoded it takes four bytes for each, twice
_PIECE = 1 << 20


def refuse_growth(path: Path, num_bytes: int, *, fix: str) -> None:
    """Refuse a file that says it holds far more than its size lets expect.

    Args:
        path: the file.
        num_bytes: of its content, once it is unpacked.
        fix: how to write it so that it can be read.

    Raises:
        DataError: more than 256 MiB, and more than 200 times its size.
    """
    size = path.stat().st_size
    if num_bytes > max(FREE_BYTES, RATIO * size):
        raise DataError(
            f"{path.name} has {size:,} bytes and would become {num_bytes:,} or more",
            expected=f"at most {RATIO} times the file's size, or {FREE_BYTES >> 20} MiB",
            fix=fix,
            where=path.name,
        )


def unpacked(path: Path) -> bytes:
    """The content of a file, unpacked where its name ends in .gz.

    Raises:
        OSError, EOFError, zlib.error: it can't be read or is no whole gzip file.
        DataError: it would grow beyond the limits.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    require_modest_gzip(path)
    return gzip.decompress(path.read_bytes())


def require_modest_gzip(path: Path) -> None:
    """Refuse a .gz file that would grow beyond the limits; what it holds is counted, not kept."""
    if path.stat().st_size * 1032 <= FREE_BYTES:  # deflate can't do better than 1032 to 1
        return
    with path.open("rb") as file:
        packer, length = zlib.decompressobj(31), 0
        while piece := file.read(_PIECE):
            while piece:
                try:
                    length += len(packer.decompress(piece, _PIECE))
                except zlib.error:
                    return  # the reader will say what is wrong with it
                piece = packer.unconsumed_tail
                if packer.eof:  # another member may follow
                    piece, packer = packer.unused_data, zlib.decompressobj(31)
                refuse_growth(path, length, fix="Unpack it with gunzip, and name the plain file")
