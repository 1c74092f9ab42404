"""A character model of Tiny Shakespeare in nanoGPT's CPU configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import real_data
from benchmarks.evidence import Finding
from benchmarks.targets.fitting import trained

BLOCK = 64
PROTOCOL = (
    "nanoGPT's CPU configuration: 4 layers, 4 heads, width 128, block 64, batch 12, 2,000 steps, AdamW with betas 0.9 and 0.99, "
    "decay 0.1 on matrices, 100 steps of warmup, cosine, clipping at 1, no dropout; first 90 % of the text trains; loss in nats "
    "per character over the whole last 10 %, in blocks of 64."
)


@dataclass(frozen=True)
class Text:
    """Token numbers, (T,) int64 each, and how many different ones there are."""

    train: Tensor
    validation: Tensor
    vocab_size: int


def encoded(text: str) -> Text:
    """Characters as numbers, in order of their code points; the first 90 % train."""
    number = {character: index for index, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[character] for character in text])
    cut = int(0.9 * len(tokens))
    return Text(tokens[:cut], tokens[cut:], len(number))


def every_window(tokens: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """All windows and what follows each of their characters, (T - block, block) each, as views: no window is copied."""
    windows = tokens.unfold(0, block + 1, 1)
    return windows[:, :-1], windows[:, 1:]


def whole_loss(model: nn.Module, tokens: Tensor, block: int = BLOCK) -> float:
    """Mean negative log-likelihood per character over consecutive blocks; an incomplete last block is left out."""
    num_blocks = (len(tokens) - 1) // block
    inputs = tokens[: num_blocks * block].view(num_blocks, block)
    targets = tokens[1 : num_blocks * block + 1].view(num_blocks, block)
    total = 0.0
    with torch.no_grad():
        for part, goal in zip(inputs.split(128), targets.split(128)):
            total += float(F.cross_entropy(model(part).flatten(0, 1), goal.flatten(), reduction="sum"))
    return total / targets.numel()


def recipe(*, peak: float, floor: float) -> dict[str, Any]:
    """nanoGPT's; the rate rises to `peak` and ends at `floor` times that."""
    return {
        "objective": "cross_entropy",
        "optimizer": {"name": "adamw", "lr": peak, "betas": (0.9, 0.99), "weight_decay": 0.1},
        "schedule": {"name": "warmup_cosine", "warmup": "100 steps", "floor": floor},
        "techniques": ["decay_groups", {"name": "clip_norm", "max_norm": 1.0}],
        "batch_size": 12,
    }


def _measure(seeds: Sequence[int], *, peak: float, floor: float) -> list[float]:
    from stepwell.core.signature import Signature
    from stepwell.models.registry import build

    text = encoded(real_data.tiny_shakespeare())
    signature = Signature("tokens", (BLOCK,), text.vocab_size, vocab_size=text.vocab_size)
    how = recipe(peak=peak, floor=floor)
    values = []
    for seed in seeds:
        model = build("transformer", signature, {}, seed=seed)
        model = trained(model, every_window(text.train), recipe=how, budget="2000 steps", seed=seed)
        values.append(whole_loss(model, text.validation))
    return values


def char_lm(seeds: Sequence[int]) -> Finding:
    """Published: 1.88, estimated on a few batches. Rate 1e-3 down to 1e-4, as published."""
    values = _measure(seeds, peak=1e-3, floor=0.1)
    return Finding("Tiny Shakespeare, validation loss", values, "at most", 1.93, PROTOCOL + " Rate 1e-3 down to 1e-4.")


def char_lm_faster(seeds: Sequence[int]) -> Finding:
    """The same with twice the rate: the stretch goal."""
    values = _measure(seeds, peak=2e-3, floor=0.05)
    name = "Tiny Shakespeare, validation loss, peak rate 2e-3 (stretch)"
    return Finding(name, values, "at most", 1.88, PROTOCOL + " Rate 2e-3 down to 1e-4: not the published rate.")
