"""Objectives on embeddings: a model that embeds one input is applied to every member of a pair or a triplet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.batch import Tree, tree_leaves, tree_map
from stepwell.core.errors import DataError
from stepwell.core.objectives.loss_shapes import as_scores
from stepwell.core.slots import call_model

__all__ = ["Takes", "distances", "embed", "embeddings"]

# What the model takes: one member of a pair or triplet at a time, or all of them.
Takes = Literal["one", "all"]

# Under the root of a distance, so that two equal embeddings have a finite (zero) gradient.
EPSILON = 1e-12


def embed(model: nn.Module, inputs: Tree, members: Sequence[str], *, takes: Takes, name: str) -> Tree:
    """The embeddings of a batch's members: one tensor (N, D) each, or whatever a model that takes all of them returns.

    A model that takes one is called once, on the members stacked along the batch: batch norm sees all of them, and
    one call is faster than several.

    Args:
        inputs: a dict with the members' names, or a tuple or list in their order; a member is a tree of (N, ...). One
            tensor goes to the model as it is.
        members: e.g. ("left", "right").
        name: of the objective, for errors.

    Raises:
        DataError: another structure; members of different shapes, which can't be stacked.

    >>> embed(nn.Identity(), (torch.zeros(2, 1), torch.ones(2, 1)), ("left", "right"), takes="one", name="contrastive")[1].shape
    torch.Size([2, 1])
    """
    if takes == "all" or isinstance(inputs, Tensor):
        return call_model(model, inputs)
    if isinstance(inputs, dict) and set(inputs) == set(members):
        parts = [inputs[member] for member in members]
    elif isinstance(inputs, (tuple, list)) and len(inputs) == len(members):
        parts = list(inputs)
    else:
        held = f"a dict of {', '.join(map(str, inputs))}" if isinstance(inputs, dict) else f"a {type(inputs).__name__}"
        held += f" of {len(inputs)}" if isinstance(inputs, (tuple, list)) else ""
        raise DataError(
            f"{name} got inputs in {held}",
            expected=f"a dict of {', '.join(members)}, or a tuple of {len(members)}",
            fix=f"Give the data so, or write {name}.model_takes: all where the model takes the inputs as they are",
        )
    outputs = call_model(model, _stacked(parts, members, name))
    return tuple(as_scores(outputs, name).chunk(len(parts)))


def embeddings(outputs: Tree, members: Sequence[str], name: str) -> list[Tensor]:
    """One tensor (N, D) per member, from a tuple or list of them, or from one tensor (N, members, D).

    Raises:
        DataError: another structure, or shapes that differ.

    >>> [tuple(part.shape) for part in embeddings(torch.zeros(4, 2, 8), ("left", "right"), "contrastive")]
    [(4, 8), (4, 8)]
    """
    parts: list[Any] = []
    if isinstance(outputs, (tuple, list)):
        parts = [as_scores(part, name) for part in outputs]
    elif isinstance(outputs, Tensor) and outputs.ndim == 3:
        parts = list(as_scores(outputs, name).unbind(1))
    if len(parts) == len(members) and all(part.ndim == 2 and part.shape == parts[0].shape for part in parts):
        return parts
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else [tuple(leaf.shape) for leaf in tree_leaves(outputs)]
    raise DataError(
        f"{name} got outputs {found}",
        expected=f"embeddings of {', '.join(members)}: {len(members)} tensors (N, D), or one (N, {len(members)}, D)",
        fix=f"Give inputs as a tuple of {len(members)} to a model that embeds one, or return all embeddings from forward()",
    )


def distances(left: Tensor, right: Tensor) -> Tensor:
    """Euclidean distance of each row, (N,): the root of the sum of squares + 1e-12, whose gradient is finite everywhere.

    >>> distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]])).tolist()
    [5.0]
    """
    return ((left - right).square().sum(-1) + EPSILON).sqrt()


def _stacked(parts: Sequence[Tree], members: Sequence[str], name: str) -> Tree:
    leaves = [tree_leaves(part) for part in parts]
    shapes = [[tuple(leaf.shape) for leaf in some] for some in leaves]
    if any(other != shapes[0] for other in shapes):
        listed = ", ".join(f"{member} {some[0] if len(some) == 1 else some}" for member, some in zip(members, shapes))
        raise DataError(
            f"{name} got members of different shapes: {listed}",
            expected="members of one shape, so that the model embeds all of them in one call",
            fix=f"Pad them to one length, or write {name}.model_takes: all and return all embeddings from forward()",
        )
    columns = iter([torch.cat(column) for column in zip(*leaves)])
    return tree_map(lambda _: next(columns), parts[0])
