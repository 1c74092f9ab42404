"""Data files and weights from somebody who wants them to cost: lying headers, bombs, depth, halves."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from hostile_pickles import zipped

Files = dict[str, bytes]
Case = dict[str, Any]

NPZ = {"kind": "source", "source": "npz", "settings": {"path": "data.npz"}}
NPY = {"kind": "source", "source": "npy", "settings": {"path": "."}}
TABLE = {"kind": "source", "source": "table", "settings": {"path": "data.csv", "target": "y"}}
PARQUET = {"kind": "source", "source": "table", "settings": {"path": "data.parquet", "target": "y"}}
LINES = {"kind": "source", "source": "documents", "settings": {"path": "data.jsonl"}}
TEXT = {"kind": "source", "source": "text", "settings": {"path": "data.txt", "length": 4}, "task": "language_modeling"}
IDX = {"kind": "source", "source": "idx", "settings": {"path": "."}}
IMAGES = {"kind": "source", "source": "images", "settings": {"path": "pictures", "size": 4}, "split": {"by": "random"}}
MASKS = {"kind": "source", "source": "segmentation", "settings": {"path": "data.npz"}, "task": "segmentation"}
SERIES = {"kind": "source", "source": "series", "settings": {"path": "data.csv", "target": "y"}, "task": "regression"}
WEIGHTS = {"kind": "weights", "file": "model.safetensors"}
THESAURUS = {"kind": "thesaurus", "file": "words.txt"}
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def array(values: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, np.asarray(values), allow_pickle=False)
    return made.getvalue()


def header(descr: str, shape: str, *, order: str = "False", more: str = "") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


ROWS = np.arange(80, dtype="float32").reshape(40, 2)
CLASSES = np.arange(40) % 2
GOOD_NPZ = {"inputs.npy": array(ROWS), "targets.npy": array(CLASSES)}
GOOD_TABLE = b"a,b,y\n" + b"".join(b"%d,%d,%d\n" % (n, n * n % 7, n % 2) for n in range(40))
GOOD_LINES = b"".join(b'{"text": "a word or %d", "target": "c%d"}\n' % (n, n % 2) for n in range(40))
GOOD_IDX = {
    IDX_NAMES[0]: b"\0\0\x08\x03" + struct.pack(">III", 20, 4, 4) + bytes(range(160)) * 2,
    IDX_NAMES[1]: b"\0\0\x08\x01" + struct.pack(">I", 20) + bytes(n % 2 for n in range(20)),
    IDX_NAMES[2]: b"\0\0\x08\x03" + struct.pack(">III", 4, 4, 4) + bytes(64),
    IDX_NAMES[3]: b"\0\0\x08\x01" + struct.pack(">I", 4) + bytes([0, 1, 0, 1]),
}


def picture(form: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (8, 8), **settings: Any) -> bytes:
    from PIL import Image

    made = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype="uint8")
    Image.fromarray(noise).convert(mode).save(made, form, **settings)
    return made.getvalue()


def pictures(bad: bytes, name: str = "bad.png") -> Files:
    """Two classes of good images, and one file more."""
    good = picture()
    files = {f"pictures/{label}/{n}.png": good for label in ("a", "b") for n in range(3)}
    return files | {f"pictures/a/{name}": bad}


MASKED = {f"{folder}/{n}.png": picture(mode="L") for folder in ("images", "masks") for n in "xyz"}
MASK_FILES = {"kind": "source", "source": "segmentation", "settings": {"path": "."}, "task": "segmentation"}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def good() -> dict[str, tuple[Files, Case]]:
    """What each reader takes: it loads whatever it needs, and shows that the cases below begin from good files."""
    import pandas

    made = io.BytesIO()
    pandas.DataFrame({"a": ROWS[:, 0], "y": CLASSES}).to_parquet(made)
    tensors = safetensors({"w": ("F32", [2], [0, 8])}, b"\0" * 8)
    noise = {
        "images.npy": array(np.arange(640, dtype="uint8").reshape(40, 4, 4) % 251),
        "masks.npy": array(np.ones((40, 4, 4), int)),
    }
    noise["masks.npy"] = array(np.arange(640).reshape(40, 4, 4) % 2)
    return {
        "npz": ({"data.npz": zipped(GOOD_NPZ, stored=False)}, NPZ),
        "npy": (GOOD_NPZ, NPY),
        "table": ({"data.csv": GOOD_TABLE}, TABLE),
        "table.gz": ({"data.csv.gz": gzip.compress(GOOD_TABLE)}, TABLE | {"settings": {"path": "data.csv.gz", "target": "y"}}),
        "parquet": ({"data.parquet": made.getvalue()}, PARQUET),
        "lines": ({"data.jsonl": GOOD_LINES}, LINES),
        "text": ({"data.txt": b"to be or not to be " * 20}, TEXT),
        "idx": (GOOD_IDX, IDX),
        "idx.gz": ({name + ".gz": gzip.compress(content) for name, content in GOOD_IDX.items()}, IDX),
        "images": (pictures(picture("JPEG"), "good.jpg"), IMAGES),
        "masks": ({"data.npz": zipped(noise)}, MASKS),
        "mask files": (MASKED, MASK_FILES),
        "series": ({"data.csv": GOOD_TABLE}, SERIES),
        "weights": ({"model.safetensors": tensors}, WEIGHTS),
        "thesaurus": ({"words.txt": b"big: large, huge\n"}, THESAURUS),
    }


def safetensors(entries: Any, content: bytes = b"", *, length: int | None = None) -> bytes:
    text = (
        entries
        if isinstance(entries, bytes)
        else json.dumps(
            {name: {"dtype": kind, "shape": shape, "data_offsets": places} for name, (kind, shape, places) in entries.items()}
        ).encode()
    )
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def weights() -> Iterator[tuple[str, bytes]]:
    """Headers of safetensors files that promise what they don't hold."""
    one = ("F32", [2], [0, 8])
    eight = b"\0" * 8
    yield "an empty file", b""
    yield "seven bytes", b"\0" * 7
    yield "an empty header", safetensors(b"")
    yield "a header of 1 TB", safetensors(b"{}", length=1 << 40)
    yield "a header of 2^64 - 1", safetensors(b"{}", length=(1 << 64) - 1)
    yield "a header of 100 MB of spaces", safetensors(b"{}" + b" " * (30 << 20))
    yield "a header that is a list", safetensors(b"[]")
    yield "a header that is a number", safetensors(b"1")
    yield "a header that is no JSON", safetensors(b"{'a': 1}")
    yield "a header that is no text", safetensors(b"\xff\xfe{}")
    yield "a deep header", safetensors(b'{"a":' * 100_000)
    yield "deep lists", safetensors(b'{"a": ' + b"[" * 200_000)
    yield "a long number", safetensors(b'{"w": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}', eight)
    yield (
        "one name twice",
        safetensors(
            b'{"w": %s, "w": %s}' % ((json.dumps({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}).encode(),) * 2), eight
        ),
    )
    yield "overlapping tensors", safetensors({"a": one, "b": one}, eight)
    yield "a hole between tensors", safetensors({"a": one, "b": ("F32", [2], [16, 24])}, b"\0" * 24)
    yield "bytes left over", safetensors({"a": one}, b"\0" * 800)
    yield "bytes missing", safetensors({"a": one}, b"\0" * 4)
    yield "offsets backwards", safetensors({"a": ("F32", [2], [8, 0])}, eight)
    yield "offsets below zero", safetensors({"a": ("F32", [2], [-8, 0])}, eight)
    yield "offsets beyond 2^64", safetensors({"a": ("F32", [2], [0, 1 << 65])}, eight)
    yield "offsets that are text", safetensors(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}}', eight)
    yield "a huge shape", safetensors({"a": ("F32", [1 << 40], [0, 8])}, eight)
    yield "a shape that overflows", safetensors({"a": ("F32", [1 << 33, 1 << 33], [0, 8])}, eight)
    yield "a shape of zero and 2^62", safetensors({"a": ("F32", [0, 1 << 62, 1 << 62], [0, 0])})
    yield "a negative shape", safetensors({"a": ("F32", [-2], [0, 8])}, eight)
    yield "a shape of fractions", safetensors({"a": ("F32", [0.5], [0, 8])}, eight)
    yield "ten thousand dimensions", safetensors({"a": ("F32", [1] * 10_000, [0, 4])}, b"\0" * 4)
    yield "an unknown kind of number", safetensors({"a": ("OBJ", [2], [0, 8])}, eight)
    yield "a kind of number with a path", safetensors({"a": ("os.system", [2], [0, 8])}, eight)
    yield "60,000 empty tensors", safetensors({f"t{n}": ("F32", [0], [0, 0]) for n in range(60_000)})
    yield "25,000 empty tensors", safetensors({f"t{n}": ("F32", [0], [0, 0]) for n in range(25_000)})
    yield "metadata that is code", safetensors(b'{"__metadata__": {"__reduce__": "os.system"}}')
    yield "metadata that is a list", safetensors(b'{"__metadata__": ["x"]}')
    yield "metadata of numbers", safetensors(b'{"__metadata__": {"a": 1}}')
    yield "no tensors", safetensors(b"{}")
    yield "entries that are null", safetensors(b'{"a": null}')
    yield "entries without a shape", safetensors(b'{"a": {"dtype": "F32", "data_offsets": [0, 8]}}', eight)
    yield (
        "entries with more",
        safetensors(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "code": "os.system"}}', eight),
    )
    for name in (
        "../../canary",
        "/canary",
        "a\0b",
        "x" * 10_240,
        "",
        "\u202e",
        "__class__",
        "__dict__.x",
        "weight\n",
        "..",
        "con",
    ):
        yield f"a tensor called {name[:12]!r}", safetensors({name: one}, eight)


def arrays() -> Iterator[tuple[str, bytes]]:
    """.npy files whose headers lie, or are code."""
    yield "an empty file", b""
    yield "a magic number", b"\x93NUMPY"
    yield "version 9", b"\x93NUMPY\x09\x00" + b"\0" * 20
    yield "a header of 4 GB", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"
    yield "a header of spaces", b"\x93NUMPY\x02\x00" + struct.pack("<I", 20 << 20) + b" " * (20 << 20)
    yield "a header that calls", header("__import__('os').system('touch canary')", "(2,)") + b"\0" * 16
    yield "a header that lists", header("'<f4'", "[x for x in ().__class__.__bases__]") + b"\0" * 16
    yield "a deep header", header("'<f4'", "(" * 3000 + ")" * 3000)
    yield "a header of minus signs", header("'<f4'", "-" * 9000 + "1")
    yield "objects", header("'|O'", "(2,)") + b"\x80\x02N."
    yield "records of objects", header("[('a', '|O')]", "(2,)") + b"\0" * 16
    yield "nested records", header("[('a', [('b', [('c', '<f4')])])]", "(2,)") + b"\0" * 8
    yield "void", header("'|V16'", "(40,)") + b"\0" * 640
    yield "times", header("'<M8[s]'", "(40,)") + b"\0" * 320
    yield "complex numbers", header("'<c8'", "(40, 2)") + b"\0" * 640
    yield "long doubles", header("'<f16'", "(40, 2)") + b"\0" * 1280
    yield "text of gigabytes", header("'<U1000000000'", "(40,)") + b"\0" * 64
    yield "items of no bytes", header("'|V0'", "(1000000000000,)")
    yield "text of no letters", header("'<U0'", "(1000000000000,)")
    yield "a huge shape", header("'<f4'", "(1000000000000,)") + b"\0" * 16
    yield "a shape that overflows", header("'<f4'", "(4294967296, 4294967296)") + b"\0" * 16
    yield "a shape of no columns", header("'<f4'", "(1000000000000, 0)")
    yield "a shape of zero and much", header("'<f4'", "(40, 0, 4611686018427387904)")
    yield "a negative shape", header("'<f4'", "(-1,)") + b"\0" * 16
    yield "a shape of truth", header("'<f4'", "(True, 2)") + b"\0" * 16
    yield "a shape of fractions", header("'<f4'", "(40.0, 2)") + b"\0" * 320
    yield "no shape", header("'<f4'", "()") + b"\0" * 4
    yield "a hundred dimensions", header("'<f4'", "(" + "1," * 100 + ")") + b"\0" * 4
    yield "keys too many", header("'<f4'", "(2,)", more="'x': 1") + b"\0" * 8
    yield "an unknown kind", header("'os.system'", "(2,)") + b"\0" * 8
    yield "a dictionary as kind", header("{'names': ['a'], 'formats': ['|O']}", "(2,)") + b"\0" * 16
    yield "half of the values", array(ROWS)[:200]
    yield "NaN", array(ROWS * np.nan)
    yield "more than there is", array(ROWS) + b"\0" * 4096


def archives() -> Iterator[tuple[str, bytes]]:
    """.npz files: bombs, lies, and members under other names."""
    zeros = header("'<f4'", "(40, 8000000)") + b"\0" * (40 * 8_000_000 * 4 // 40)
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made,
        made.open("inputs.npy", "w", force_zip64=True) as member,
    ):
        member.write(header("'<f4'", "(40, 4194304)"))
        for _ in range(40 * 4):
            member.write(bytes(4 << 20))
    with zipfile.ZipFile(bomb, "a") as made:
        made.writestr("targets.npy", GOOD_NPZ["targets.npy"])
    yield "640 MB of zeros", bomb.getvalue()
    yield "less than the header says", zipped({"inputs.npy": zeros[:1000], "targets.npy": GOOD_NPZ["targets.npy"]})
    yield (
        "a promise of terabytes",
        zipped({"inputs.npy": header("'<f4'", "(40, 100000000000)"), "targets.npy": GOOD_NPZ["targets.npy"]}),
    )
    yield "one name twice", _twice("inputs.npy")
    yield "names that leave", zipped({"../../canary.npy": GOOD_NPZ["inputs.npy"], "/canary": b"x"})
    yield "a name of 60 KB", zipped({"x" * 60_000 + ".npy": GOOD_NPZ["inputs.npy"]})
    yield "a name with NUL", zipped({"inputs.npy\0.png": GOOD_NPZ["inputs.npy"]})
    yield "65,000 members", zipped({f"a{n}.npy": b"" for n in range(65_000)})
    yield "a zip in a zip", zipped({"inputs.npy": zipped(GOOD_NPZ), "targets.npy": zipped(GOOD_NPZ)})
    yield "a member that is no array", zipped({"inputs.npy": b"PK\x03\x04", "targets.npy": b"x" * 100})
    yield "a member without an ending", zipped({"inputs": b"import os", "targets": b"x"})
    yield "an encrypted member", _flagged(zipped(GOOD_NPZ), 1)
    yield "an unknown method", _method(zipped(GOOD_NPZ), 99)
    yield "a changed byte", _changed(zipped(GOOD_NPZ))
    yield "half of it", zipped(GOOD_NPZ)[:400]
    yield "only its end", zipped(GOOD_NPZ)[-22:]
    yield "an end that points nowhere", b"PK\x05\x06" + b"\0" * 4 + b"\xff\xff" * 2 + b"\xff\xff\xff\x00" * 2 + b"\0\0"
    yield "zip64 of nothing", b"PK\x06\x07" + b"\xff" * 16 + b"PK\x05\x06" + b"\xff" * 18
    yield "a comment of 60 KB", zipped(GOOD_NPZ)[:-2] + struct.pack("<H", 60_000) + b"PK\x05\x06" * 15_000
    yield "lengths that differ", zipped({"inputs.npy": array(ROWS), "targets.npy": array(CLASSES[:7])})


def _twice(name: str) -> bytes:
    import warnings

    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as archive:
        warnings.simplefilter("ignore")
        for content in (GOOD_NPZ["inputs.npy"], header("'|O'", "(1,)") + b"\x80\x02N."):
            archive.writestr(name, content)
        archive.writestr("targets.npy", GOOD_NPZ["targets.npy"])
    return made.getvalue()


def _flagged(content: bytes, flag: int) -> bytes:
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(mark)
        changed[at + place] |= flag
    return bytes(changed)


def _method(content: bytes, method: int) -> bytes:
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        changed[changed.find(mark) + place] = method
    return bytes(changed)


def _changed(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[200] ^= 1
    return bytes(changed)


def tables() -> Iterator[tuple[str, str, bytes]]:
    """Tables by file name."""
    yield "a million columns", "data.csv", b",".join(b"c%d" % n for n in range(1_000_000)) + b",y\n" + b"0," * 1_000_000 + b"1\n"
    yield (
        "200,000 columns and rows",
        "data.csv",
        b",".join(b"c%d" % n for n in range(200_000)) + b",y\n" + (b"0," * 200_000 + b"1\n") * 4,
    )
    yield "a million empty columns", "data.csv", b"," * 1_000_000 + b"\n"
    yield "one column many times", "data.csv", b"a," * 50_000 + b"y\n" + b"1," * 50_000 + b"0\n"
    yield "NUL bytes", "data.csv", b"a,y\n" + b"1\0,2\n" * 40
    yield "NUL bytes in the header", "data.csv", b"a\0,y\n" + b"1,2\n" * 40
    yield "nothing but NUL", "data.csv", b"\0" * 100_000
    yield "a field of 30 MB", "data.csv", b"a,y\n" + b"x" * (30 << 20) + b",1\n1,0\n"
    yield "a quote that never ends", "data.csv", b'a,y\n"' + b"1,0\n" * 500_000
    yield "quotes", "data.csv", b'"' * 1_000_000
    yield "line ends", "data.csv", b"\n" * 1_000_000
    yield "carriage returns", "data.csv", b"a,y\r" * 100_000
    yield "numbers beyond any", "data.csv", b"a,y\n" + b"1e999,0\n-1e999,1\n" * 20
    yield "a number of 100,000 digits", "data.csv", b"a,y\n" + b"9" * 100_000 + b",1\n" + b"1,0\n" * 40
    yield "formulas", "data.csv", b"=cmd|'/C calc'!A0,y\n" + b"1,0\n2,1\n" * 20
    yield "names of 10 KB", "data.csv", b"x" * 10_240 + b",z\n" + b"1,0\n2,1\n" * 20
    yield "escape codes", "data.csv", b"\x1b[31ma,\x1b]0;x\x07,y\n" + b"1,2,0\n2,x,1\n" * 20
    yield "names that are code", "data.csv", b"__class__,{self.__init__},z\n" + b"1,2,0\n2,x,1\n" * 20
    yield "200,000 classes", "data.csv", b"a,y\n" + b"".join(b"1,c%d\n" % n for n in range(200_000))
    yield "10 GB of rows in gzip", "data.csv.gz", gzip_bomb(b"a,y\n", b"1,0\n" * (1 << 18), 2_500)
    yield "no gzip", "data.csv.gz", b"\x1f\x8b" + b"\0" * 30
    yield "half of a gzip", "data.csv.gz", gzip.compress(GOOD_TABLE)[:-12]
    yield "a wrong sum in gzip", "data.csv.gz", gzip.compress(GOOD_TABLE)[:-8] + b"\0" * 8
    yield "a table that is a zip", "data.csv", zipped(GOOD_NPZ)
    yield "no Parquet", "data.parquet", b"PAR1" + b"\0" * 100 + b"PAR1"
    yield "a footer of 4 GB", "data.parquet", b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\xffPAR1"
    yield "Parquet of nothing", "data.parquet", b"PAR1"
    yield "half of a Parquet", "data.parquet", parquet({"a": [1.0, 2.0] * 20, "y": [0, 1] * 20})[:-100]
    yield "Parquet of 50 million equal rows", "data.parquet", _many_rows()
    yield "nested Parquet", "data.parquet", parquet({"a": [[1, 2], [3]] * 20, "y": [0, 1] * 20})
    yield "Parquet with pandas metadata", "data.parquet", _with_metadata()
    for seed in range(12):
        changed = bytearray(parquet({"a": [float(n) for n in range(40)], "b": ["x", "y"] * 20, "y": [0, 1] * 20}))
        for place in np.random.default_rng(seed).integers(4, len(changed) - 8, 6):
            changed[place] ^= 1 << (seed % 8)
        yield f"changed bytes in Parquet {seed}", "data.parquet", bytes(changed)


def gzip_bomb(start: bytes, piece: bytes, times: int) -> bytes:
    """`start` and then `piece` many times, compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = packer.compress(start)
    # A flushed piece repeats byte for byte, so that compressing it once is enough.
    content += packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.flush()
    return content + one * times + end


def parquet(columns: dict[str, Any], **settings: Any) -> bytes:
    import pyarrow
    import pyarrow.parquet

    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), made, **settings)
    return made.getvalue()


def _many_rows() -> bytes:
    # Runs of one value: some kilobytes.
    import pyarrow
    import pyarrow.parquet

    made = io.BytesIO()
    schema = pyarrow.schema([("a", pyarrow.float64()), ("y", pyarrow.int64())])
    rows = 1 << 22
    piece = pyarrow.table({"a": np.zeros(rows), "y": np.zeros(rows, dtype="int64")}, schema=schema)
    with pyarrow.parquet.ParquetWriter(made, schema, data_page_size=1 << 30, write_statistics=False) as writer:
        for _ in range(12):
            writer.write_table(piece, row_group_size=rows)
    return made.getvalue()


def _with_metadata() -> bytes:
    import pyarrow

    told = {
        "index_columns": ["__import__('os')"],
        "columns": [{"name": "a", "pandas_type": "object", "numpy_type": "object", "metadata": None}],
    }
    table = pyarrow.table({"a": [1.0, 2.0] * 20, "y": [0, 1] * 20}).replace_schema_metadata({"pandas": json.dumps(told)})
    import pyarrow.parquet

    made = io.BytesIO()
    pyarrow.parquet.write_table(table, made)
    return made.getvalue()


def lines() -> Iterator[tuple[str, bytes]]:
    """.jsonl files."""
    yield "a deep line", b'{"text": ' + b"[" * 200_000 + b"\n"
    yield "deep mappings", b'{"text": ' + b'{"a":' * 100_000 + b"\n"
    yield "a number of 5,000 digits", b'{"text": "a", "target": ' + b"9" * 5000 + b"}\n"
    yield "classes that are lists", b'{"text": "a b", "target": [1]}\n{"text": "a b", "target": [1, 2]}\n' * 10
    yield "classes that are mappings", b'{"text": "a b", "target": {"a": 1}}\n' * 20
    yield (
        "classes of several kinds",
        b'{"text": "a b", "target": 1}\n{"text": "a b", "target": "x"}\n{"text": "a", "target": true}\n' * 10,
    )
    yield "texts that are lists", b'{"text": ["a"], "target": 1}\n' * 10
    yield "half a surrogate pair", b'{"text": "\\ud800 a", "target": "\\udfff"}\n{"text": "b", "target": "b"}\n' * 10
    yield "words that are no JSON", b'{"text": "a", "target": NaN}\n{"text": "a", "target": Infinity}\n' * 10
    yield "keys twice", b'{"text": "a", "text": "b", "target": 1}\n' * 10
    yield "a line of 30 MB", b'{"text": "' + b"a " * (15 << 20) + b'", "target": 1}\n'
    yield "code", b'{"text": "a", "target": {"__reduce__": "os.system"}}\n' * 3
    yield "no text", b"\xff\xfe" * 100
    yield "bare words", b"os.system('touch canary')\n"
    yield "empty mappings", b"{}\n" * 1000


def idx() -> Iterator[tuple[str, Files]]:
    first = IDX_NAMES[0]
    yield "no bytes", GOOD_IDX | {first: b""}
    yield "four bytes", GOOD_IDX | {first: b"\0\0\x08\x03"}
    yield "sizes of 2^96", GOOD_IDX | {first: b"\0\0\x08\x03" + b"\xff" * 12 + b"\0" * 64}
    yield "255 dimensions", GOOD_IDX | {first: b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"\0"}
    yield "255 dimensions of much", GOOD_IDX | {first: b"\0\0\x08\xff" + b"\xff" * 1020}
    yield "no dimensions", GOOD_IDX | {first: b"\0\0\x08\0x"}
    yield "no images", GOOD_IDX | {first: b"\0\0\x08\x03" + struct.pack(">III", 0, 4, 4)}
    yield "images of no pixels", GOOD_IDX | {first: b"\0\0\x08\x03" + struct.pack(">III", 20, 0, 4)}
    yield "2^32 images of no pixels", GOOD_IDX | {first: b"\0\0\x08\x03" + struct.pack(">III", (1 << 32) - 1, 0, 0)}
    yield "floats", GOOD_IDX | {first: b"\0\0\x0d\x03" + struct.pack(">III", 20, 4, 4) + b"\0" * 1280}
    yield "labels for others", GOOD_IDX | {IDX_NAMES[1]: b"\0\0\x08\x01" + struct.pack(">I", 3) + b"\0\1\0"}
    yield "labels of two dimensions", GOOD_IDX | {IDX_NAMES[1]: b"\0\0\x08\x02" + struct.pack(">II", 20, 1) + bytes(20)}
    rest = {name: content for name, content in GOOD_IDX.items() if name != first}
    zeros = gzip_bomb(b"\0\0\x08\x03" + struct.pack(">III", 20, 4, 4), bytes(1 << 20), 1_500)
    yield "1.5 GB of zeros in gzip", rest | {first + ".gz": zeros}
    honest = gzip_bomb(b"\0\0\x08\x03" + struct.pack(">III", 1_500 << 4, 256, 256), bytes(1 << 20), 1_500)
    yield "1.5 GB of zeros as promised", rest | {first + ".gz": honest}
    yield "half a gzip", rest | {first + ".gz": gzip.compress(GOOD_IDX[first])[:60]}
    yield "no gzip", rest | {first + ".gz": b"\x1f\x8b\x08\0zzzz"}
    yield "bytes after the gzip", rest | {first + ".gz": gzip.compress(GOOD_IDX[first]) + b"zzzz"}


def texts() -> Iterator[tuple[str, Files, Case]]:
    """Texts and thesaurus files."""
    yield "a text of NUL", {"data.txt": b"\0" * 100_000}, TEXT
    yield "a text of every character", {"data.txt": "".join(map(chr, [*range(0xD800), *range(0xE000, 0x20000)])).encode()}, TEXT
    yield "a text of surrogates", {"data.txt": b"\xed\xa0\x80" * 100}, TEXT
    yield "a text of no text", {"data.txt": b"\x80" * 100}, TEXT
    yield "a text of one character", {"data.txt": b"a"}, TEXT
    yield "no text at all", {"data.txt": b""}, TEXT
    yield "a thesaurus without colons", {"words.txt": b"x" * 1_000_000}, THESAURUS
    yield "a thesaurus of one group", {"words.txt": b"big: " + b", ".join(b"w%d" % n for n in range(20_000))}, THESAURUS
    yield "a thesaurus of one word", {"words.txt": b"big: large\n" * 200_000}, THESAURUS
    yield "a thesaurus of colons", {"words.txt": b":" * 1_000_000}, THESAURUS
    yield "a thesaurus of commas", {"words.txt": b"a:" + b"," * 1_000_000}, THESAURUS
    yield "a thesaurus of no text", {"words.txt": b"\xff" * 1000}, THESAURUS
    yield "a thesaurus of code", {"words.txt": b"__import__('os').system('touch canary')\n"}, THESAURUS
    yield (
        "a thesaurus of everything",
        {"words.txt": b"big: " + b", ".join(b"w%d" % (n % 3000) for n in range(100_000))},
        THESAURUS,
    )
