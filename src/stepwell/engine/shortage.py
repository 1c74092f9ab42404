"""Memory that ran out: what an exception says of it, and passes over data that begin again with smaller batches."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from stepwell.core.batch import Batch
from stepwell.core.errors import TrainingStopped

logger = logging.getLogger("stepwell.train")
Result = TypeVar("Result")
Cut = Callable[[Iterable[Batch]], Iterator[Batch]]
# What torch's allocators, the C++ library, oneDNN and CUDA's libraries say; those without a type of their own.
_SAID = re.compile(
    r"can't allocate memory|out of memory|bad_alloc|[Cc]annot allocate memory|could not create a (memory|primitive)"
    r"|CUDNN_STATUS_(ALLOC_FAILED|INTERNAL_ERROR)|CUBLAS_STATUS_ALLOC_FAILED|unable to mmap"
)
_WANTED = re.compile(r"[Tt]ried to allocate ([\d.]+) ?(bytes|[KMGT]iB)|unable to mmap (\d+)()")
_UNITS = {"": 0, "bytes": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


class OutOfMemory(TrainingStopped):
    """Memory that ran out where nothing smaller could be tried. Exit code 3.

    Attributes:
        whole: whether the state is the one before the step. False where weights may be half updated: then it isn't saved.
    """

    whole = True


@dataclass(frozen=True)
class Shortage:
    """Memory that was asked for and not given.

    Args:
        text: what the allocator said, its first line.
        num_bytes: how much it was asked for, where it says.
    """

    text: str
    num_bytes: int | None

    @staticmethod
    def of(error: BaseException) -> Shortage | None:
        """What an exception says about memory, None where it is about something else.

        >>> Shortage.of(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.")).num_bytes
        4096
        >>> Shortage.of(RuntimeError("shapes differ")) is None
        True
        """
        text = str(error)
        typed = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not typed and (not isinstance(error, RuntimeError) or _SAID.search(text) is None):
            return None
        found = _WANTED.search(text)
        number, unit = (found[1] or found[3], found[2] or "") if found else ("", "")
        lines = text.strip().splitlines()
        return Shortage(
            lines[0][:300] if lines else type(error).__name__, int(float(number) * 2 ** _UNITS[unit]) if found else None
        )

    @property
    def needed(self) -> str:
        return "" if self.num_bytes is None else f" ({self.num_bytes} more bytes were needed at once)"


class SparingPass:
    """A pass over data that is begun again with batches half as large where it ran out of memory. The smaller size stays.

    Args:
        tell: called with the kind of an event and its details.
        kind: of that event.
        what: is done, for messages.
        least: samples that a batch needs, >= 1.

    >>> spared = SparingPass()
    >>> def work(cut: Cut) -> list[int]:
    ...     sizes = [len(batch) for batch in cut([Batch(torch.zeros(6))])]
    ...     if max(sizes) > 3: raise MemoryError
    ...     return sizes
    >>> spared(work), spared.size
    ([3, 3], 3)
    """

    def __init__(
        self,
        tell: Callable[..., None] = lambda kind, **detail: None,
        *,
        kind: str = "evaluation_batches",
        what: str = "an evaluation",
        least: int = 1,
    ) -> None:
        self._tell, self._kind, self._what, self._least = tell, kind, what, least
        self.size: int | None = None

    def __call__(self, work: Callable[[Cut], Result]) -> Result:
        """What the pass gives.

        Args:
            work: does it from its start, and lets every batch through the function that it is called with.

        Raises:
            OutOfMemory: the smallest batches don't fit either.
        """
        taken: list[int] = []
        while True:
            try:
                return work(lambda batches: self._parts(batches, taken))
            except (MemoryError, RuntimeError) as error:
                shortage = Shortage.of(error)
                if shortage is None or not taken:
                    raise
            # Here the exception is gone, and with its frames the tensors that they held.
            tidy()
            smaller = taken[-1] // 2
            if smaller < self._least:
                one = "a single sample" if self._least == 1 else f"{taken[-1]} samples"
                raise OutOfMemory(
                    f"{self._what} ran out of memory on {one}{shortage.needed}: {shortage.text}",
                    expected=f"memory for the outputs of {'one sample' if self._least == 1 else f'{self._least} samples'}",
                    fix="Take a smaller model or smaller samples, or a machine with more memory",
                )
            self._tell(self._kind, before=taken[-1], now=smaller, needed=shortage.num_bytes)
            logger.warning("out of memory in %s%s: batches of %d from here on", self._what, shortage.needed, smaller)
            self.size = smaller

    def _parts(self, batches: Iterable[Batch], taken: list[int]) -> Iterator[Batch]:
        for batch in batches:
            for part in [batch] if self.size is None else batch.split(self.size):
                taken[:] = [len(part)]
                yield part


def tidy() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
