"""What the code of a module's class refers to, read from its compiled methods: what hooks and attributes can't show."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

__all__ = ["functions_called", "weights_read"]


def functions_called(kind: type, functions: tuple[Any, ...]) -> Iterator[tuple[Any, CodeType]]:
    """Those of some functions that the methods of a class name (`F.dropout`, or `dropout` after a from-import).

    Args:
        kind: a class; what it inherits from torch isn't read.

    >>> import torch.nn.functional as F
    >>> from torch import nn
    >>> class Noisy(nn.Module):
    ...     def forward(self, inputs): return F.dropout(inputs, 0.5)
    >>> [function.__name__ for function, _ in functions_called(Noisy, (F.dropout, F.relu))]
    ['dropout']
    """
    for method in _methods(kind):
        for code in _nested(method.__code__):
            value: Any = None
            for instruction in dis.get_instructions(code):
                if instruction.opname == "LOAD_GLOBAL":
                    value = method.__globals__.get(instruction.argval)
                elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                    value = getattr(value, instruction.argval, None)
                else:
                    value = None
                if any(value is function for function in functions):
                    yield value, code


def weights_read(kind: type) -> set[str]:
    """Names of children whose weight the methods of a class read, as in `F.linear(x, self.embedding.weight)`.

    Methods that set initial weights don't count.
    """
    found: set[str] = set()
    for method in _methods(kind):
        if any(word in method.__name__ for word in ("init", "reset")):
            continue
        for code in _nested(method.__code__):
            before = ""
            for instruction in dis.get_instructions(code):
                loads = instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
                if loads and instruction.argval == "weight" and before:
                    found.add(before)
                before = instruction.argval if loads else ""
    return found


def _methods(kind: type) -> list[FunctionType]:
    own = [base for base in kind.__mro__ if base.__module__.split(".")[0] not in ("torch", "builtins")]
    return [value for base in own for value in vars(base).values() if isinstance(value, FunctionType)]


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _nested(const)
