"""Datasets with a sample that kills, raises or hangs, a given number of times, in whatever process reads it."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from small_runs import Noisy
from torch import Tensor

AT = 40  # the bad sample


class OddError(Exception):
    """One that can't be pickled, as many of libraries can't."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class Troubled(Noisy):
    """`Noisy`, whose sample 40 makes trouble.

    Args:
        trouble: the name of a signal, or another key of `cause`.
        times: how often it does; after that the sample is like the others.
        note: a file that counts them, whichever process it was.
    """

    def __init__(self, trouble: str, times: int, note: Path) -> None:
        super().__init__()
        self.trouble, self.times, self.note = trouble, times, str(note)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == AT and num_met(Path(self.note)) < self.times:
            with open(self.note, "a") as file:
                file.write(f"{os.getpid()}\n")
            cause(self.trouble)
        return super().__getitem__(index)


def num_met(note: Path) -> int:
    """How often trouble was met."""
    return len(note.read_text().split()) if note.exists() else 0


def cause(trouble: str) -> None:
    """Make some trouble, here and now."""
    faulthandler.disable()  # deaths that are meant need no report
    if trouble.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, trouble))
        time.sleep(1000)  # SIGSTOP
    elif trouble == "exit":
        os._exit(3)
    elif trouble == "sys.exit":
        sys.exit(1)
    elif trouble == "raise":
        raise OddError("the file is cut off")
    elif trouble == "hang":
        time.sleep(1000)
    elif trouble == "hang in C":
        ctypes.PyDLL(None).sleep(1000)  # the interpreter's lock is held all the while


class Varied:
    """Samples with tensors of many kinds, drawn from the global generators, large enough to travel in memory of their own."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "large": torch.rand(40, 50).t(),
            "half": torch.rand(3).to(torch.bfloat16),
            "flag": torch.rand(()) > 0.5,
            "none": torch.empty(0, 2),
            "number": index,
            "targets": torch.tensor(index % 3),
        }


def turned(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Puts samples together into views: transposed, expanded, cut out, and random."""
    large = torch.stack([item["large"] for item in items])
    return {
        "large": large.transpose(1, 2),
        "cut": large[:, 3:9, ::2],
        "wide": torch.tensor(1.5).expand(len(items), 4),
        "half": torch.stack([item["half"] for item in items]),
        "flag": torch.stack([item["flag"] for item in items]),
        "none": torch.stack([item["none"] for item in items]),
        "drawn": torch.rand(len(items)),
        "targets": torch.tensor([item["number"] for item in items]),
    }
