"""Techniques: one file each. `from stepwell.techniques import Mixup, mixup, Ema, warmup_cosine` finds them by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    for module in pkgutil.walk_packages(__path__, __name__ + "."):
        public = getattr(importlib.import_module(module.name), "__all__", ())
        if name in public:
            return getattr(importlib.import_module(module.name), name)
    raise AttributeError(f"stepwell.techniques has no {name!r}")
