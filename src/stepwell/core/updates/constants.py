"""Settings that are numbers, as tensors: made once for each device and dtype, so that no step copies them again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["numbers_like"]


def numbers_like(values: float | Sequence[float], like: Tensor) -> Tensor:
    """A number as a scalar tensor, or several as (K,), in the dtype and on the device of another tensor. Never changed.

    >>> numbers_like([1.0, 2.0], torch.zeros(3, dtype=torch.float64))
    tensor([1., 2.], dtype=torch.float64)
    """
    key = tuple(values) if isinstance(values, Sequence) else float(values)
    return _made(key, like.dtype, like.device)


@lru_cache(maxsize=256)
def _made(values: float | tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # One that is first asked for in inference mode must serve training too.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
