"""A stand-in for `os` inside stepwell's storage: it sees every call that changes a file, and can refuse or end there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepwell.engine.records import storage

CHANGING = ("open", "write", "fsync", "close", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "ftruncate", "read")
BY_HANDLE = ("write", "fsync", "close", "ftruncate", "read")


@dataclass(frozen=True)
class Call:
    """One call to the operating system.

    Args:
        kind: "open", "write", "fsync" and so on; "fsync folder" for the fsync of a folder, "open to read" for reading.
        path: what it is about; of a rename the new name, and `old` the one before.
        args: as storage gave them.
    """

    kind: str
    path: str
    old: str = ""
    args: tuple[Any, ...] = field(default=(), repr=False, compare=False)


class Calls:
    """Stands for `os`. Subclasses say what happens at a call by `at`; everything else is the real module's."""

    def __init__(self) -> None:
        self._paths: dict[int, tuple[str, bool]] = {}

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        """Do the call by `go_on()`, do it with other arguments, or do something else."""
        return go_on()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGING:
            return real

        def called(*args: Any, **settings: Any) -> Any:
            call = self._call(name, args)
            result = self.at(call, lambda *others: real(*(others or args), **settings))
            if name == "open":
                self._paths[result] = (call.path, os.path.isdir(call.path))
            return result

        return called

    def _call(self, name: str, args: tuple[Any, ...]) -> Call:
        if name in BY_HANDLE:
            path, is_folder = self._paths.get(args[0], ("", False))
            return Call("fsync folder" if is_folder and name == "fsync" else name, path, args=args)
        if name in ("replace", "rename", "link"):
            return Call(name, str(args[1]), str(args[0]), args=args)
        if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return Call("open to read", str(args[0]), args=args)
        return Call(name, str(args[0]), args=args)


class Listed(Calls):
    """Keeps all calls, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def at(self, call: Call, go_on: Callable[..., Any]) -> Any:
        result = go_on()
        self.calls.append(call)
        return result


def put_in(stand_in: Calls) -> None:
    """Let storage call a stand-in for the rest of a child's life."""
    storage.os = stand_in  # type: ignore[assignment]
