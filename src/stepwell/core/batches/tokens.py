"""Token ids in a batch: which tensors hold them, and the vocabulary that tells what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stepwell.core.batch import Batch, Tree, tree_leaves, tree_map
from stepwell.core.check import require, require_between
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts

__all__ = [
    "known_tokens",
    "map_tokens",
    "needed",
    "refuse_aligned",
    "require_tokens",
    "token_leaves",
    "tokens_of",
]

# Integer inputs (N, T) of these names are no token ids: what text models call what goes beside them.
BESIDE = ("attention_mask", "token_type_ids", "position_ids")


def is_tokens(tensor: Tensor) -> bool:
    """Whether a tensor can hold token ids: whole numbers, (N, T)."""
    return tensor.ndim == 2 and not tensor.is_floating_point() and tensor.dtype != torch.bool


def map_tokens(batch: Batch, function: Callable[[Tensor, int], Tensor], name: str) -> Batch:
    """The batch with `function(ids, number)` applied to each (N, T) tensor of token ids, numbered from 0.

    Raises:
        DataError: there is none.

    >>> batch = Batch({"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[1, 1]])})
    >>> map_tokens(batch, lambda ids, number: ids + 1, "random_deletion").inputs
    {'input_ids': tensor([[2, 3]]), 'attention_mask': tensor([[1, 1]])}
    """
    numbers = {id(leaf): number for number, leaf in enumerate(tokens_of(batch, name))}

    def apply(leaf: Tensor) -> Tensor:
        return function(leaf, numbers[id(leaf)]) if id(leaf) in numbers else leaf

    return replace(batch, inputs=tree_map(apply, batch.inputs))


def token_leaves(inputs: Tree) -> list[Tensor]:
    """Every tensor of token ids, in order."""
    if isinstance(inputs, dict):
        inputs = [value for key, value in inputs.items() if key not in BESIDE]
    if isinstance(inputs, (list, tuple)):
        return [leaf for value in inputs for leaf in token_leaves(value)]
    return [inputs] if isinstance(inputs, Tensor) and is_tokens(inputs) else []


def tokens_of(batch: Batch, name: str) -> list[Tensor]:
    """The tensors of token ids among the inputs.

    Args:
        name: the technique that asks, for messages.

    Raises:
        DataError: there is none.
    """
    found = token_leaves(batch.inputs)
    if not found:
        kinds = ", ".join(f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in tree_leaves(batch.inputs))
        raise DataError(
            f"{name} found no token ids among the inputs ({kinds or 'none'})",
            expected="integer token ids (N, T)",
            fix=f"Leave {name} out for data that is no text",
        )
    return found


def refuse_aligned(batch: Batch, name: str) -> None:
    """Refuse to move tokens where something else goes with them place by place.

    Raises:
        JobError: targets (N, T), or inputs beside the tokens, of the tokens' shape.
        DataError: there are no tokens.
    """
    tokens = tokens_of(batch, name)
    shapes = {leaf.shape for leaf in tokens}
    for leaf in tree_leaves(batch.targets):
        # A class number for each token, or mass over classes for each.
        if leaf.shape[:2] in shapes and leaf.ndim == (3 if leaf.is_floating_point() else 2):
            raise JobError(
                f"{name} moves tokens, but there is a target for each of them, {tuple(leaf.shape)}",
                expected="targets for whole sequences",
                fix="For language models use synonym_replacement, which keeps every token in its place",
            )
    known = {id(leaf) for leaf in tokens}
    for leaf in tree_leaves(batch.inputs):
        if id(leaf) not in known and leaf.shape in shapes and not leaf.is_floating_point():
            raise JobError(
                f"{name} moves tokens, but another input goes with them place by place, {tuple(leaf.shape)}",
                expected="token ids alone, padded at the end",
                fix="Let the model find the padding in the ids (ids != padding), or use synonym_replacement",
            )


def require_tokens(name: str, probability: float, *, vocabulary: list[str] | None = None, padding: int | None = None) -> None:
    """Refuse settings that no token technique can take.

    Raises:
        JobError: probability outside [0, 1]; a vocabulary that is no list of words; padding outside it.
    """
    require_between(f"{name}.probability", probability, 0, 1, "The default is 0.1")
    fix = "Leave it out: a job takes it from the data"
    if vocabulary is not None:
        good = isinstance(vocabulary, (list, tuple)) and bool(vocabulary) and isinstance(vocabulary[0], str)
        shown = vocabulary if not good else None
        require(good, f"{name}.vocabulary", shown, "a list with the word of each token id", fix)
    known = padding is None or 0 <= padding < (len(vocabulary) if vocabulary is not None else 2**31)
    require(known, f"{name}.padding", padding, "a token id", fix)


def known_tokens(technique: Any, facts: DataFacts) -> dict[str, tuple[Any, str]]:
    """What `completed` answers: vocabulary and padding, where they are open and the data tells them."""
    found: dict[str, tuple[Any, str]] = {}
    if getattr(technique, "vocabulary", ()) is None and facts.vocabulary is not None:
        found["vocabulary"] = (facts.vocabulary, "the words of the data")
    if getattr(technique, "padding", 0) is None and facts.padding is not None:
        found["padding"] = (facts.padding, "the data's padding")
    return found


def needed(value: Any, name: str, what: str) -> Any:
    """A setting that is filled in by now.

    Raises:
        JobError: it is not.
    """
    if value is None:
        raise JobError(f"{name} is not set", expected=what, fix="Set it; a job takes it from text data")
    return value
