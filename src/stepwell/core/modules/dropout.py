"""Dropout whose masks are drawn fast: random words from a counter, compared with a threshold all at once.

On a CPU `F.dropout` spends nearly all of its time in `bernoulli_`, which makes one number after the other. Here one
draw from torch's default generator gives a key, and word i of the mask is the i-th output of SplitMix64 started at that
key (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators"). Words are computed by vectorised
integer arithmetic, and a mask is a function of its key and its size alone: whoever puts the default generator back
(activation checkpointing, a resumed step) gets the same one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from stepwell.core.errors import JobError

__all__ = ["DropoutKind", "DropoutLayer", "drop", "drop_elements", "keep_noise", "random_words", "true_probability"]

DropoutKind = Literal["element", "spatial", "variational"]
KINDS: tuple[str, ...] = get_args(DropoutKind)

# Below this many numbers torch's own draw is as fast.
SMALLEST = 16_384
# Words that are made at a time: larger pieces leave the cache, smaller ones spend their time in calls.
CHUNK = 32_768


def _wrapped(word: int) -> int:
    """A 64-bit word as torch's signed integers hold it."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)


_GOLDEN, _FIRST, _SECOND = (_wrapped(word) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# Torch's shift keeps the sign, which is masked away.
_ROUNDS = tuple(
    tuple(torch.tensor(value, device="cpu") for value in (shift, (1 << (64 - shift)) - 1, factor))
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, 1))
)
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@lru_cache(maxsize=1)
def _counters() -> Tensor:
    return torch.arange(1, CHUNK + 1, device="cpu").mul_(_GOLDEN)


def _mix_(words: Tensor, scratch: Tensor) -> None:
    """The finaliser of SplitMix64, in place."""
    for shift, mask, factor in _ROUNDS:
        torch.bitwise_right_shift(words, shift, out=scratch)
        words.bitwise_xor_(scratch.bitwise_and_(mask))
        if factor is not _ROUNDS[-1][2]:
            words.mul_(factor)


def random_words(key: int, num: int) -> Tensor:
    """The outputs 1 to num of SplitMix64 with the state `key`, (num,) int64.

    >>> [word % 2**64 for word in random_words(0, 2).tolist()] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    True
    """
    words = torch.arange(1, num + 1, device="cpu").mul_(_GOLDEN).add_(key)
    _mix_(words, torch.empty_like(words))
    return words


def true_probability(probability: float) -> float:
    """The share that is dropped: the multiple of 1/65536 that is nearest to what is asked for, below 1.

    >>> true_probability(0.5), true_probability(0.1)
    (0.5, 0.100006103515625)
    """
    return min(round(probability * 65536), 65535) / 65536


@lru_cache(maxsize=1024)
def _constant(value: float, dtype: torch.dtype) -> Tensor:
    """A number as a tensor: torch would make one at each use."""
    return torch.tensor(value, dtype=dtype, device="cpu")


def keep_noise(key: int, num: int, *, probability: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """What activations are multiplied with: 0 where they are dropped, else 1 / (1 - true probability).

    Each element is decided by 16 random bits: 8 of its own, and below them 8 that are another element's own. Those
    matter in one case of 256, so two elements that share them are correlated, by less than 1/128; all others are
    independent. In 16-bit types what is kept is 1: the factor would be rounded, and with it the mean.

    Args:
        key: chooses the mask, any int64.
        num: elements.
        probability: of dropping one, in [0, 1); taken to `true_probability`, so that the mean is exactly 1.

    Shapes: (num,).

    >>> noise = keep_noise(7, 100_000, probability=0.5)
    >>> sorted(set(noise.tolist())), abs(noise.mean().item() - 1) < 0.02
    ([0.0, 2.0], True)
    """
    dropped, lanes = round(true_probability(probability) * 65536), dtype.itemsize
    word = _WORDS[lanes]
    threshold = _constant((dropped - (1 << 15)) << (8 * lanes - 16), word)
    kept = _constant(1.0 if lanes == 2 else 65536 / (65536 - dropped), dtype).view(word)
    num_words = -(-num // 8)
    noise = torch.empty(num_words * 8, dtype=word, device="cpu")
    words = torch.empty(min(CHUNK, num_words), dtype=torch.int64, device="cpu")
    scratch, counters = torch.empty_like(words), _counters()
    # Piece by piece: the words of a piece stay in the processor's cache.
    for start in range(0, num_words, CHUNK):
        count = min(CHUNK, num_words - start)
        if count < CHUNK:
            words, scratch, counters = words[:count], scratch[:count], counters[:count]
        torch.add(counters, _wrapped(key + start * _GOLDEN), out=words)
        _mix_(words, scratch)
        _compare(words.view(word), threshold, noise[start * 8 : (start + count) * 8].view(lanes, -1), scratch)
    # 0 or 1, times the bits of a float: 0.0 or that float.
    return noise.mul_(kept).view(dtype)[:num]


def _compare(words: Tensor, threshold: Tensor, noise: Tensor, scratch: Tensor) -> None:
    """Lane k of the noise: whether byte k of each word, counted from the top, and the byte below it reach the threshold."""
    torch.ge(words, threshold, out=noise[0])
    for lane in range(1, len(noise)):
        torch.bitwise_left_shift(words, _constant(8 * lane, words.dtype), out=noise[lane])
    # Below the last byte stands the first one. The shift also fills the top with the word's sign, which turns all of
    # the last byte's bits over or none: it stays uniform whatever the others are.
    noise[-1].bitwise_xor_(torch.bitwise_right_shift(words, _constant(8, words.dtype), out=scratch.view(words.dtype)))
    noise[1:].ge_(threshold)


def drop_elements(inputs: Tensor, probability: float) -> Tensor:
    """Drop elements at random and scale what is left, so that the mean stays; any shape and strides.

    One number is drawn from torch's default generator, whatever the size. Other devices than CPUs, tensors of less
    than 16,384 numbers and compiled code take `F.dropout`. Under `torch.vmap` it works with randomness="same"; torch
    refuses the other settings.

    Args:
        probability: in [0, 1); 0 gives the inputs themselves.

    >>> with torch.random.fork_rng():
    ...     kept = drop_elements(torch.ones(256, 256), 0.25)
    >>> sorted(set(kept.unique().tolist())) == [0.0, torch.tensor(4 / 3).item()]
    True
    """
    if probability == 0:
        return inputs
    fast = inputs.device.type == "cpu" and inputs.dtype in _FLOATS and type(inputs) in (Tensor, nn.Parameter)
    if not fast or inputs.numel() < SMALLEST or torch.compiler.is_compiling():
        return F.dropout(inputs, probability, training=True)
    key = int(torch.empty((), dtype=torch.int64, device="cpu").random_())
    noise = keep_noise(key, inputs.numel(), probability=probability, dtype=inputs.dtype)
    if inputs.dim() == 4 and not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last):
        noise = noise.as_strided(inputs.shape, inputs.stride())
    else:
        noise = noise.view(inputs.shape)
    kept: Tensor = inputs * noise
    return kept * (1 / (1 - true_probability(probability))) if inputs.dtype.itemsize == 2 else kept


def drop(inputs: Tensor, probability: float, kind: DropoutKind = "element") -> Tensor:
    """Drop elements, whole channels, or features for all of time.

    Args:
        probability: in [0, 1).
        kind: "element": each number by itself; "spatial": whole channels, (N, C, ...) with one draw per (N, C);
            "variational": one draw per (N, C) of (N, T, C), the same at every step. Inputs (N, C) have no places to
            share a draw.

    Raises:
        JobError: "variational" on images or the like.

    Papers: Srivastava et al. 2014 (element); Tompson et al. 2015, arXiv:1411.4280 (spatial); Gal and Ghahramani 2016,
    arXiv:1512.05287 (variational).

    >>> with torch.random.fork_rng():
    ...     kept = drop(torch.ones(2, 5, 7), 0.5, "variational")
    >>> torch.equal(kept, kept[:, :1].expand(2, 5, 7))
    True
    """
    if kind == "element" or inputs.dim() < 3:
        return drop_elements(inputs, probability)
    if probability == 0:
        return inputs
    if kind == "spatial":
        shape = (*inputs.shape[:2], *[1] * (inputs.dim() - 2))
    elif inputs.dim() == 3:
        shape = (inputs.shape[0], 1, inputs.shape[2])
    else:
        raise JobError(
            f"variational dropout got activations of {inputs.dim()} dimensions",
            expected="sequences, (samples, steps, features)",
            fix="Take kind: spatial for images",
        )
    return inputs * F.dropout(inputs.new_ones(shape), probability, training=True)


@final
class DropoutLayer(_DropoutNd):
    """A dropout layer of one of the kinds of `drop`; the identity outside of training. It has no parameters.

    Args:
        p: probability in [0, 1).
        kind: see `drop`.

    >>> DropoutLayer(0.5).eval()(torch.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    kind: DropoutKind = "element"

    def __init__(self, p: float = 0.5, *, kind: DropoutKind = "element") -> None:
        super().__init__(p)
        self.kind = kind

    def forward(self, inputs: Tensor) -> Tensor:
        return drop(inputs, self.p, self.kind) if self.training else inputs

    def extra_repr(self) -> str:
        return f"p={self.p}, kind={self.kind}"
