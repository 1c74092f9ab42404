"""Bugs, each a change to the product that holds for the rest of a child's life: the suites must notice every one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def no_flush_of_files() -> None:
    """What is written isn't flushed before its folder is renamed."""
    from stepwell.engine.records import checkpoint, storage

    def write_into(path: Path, pieces: Any) -> str:
        digest = hashlib.sha256()
        flags = storage.os.O_WRONLY | storage.os.O_CREAT | storage.os.O_EXCL
        handle = storage.os.open(path, flags, 0o600)
        for piece in pieces:
            storage.os.write(handle, piece)
            digest.update(piece)
        storage.os.close(handle)
        return digest.hexdigest()

    checkpoint.write_into = storage.write_into = write_into  # type: ignore[attr-defined]


def no_flush_of_folders() -> None:
    """A rename isn't made to last."""
    from stepwell.engine.records import storage

    storage.flush_folder = lambda folder: None


def prune_first() -> None:
    """Older checkpoints go before the new one is there."""
    from stepwell.engine.records import checkpoint, saver, storage

    save = saver.save_checkpoint

    def after_pruning(folder: Path, state: Any, *, step: int) -> Any:
        for place in checkpoint.checkpoints(folder)[1:]:
            storage.discard(place)
        return save(folder, state, step=step)

    saver.save_checkpoint = after_pruning  # type: ignore[attr-defined]


def data_position_restored_early() -> None:
    """A resumed run reads the next batch but one: its order and its noise are those of another step."""
    from stepwell.engine.trainer import Trainer

    load = Trainer.load_state_dict

    def moved(self: Any, state: Any) -> None:
        load(self, state)
        self.step.cursor += 1

    Trainer.load_state_dict = moved  # type: ignore[method-assign]


def noise_restored_early() -> None:
    """Dropout draws from the global generator, seeded when the process starts, as in an ordinary loop."""
    import torch

    from stepwell.core.randomness import SeededDefaults

    torch.manual_seed(0)
    SeededDefaults.seed = lambda self, seed: None  # type: ignore[method-assign]
    SeededDefaults.hold = SeededDefaults.put_back = lambda self: None  # type: ignore[method-assign]


def average_counter_dropped() -> None:
    """The average comes back without the number of its updates: its decay warms up once more."""
    from stepwell.core.updates.averaging import NamedAverage

    load = NamedAverage.load_state_dict

    def uncounted(self: Any, state: Any) -> None:
        load(self, state)
        self.num_updates = 0

    NamedAverage.load_state_dict = uncounted  # type: ignore[method-assign]


def checksums_skipped() -> None:
    """Every sum is the same."""
    from stepwell.engine.records import checkpoint

    write = checkpoint.write_into

    def unsummed(path: Path, pieces: Any) -> str:
        write(path, pieces)
        return "0" * 64

    checkpoint.write_into = unsummed  # type: ignore[attr-defined]
    checkpoint.sha256 = lambda content: "0" * 64  # type: ignore[attr-defined]


def unsafe_yaml() -> None:
    """Job files are read by the loader that runs what they ask for."""
    import yaml

    from stepwell.recipe import files

    files.parse = lambda text, place: yaml.unsafe_load(text)  # type: ignore[attr-defined]


def failures_called_saved() -> None:
    """A save that failed counts as one that went well."""
    from stepwell.core.errors import RunFolderError
    from stepwell.engine.records import saver

    save = saver.save_checkpoint

    def never_failing(folder: Path, state: Any, *, step: int) -> Any:
        try:
            return save(folder, state, step=step)
        except RunFolderError:
            return saver.Saved(folder / f"step-{step}", step, "0" * 64, 0)  # type: ignore[attr-defined]

    saver.save_checkpoint = never_failing  # type: ignore[attr-defined]


def rows_kept() -> None:
    """What was logged after the checkpoint stays when training goes on from it."""
    from stepwell.engine.records.run_folder import RunFolder

    RunFolder.rewind = lambda self, rows: None  # type: ignore[method-assign]


def nothing() -> None:
    """No bug: what must be found with one must not be found without."""


Plant = Callable[[], None]
