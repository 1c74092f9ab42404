"""Models that ask for more memory than there is, and training runs with them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_runs import rows
from torch import Tensor, nn

BATCH, STEPS = 16, 24
SAID: dict[str, Callable[[int], Exception]] = {
    "host": lambda size: RuntimeError(
        f"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate {size}"
        " bytes. Error code 12 (Cannot allocate memory)"
    ),
    "device": lambda size: torch.OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU 0 has a total capacity of 1.00 GiB"
    ),
    "python": lambda size: MemoryError(),
    "library": lambda size: RuntimeError("std::bad_alloc"),
}


class Hungry(nn.Module):
    """A small network that fails where more than `room` samples are in a forward pass.

    Args:
        room: samples, training; None for any number.
        room_evaluating: the same in evaluations.
        after: steps from which on there is so little room.
        said: what is raised, a key of SAID.
        norm: "layer", "batch", or "frozen" for batch norm that keeps its statistics.
    """

    def __init__(
        self,
        room: int | None,
        *,
        room_evaluating: int | None = None,
        after: int = 0,
        said: str = "host",
        norm: str = "layer",
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.last, self.drop = nn.Linear(6, 12), nn.Linear(12, 2), nn.Dropout(0.2)
        self.norm: nn.Module = nn.LayerNorm(12) if norm == "layer" else nn.BatchNorm1d(12)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        self.frozen = norm == "frozen"
        self.room, self.room_evaluating, self.after, self.said = room, room_evaluating, after, said
        self.seen: list[int] = []  # samples of each training pass
        self.failures = self.failed_evaluating = self.kept_alive = 0
        self._held: list[weakref.ref[Tensor]] = []

    def train(self, mode: bool = True) -> Hungry:
        super().train(mode)
        if getattr(self, "frozen", False):
            self.norm.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        self.kept_alive += sum(held() is not None for held in self._held)
        self._held = []
        hidden = self.norm(self.first(inputs))
        if not torch.is_grad_enabled():
            if self.room_evaluating is not None and len(inputs) > self.room_evaluating:
                self.failed_evaluating += 1
                raise SAID[self.said](4096)
        elif self.training:
            self.seen.append(len(inputs))
            if self.room is not None and len(inputs) > self.room and self.passed_samples > self.after * BATCH:
                self.failures += 1
                gc.collect()
                self._held = [weakref.ref(hidden)]
                raise SAID[self.said](3 << 20)
        return self.last(self.drop(torch.relu(hidden)))

    @property
    def passed_samples(self) -> int:
        return sum(self.seen)


def learn(model: nn.Module, folder: Path | None, **changes: Any) -> Any:
    """24 steps of 16 samples, with evaluations and checkpoints on the way; the run."""
    import stepwell

    recipe: dict[str, Any] = {"objective": "cross_entropy", "optimizer": {"name": "adamw", "lr": 1e-2}, "batch_size": BATCH}
    recipe |= {"techniques": [{"name": "clip_norm", "max_norm": 0.5}, {"name": "ema", "half_life": "4 steps"}]}
    recipe |= {name: changes.pop(name) for name in list(changes) if name in ("objective", "micro_batch_size", "optimizer")}
    settings: dict[str, Any] = {"budget": f"{STEPS} steps", "seed": 7, "checkpoint_every": "5 steps", "evaluate_every": "8 steps"}
    data, val = rows(0, 96), rows(1, 40)
    return stepwell.fit(
        model, data, val=val, recipe=stepwell.Recipe(**recipe), out=folder, existing="resume", **(settings | changes)
    )


def bits(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Values to the bit, as JSON can hold them."""
    flat = {name: tensor.detach().cpu().reshape(-1) for name, tensor in tensors.items()}
    return {name: tensor.view(torch.uint8).numpy().tobytes().hex() for name, tensor in flat.items()}
