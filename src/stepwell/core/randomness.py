"""Randomness is a function: every draw comes from a generator derived from (seed, purpose, coordinates).

Nothing here keeps state between draws, so two consumers can't disturb each other and resuming needs no saved
generator: the same (seed, purpose, cursor) gives the same draws.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b

import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(value: int) -> int:
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014, OOPSLA): full avalanche in three multiplications.
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


@lru_cache(maxsize=4096)
def _purpose_key(seed: int, purpose: str) -> int:
    return int.from_bytes(blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest(), "little")


def derive(seed: int, purpose: str, *coordinates: int) -> int:
    """A 63-bit seed for one purpose at one place.

    Args:
        seed: the run's seed, any int.
        purpose: who draws, e.g. "shuffle" or "mixup#0"; different purposes are independent.
        coordinates: where, e.g. the cursor, then the micro-batch.

    >>> derive(0, "shuffle", 1) == derive(0, "shuffle", 1) != derive(0, "shuffle", 2)
    True
    """
    value = _purpose_key(seed, purpose)
    for coordinate in coordinates:
        value = _mix((value ^ (coordinate & _MASK)) + _GOLDEN & _MASK)
    return _mix(value) >> 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _shifted(value: torch.Tensor, bits: int) -> torch.Tensor:
    # A logical shift to the right: torch's is arithmetic on int64.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


class Rng:
    """The generators of one consumer at one place, made when first asked for.

    Args:
        seed: a derived seed, see `derive`.
    """

    __slots__ = ("_host", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._host: random.Random | None = None

    @property
    def host(self) -> random.Random:
        """A Python generator: scalars drawn from it need no device synchronisation."""
        if self._host is None:
            self._host = random.Random(self.seed)
        return self._host

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh torch generator on a device, always at the start of its stream."""
        return torch.Generator(device=device).manual_seed(self.seed)

    def uniform(self, position: int, num: int, columns: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Numbers for samples at consecutive places: each row is a function of its place alone, however a batch is cut.

        Args:
            position: place of the first sample, see `Batch.position`.
            num: rows. columns: draws per sample.

        Returns:
            (num, columns) fp32 in [0, 1), multiples of 2^-24.

        >>> whole = Rng(7).uniform(0, 8, 3)
        >>> torch.equal(whole[5:], Rng(7).uniform(5, 3, 3))
        True
        """
        place = torch.arange(position * columns, (position + num) * columns, dtype=torch.int64, device=device)
        # SplitMix64 of (seed + place * golden ratio), as `_mix` but in int64, whose products wrap around alike.
        value = place * _signed(_GOLDEN) + _signed(_mix(self.seed))
        value = (value ^ _shifted(value, 30)) * _signed(0xBF58476D1CE4E5B9)
        value = (value ^ _shifted(value, 27)) * _signed(0x94D049BB133111EB)
        return (_shifted(value ^ _shifted(value, 31), 40).to(torch.float32) * 2.0**-24).view(num, columns)

    def child(self, *coordinates: int) -> Rng:
        """Another generator for a place inside this one's."""
        return Rng(derive(self.seed, "child", *coordinates))


def _default_generators(device: torch.device) -> list[torch.Generator]:
    # Seeding these objects directly: torch.manual_seed visits every device type and costs 100 times as much.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    return generators


class SeededDefaults:
    """Torch's default generators, which dropout and attention insist on: seeded for a while, then put back.

    >>> before = torch.default_generator.get_state()
    >>> defaults = SeededDefaults(torch.device("cpu"))
    >>> defaults.hold(); defaults.seed(7); _ = torch.rand(1); defaults.put_back()
    >>> torch.equal(before, torch.default_generator.get_state())
    True
    """

    __slots__ = ("_generators", "_states")

    def __init__(self, device: torch.device) -> None:
        self._generators = _default_generators(device)
        self._states: list[torch.Tensor] = []

    def hold(self) -> None:
        """Remember the user's states."""
        self._states = [generator.get_state() for generator in self._generators]

    def seed(self, seed: int) -> None:
        """Start every default generator at `seed`."""
        for generator in self._generators:
            generator.manual_seed(seed)

    def put_back(self) -> None:
        """Give the user's states back."""
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.set_state(state)


@contextmanager
def seeded_defaults(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """`with seeded_defaults(7): nn.Linear(2, 2)` draws from seed 7 and leaves the global generators as they were."""
    defaults = SeededDefaults(torch.device(device))
    defaults.hold()
    defaults.seed(seed)
    try:
        yield
    finally:
        defaults.put_back()
