"""Image files from somebody who wants them to cost: halves, bombs, and formats that start programs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from hostile_data import chunk, picture


def png(width: int, height: int, *, content: bytes = b"", before: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def images() -> Iterator[tuple[str, str, bytes]]:
    """Image files by name; each stands among good ones."""
    whole = picture(size=(64, 64))
    for share in (0, 1, 8, 20, 33, 60, 100, 1000, len(whole) // 2, len(whole) - 20, len(whole) - 1):
        yield f"a PNG cut at {share}", "bad.png", whole[:share]
    for form, name in (
        ("JPEG", "bad.jpg"),
        ("GIF", "bad.gif"),
        ("WEBP", "bad.webp"),
        ("TIFF", "bad.tif"),
        ("BMP", "bad.bmp"),
        ("PPM", "bad.ppm"),
    ):
        content = picture(form, size=(64, 64))
        for share in (len(content) // 3, len(content) * 9 // 10):
            yield f"a {form} cut at {share}", name, content[:share]
        for seed in range(3):
            changed = bytearray(content)
            for place in np.random.default_rng(seed).integers(2, min(len(content), 400), 8):
                changed[place] ^= 0x55
            yield f"a {form} with changed bytes {seed}", name, bytes(changed)
    yield "a PNG of 10^10 pixels", "bad.png", png(100_000, 100_000, content=zlib.compress(b"\0" * 1000))
    yield "a PNG of 2^31 pixels a side", "bad.png", png((1 << 31) - 1, (1 << 31) - 1)
    yield "a PNG of no pixels", "bad.png", png(0, 0)
    yield (
        "a PNG of 170 million pixels",
        "bad.png",
        png(13_000, 13_000, content=zlib.compress(b"\0" * (13_000 * 13_000 // 8), 9), depth=1, colour=0),
    )
    yield "a PNG of 80 million pixels", "bad.png", png(9_000, 9_000, content=gzip_zeros(9_000 * 1_126), depth=1, colour=0)
    yield "a PNG with a text bomb", "bad.png", png(4, 4, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * (80 << 20), 9)))
    yield "a PNG with a profile bomb", "bad.png", png(4, 4, before=chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x" * (80 << 20), 9)))
    yield "a PNG with a long chunk", "bad.png", b"\x89PNG\r\n\x1a\n" + b"\x7f\xff\xff\xffIHDR"
    yield "a GIF of many frames", "bad.gif", picture("GIF", mode="P", save_all=True, append_images=[])[:-1] * 3
    yield "a PPM of 10^12 pixels", "bad.ppm", b"P6 1000000 1000000 255\n"
    yield "a PPM of long numbers", "bad.ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"
    yield (
        "a BMP of 2^31 rows",
        "bad.bmp",
        b"BM" + b"\0" * 12 + struct.pack("<IiiHHIIiiII", 40, 1 << 30, 1 << 30, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield "a TIFF that points at itself", "bad.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"
    yield "a TIFF of many tags", "bad.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\x00\x01\x04\0\x01\0\0\0\xff\xff\xff\xff" * 65_535
    yield (
        "PostScript",
        "bad.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(canary) (w) file closefile\nshowpage\n%%EOF\n",
    )
    yield (
        "PostScript in a TIFF's name",
        "bad.tif",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
    )
    yield "an SVG", "bad.png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "XML entities", "bad.png", b'<!DOCTYPE a [<!ENTITY b "x">' + b'<!ENTITY c "&b;&b;">' * 30 + b"]><svg>&c;</svg>"
    yield "a FITS file", "bad.png", b"SIMPLE  =                    T" + b" " * 3000
    yield "a PSD file", "bad.png", b"8BPS\0\x01" + b"\0" * 6 + struct.pack(">HIIHH", 3, 300_000, 300_000, 8, 3) + b"\0" * 64
    yield "an ICO file", "bad.png", b"\0\0\x01\0\x01\0" + b"\0" * 8 + struct.pack("<II", 1 << 30, 22)
    yield "an MPO file", "bad.jpg", picture("JPEG") + picture("JPEG")
    yield "a JPEG of 65,000 a side", "bad.jpg", _jpeg_of(65_000)
    yield "no image", "bad.png", b"import os; os.system('touch canary')"


def gzip_zeros(number: int) -> bytes:
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(bytes(1 << 20)) for _ in range(number >> 20)) + packer.compress(bytes(number % (1 << 20)))
    return content + packer.flush()


def _jpeg_of(side: int) -> bytes:
    content = bytearray(picture("JPEG"))
    place = content.find(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return bytes(content)
