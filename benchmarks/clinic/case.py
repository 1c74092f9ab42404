"""One patient: how its setup is built, what ails it, and what would cure it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

Setup = dict[str, Any]
"""The keywords of `stepwell.diagnose`: model, train, val, loss, optimizer, batch_size, epochs, shuffle."""


@dataclass(frozen=True)
class Case:
    """A setup with its truth.

    Args:
        name: unique; words joined by hyphens.
        build: gives the setup anew from a seed: data, model and initial weights follow from it alone.
        accept: ids of findings that name the cause, the best one first; none for a healthy setup.
        tolerate: ids that are true of the setup as well: neither right nor wrong.
        fix: the reference fix, from a setup to a mended one; None where only the author of the model or the data can mend it.
        skill: how validation outputs are judged, higher is better, 1 is perfect: "accuracy", "balanced_accuracy", "r2".
        source: the real report it restates, or what makes a healthy one look odd.
        architecture: "mlp", "cnn", "rnn", "transformer".
        data: "table", "image", "sequence".
        floor: of a healthy setup, the skill that its plain loop reaches at least.
        changes_data: the fix mends training data or validation data too, so skills before and after don't compare.
    """

    name: str
    build: Callable[[int], Setup]
    accept: tuple[str, ...]
    skill: Literal["accuracy", "balanced_accuracy", "r2"]
    source: str
    architecture: Literal["mlp", "cnn", "rnn", "transformer"] = "mlp"
    data: Literal["table", "image", "sequence"] = "table"
    tolerate: tuple[str, ...] = ()
    fix: Callable[[Setup], Setup] | None = None
    floor: float = 0.0
    changes_data: bool = False

    @property
    def healthy(self) -> bool:
        return not self.accept


def drawn(seed: int, purpose: str) -> torch.Generator:
    """A generator that follows from the seed and what it is for."""
    mixed = sum(ord(letter) * 31**place for place, letter in enumerate(purpose))
    return torch.Generator().manual_seed((seed * 1_000_003 + mixed) % 2**31)
