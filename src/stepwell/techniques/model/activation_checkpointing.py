"""Activation checkpointing: blocks forget their inner activations and compute them again in the backward pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.errors import JobError, nearest
from stepwell.core.randomness import Rng

__all__ = ["ActivationCheckpointing", "checkpoint_", "repeated_blocks"]

_PLAIN = "_stepwell_plain_forward"
_SEGMENTS = "_stepwell_segments"


def checkpoint_(module: nn.Module) -> None:
    """Compute a module's inner activations again in the backward pass instead of keeping them, in place.

    Only `forward` is replaced: names, state_dict and type stay, and copies are checkpointed too. The second pass sees
    the same dropout masks and leaves batch-norm statistics alone. Nothing happens where no gradient is recorded.
    """
    if _PLAIN not in module.__dict__:
        module.__dict__[_PLAIN] = module.forward
        module.__dict__["forward"] = MethodType(_checkpointed, module)


def segment_(sequential: nn.Sequential, segments: int) -> None:
    """Checkpoint a Sequential in so many runs of consecutive modules, in place."""
    if _SEGMENTS not in sequential.__dict__:
        sequential.__dict__["forward"] = MethodType(_segmented, sequential)
    sequential.__dict__[_SEGMENTS] = segments


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Children of a Sequential or ModuleList that are of one type, two or more, with modules of their own inside.

    >>> len(repeated_blocks(nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)))))
    3
    """
    blocks: list[nn.Module] = []
    inside: set[int] = set()  # of a block already found: the outermost ones are taken
    for module in model.modules():
        if not isinstance(module, (nn.Sequential, nn.ModuleList)) or id(module) in inside:
            continue
        children = [child for child in module.children() if any(True for _ in child.children())]
        kinds = [type(child) for child in children]
        for child in children:
            if kinds.count(type(child)) > 1:
                blocks.append(child)
                inside.update(id(part) for part in child.modules())
    return blocks


def _checkpointed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    plain = module.__dict__[_PLAIN]
    if not torch.is_grad_enabled():
        return plain(*args, **kwargs)
    return _run(plain, [module], *args, **kwargs)


def _segmented(sequential: nn.Sequential, value: Any) -> Any:
    modules = list(sequential)
    segments = min(sequential.__dict__[_SEGMENTS], len(modules))
    if not torch.is_grad_enabled():
        return _chain(modules, value)
    bounds = [round(place * len(modules) / segments) for place in range(segments + 1)]
    for start, stop in itertools.pairwise(bounds):
        part = modules[start:stop]
        value = _run(lambda given, part=part: _chain(part, given), part, value)
    return value


def _chain(modules: Sequence[nn.Module], value: Any) -> Any:
    for module in modules:
        value = module(value)
    return value


def _run(function: Any, modules: Sequence[nn.Module], *args: Any, **kwargs: Any) -> Any:
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(norms)

    options: dict[str, Any] = {"context_fn": contexts} if norms else {}
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=True, **options, **kwargs)


@contextmanager
def _statistics_kept(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    # The first pass has averaged this batch in already. Momentum 0 keeps the running statistics to the bit, and
    # hiding the counter keeps it from counting twice.
    kept = [(norm.momentum, norm._buffers.get("num_batches_tracked")) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if "num_batches_tracked" in norm._buffers:
            norm._buffers["num_batches_tracked"] = None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum = momentum  # type: ignore[assignment]
            if "num_batches_tracked" in norm._buffers:
                norm._buffers["num_batches_tracked"] = counter


@technique(id="activation_checkpointing", slot="model", stage="wrap", paper="Chen et al. 2016, arXiv:1604.06174")
class ActivationCheckpointing:
    """Trade compute for memory: keep only the inputs of blocks and run each block again in the backward pass.

    What: about a third more time for memory that grows with the number of blocks instead of layers; gradients,
    dropout masks and batch-norm statistics are those of the plain model. Why: a deeper model or a larger batch in
    the same memory. When not: everything fits (it only costs time).

    Args:
        modules: names of the blocks, wildcards allowed ("blocks.*"). None takes repeated blocks of a Sequential or
            ModuleList; a model without any, but with a Sequential, is cut into `segments`.
        segments: runs of consecutive modules that each Sequential without repeated blocks is cut into, >= 1; None for
            the square root of its length, the paper's choice.

    Raises:
        JobError: a name that matches no module; a model with nothing to checkpoint.

    Paper: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174.

    >>> model = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(3)))
    >>> names = list(model.state_dict())
    >>> list(ActivationCheckpointing()(model, Rng(0)).state_dict()) == names
    True
    """

    modules: list[str] | None = None
    segments: int | None = None

    def __post_init__(self) -> None:
        fix = 'Write e.g. modules: ["blocks.*"], or leave modules out'
        good = self.modules is None or (isinstance(self.modules, (list, tuple)) and bool(self.modules))
        require(good, "activation_checkpointing.modules", self.modules, "a list of names", fix)
        good = self.segments is None or self.segments >= 1
        require(
            good, "activation_checkpointing.segments", self.segments, "a number from 1 up", "Leave it out for the square root"
        )

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        if self.modules is not None:
            for module in _named(model, self.modules):
                checkpoint_(module)
            return model
        blocks = repeated_blocks(model) if self.segments is None else []
        for block in blocks:
            checkpoint_(block)
        chains = [] if blocks else _outermost_chains(model)
        for chain in chains:
            segment_(chain, self.segments or math.isqrt(len(chain) - 1) + 1)
        if not blocks and not chains:
            raise JobError(
                "activation_checkpointing found no repeated blocks in the model",
                expected="blocks in an nn.Sequential or nn.ModuleList, or names of modules",
                fix='Name what to run again, e.g. modules: ["encoder"]',
            )
        return model


def _outermost_chains(model: nn.Module) -> list[nn.Sequential]:
    chains: list[nn.Sequential] = []
    inside: set[int] = set()
    for module in model.modules():
        # A subclass may have a forward of its own.
        if type(module) is nn.Sequential and len(module) > 1 and id(module) not in inside:
            chains.append(module)
            inside.update(id(part) for part in module.modules())
    return chains


def _named(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    names = [name for name, _ in model.named_modules() if name]
    chosen: list[str] = []
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise JobError(
                f"activation_checkpointing.modules has {pattern!r}, which matches no module of the model",
                expected="the name of a module, or a pattern such as 'blocks.*'",
                fix=nearest(pattern, names),
            )
        chosen += found
    # A module inside another chosen one would be run three times for nothing.
    outer = [name for name in dict.fromkeys(chosen) if not any(name.startswith(other + ".") for other in chosen)]
    return [model.get_submodule(name) for name in outer]
