"""Modules and tensors that a model uses but doesn't have as its parts: in lists, dicts, plain attributes, closures, partials."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.doctor.rows import tensors

_DEEPEST = 4


@dataclass(frozen=True)
class Hidden:
    """One of them.

    Args:
        owner: name of the registered module that reaches it.
        path: of attribute and keys below the owner.
        value: the module or tensor.
    """

    owner: str
    path: str
    value: nn.Module | Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """What of it could train."""
        found = list(self.value.parameters()) if isinstance(self.value, nn.Module) else [self.value]
        return [part for part in found if part.is_floating_point()]

    @property
    def where(self) -> str:
        return f"{self.owner}.{self.path}" if self.owner else self.path

    def register_(self, model: nn.Module) -> None:
        """Make it a part of its owner: as a module or a parameter."""
        owner = model.get_submodule(self.owner)
        name = "registered_" + "".join(letter if letter.isalnum() else "_" for letter in self.path)
        if isinstance(self.value, nn.Module):
            owner.add_module(name, self.value)
        elif isinstance(self.value, nn.Parameter):
            owner.register_parameter(name, self.value)
        elif "." not in self.path:
            value = self.value.detach().clone()
            delattr(owner, self.path)
            owner.register_parameter(self.path, nn.Parameter(value))


def hidden_parts(model: nn.Module) -> list[Hidden]:
    """All of them, each once, in the order of the model's modules."""
    known = {id(part) for part in model.modules()} | {id(part) for part in (*model.parameters(), *model.buffers())}
    found: list[Hidden] = []
    for owner, module in model.named_modules():
        for name, value in list(vars(module).items()):
            if name in ("_parameters", "_buffers", "_modules") or name.endswith("_hooks"):
                continue
            for path, part in _within(value, name, 0):
                if id(part) not in known:
                    known.add(id(part))
                    if isinstance(part, nn.Module):
                        known |= {id(inner) for inner in (*part.modules(), *part.parameters(), *part.buffers())}
                    found.append(Hidden(owner, path, part))
    return found


def _within(value: Any, path: str, depth: int) -> Iterator[tuple[str, nn.Module | Tensor]]:
    if isinstance(value, (nn.Module, Tensor)):
        if not isinstance(value, Tensor) or (value.is_floating_point() and value.numel() > 1):
            yield path, value
        return
    if depth >= _DEEPEST:
        return
    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inner = iter(list(value.items()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = iter(list(enumerate(value)))
    elif isinstance(value, functools.partial):
        inner = iter(list(enumerate((value.func, *value.args, *value.keywords.values()))))
    elif isinstance(value, types.FunctionType):
        inner = iter([(number, cell.cell_contents) for number, cell in enumerate(value.__closure__ or ())])
    elif isinstance(value, types.MethodType):
        inner = iter([("self", value.__self__)])
    elif type(value).__module__ not in ("builtins", "torch", "collections") and hasattr(value, "__dict__"):
        inner = iter(list(vars(value).items()))
    for key, part in inner:
        yield from _within(part, f"{path}.{key}", depth + 1)


def matters(model: nn.Module, inputs: Any, parts: list[Tensor]) -> bool:
    """Whether outputs change once these tensors are nudged; they are as before afterwards."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = tensors(model(inputs))
        kept = [part.clone() for part in parts]
        try:
            for part in parts:
                part.add_(torch.randn(part.shape, generator=draw) * (0.1 * part.std(correction=0) + 0.01))
            after = tensors(model(inputs))
        finally:
            for part, value in zip(parts, kept, strict=True):
                part.copy_(value)
    return any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
