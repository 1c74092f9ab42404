"""New data for a trained model: which kinds of file its run reads, told before another kind is tried."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwell.core.errors import DataError
from stepwell.data.images import SUFFIXES
from stepwell.data.preparation import Preparation
from stepwell.recipe.run_paths import PICKLED

__all__ = ["Kind", "kind_read_by", "require_kind"]

_CSV, _PARQUET, _LINES = (".csv", ".tsv", ".gz"), (".parquet", ".pq"), (".jsonl", ".ndjson")
_ARRAYS = (".npz", ".npy")
_OTHERS = (".safetensors", ".json", ".xlsx", ".xls", ".yaml", ".yml", ".zip")
# Endings that say what a file holds; any other may be text, and is left to the reader.
_TELLING = (".csv", ".tsv", *_PARQUET, *_LINES, *_ARRAYS, *SUFFIXES, *PICKLED, *_OTHERS)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a run reads.

    Args:
        words: in words.
        endings: of its files, out of those that tell what a file holds.
        folder, file: whether it may be one.
        way: how to get there.
    """

    words: str
    endings: tuple[str, ...]
    way: str
    file: bool = True
    folder: bool = False


def require_kind(preparation: Preparation, data: Any) -> None:
    """Refuse a file of a kind that the run doesn't read.

    Args:
        preparation: of the run.
        data: a path, or a frame, which is left to the reader.

    Raises:
        DataError: a file whose ending says another kind, a folder for a file, or a file for a folder.
    """
    if not isinstance(data, (str, Path)) or not Path(data).expanduser().exists():
        return  # the reader says what is missing
    path, kind = Path(data).expanduser(), kind_read_by(preparation.reader)
    ending = path.suffix.lower()
    if path.is_dir():
        what = None if kind.folder else f"{path} is a folder"
    elif not kind.file:
        what = f"{path} is a file"
    else:
        other = ending in _TELLING and ending not in kind.endings
        what = f"{path.name} ends in {ending}" if other else None
    if what is None:
        return
    if path.is_file() and ending in PICKLED:
        what += ": pickled objects, which are not loaded, since that would run any code in them"
    expected = f"the kind of data that this run was trained on, {kind.words}"
    raise DataError(what, expected=expected, fix=kind.way)


def kind_read_by(reader: Any) -> Kind:
    """What a reader takes.

    >>> from stepwell.data.text import TextReader
    >>> kind_read_by(TextReader(characters="ab", length=4)).words
    'a UTF-8 text file'
    """
    inner: Any = getattr(reader, "inner", None)
    if reader.kind in ("table", "series"):
        names = list(dict.fromkeys(column.name for column in _columns(reader)))
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        way = "Write it as a table: pandas.DataFrame(values, columns=[...]).to_csv('new.csv', index=False)"
        return Kind(f"a CSV or Parquet file with the columns {shown}", (*_CSV, *_PARQUET), way)
    if reader.kind == "documents":
        words = f"a .csv, .tsv or .parquet file with a column {reader.text!r}, a .jsonl file, or a folder of .txt files"
        return Kind(words, (*_CSV, *_PARQUET, *_LINES), f"Put the texts into a CSV column {reader.text!r}", folder=True)
    if reader.kind == "text":
        return Kind("a UTF-8 text file", (*_CSV, ".json", ".yaml", ".yml", *_LINES), "Save the text itself, in UTF-8")
    if reader.kind == "images" or (reader.kind == "masked_images" and inner.kind == "images"):
        single = reader.kind == "images"
        words = ("an image file, or " if single else "") + "a folder of images"
        return Kind(words, SUFFIXES, "Save each image as a .png file in one folder", file=single, folder=True)
    if reader.kind == "groups":
        keys = ", ".join(reader.members)
        given = ", ".join(f"{name}=..." for name in reader.members)
        way = f"Write them with numpy.savez('new.npz', {given})"
        return Kind(f"an .npz file with the arrays {keys}, or with inputs alone", (".npz",), way)
    return kind_read_by(inner) if inner is not None else _of_arrays(reader)


def _of_arrays(reader: Any) -> Kind:
    shape = ", ".join(map(str, ("N", *reader.shape)))
    if reader.form == "idx":
        words = f"an idx file of images, or a folder with one, of shape ({shape})"
        return Kind(words, (".gz",), "Name the images file, such as t10k-images-idx3-ubyte", folder=True)
    name = reader.inputs or "inputs"
    if reader.form == "npy":
        stem = name.removesuffix(".npy")
        words = f"a folder with {stem}.npy, of shape ({shape})"
        return Kind(words, (), f"Write it with numpy.save('FOLDER/{stem}.npy', values)", file=False, folder=True)
    way = f"Write it with numpy.savez('new.npz', {name}=values)"
    return Kind(f"an .npz file with the array {name}, of shape ({shape})", (".npz",), way)


def _columns(reader: Any) -> list[Any]:
    if reader.kind == "table":
        return [*reader.columns.numeric, *reader.columns.categories]
    return [*reader.numeric, *reader.categories, *reader.known]
