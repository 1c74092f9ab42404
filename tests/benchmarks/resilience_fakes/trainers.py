"""Trainers whose behaviour is known: 20 steps, a save every 5, weights that are a chain of hashes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from benchmarks.resilience_peers import task

PACKAGES = ("torch", "no-such-package")
SETTINGS = {name: task.Setting(name, 5) for name in ("careful", "careless", "forgetful", "random", "hanging")}
NUM_STEPS = 20


def save_carefully(folder: Path, step: int, weights: bytes) -> None:
    """A new file with a checksum, renamed when it is whole."""
    content = bytes([step]) + weights
    (folder / "new.tmp").write_bytes(hashlib.sha256(content).digest() + content)
    os.replace(folder / "new.tmp", folder / f"save-{step:02d}")


def save_carelessly(folder: Path, step: int, weights: bytes) -> None:
    """Over the old file, and no word when it fails."""
    with contextlib.suppress(OSError):
        (folder / "save").write_bytes(bytes([step]) + weights)


def load(folder: Path) -> tuple[int, bytes]:
    """The newest save; a careful one is checked, and said and passed over where it is damaged."""
    for path in sorted(folder.glob("save*"), reverse=True):
        content = path.read_bytes()
        if path.name == "save":
            return content[0], content[1:]
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return content[32], content[33:]
        logging.getLogger("fake").warning("%s is corrupt", path.name)
    return 0, start()


def start() -> bytes:
    """The weights before the first step: 64 bytes."""
    return hashlib.sha512(b"start").digest()


def train(call: task.Call) -> task.Trained:
    """Train, or go on after an interruption."""
    if call.setting == "hanging" and call.resume:
        while True:
            pass
    step, weights = load(call.folder) if call.resume and call.setting != "forgetful" else (0, start())
    while step < NUM_STEPS:
        task.step_begins(lambda now=weights: now)
        step += 1
        weights = hashlib.sha512(weights + bytes([step]) + (os.urandom(8) if call.setting == "random" else b"")).digest()
        if step % 5 == 0:
            (save_carefully if call.setting == "careful" else save_carelessly)(call.folder, step, weights)
    return task.Trained({"weights": weights}, step)
