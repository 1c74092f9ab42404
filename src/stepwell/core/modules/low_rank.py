"""Low-rank adapters on layers: two small matrices beside a weight that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.dropout import drop_elements
from stepwell.core.modules.freezing import allow_holding, norms_of, set_held
from stepwell.core.randomness import Rng

__all__ = [
    "ADAPTABLE",
    "Adapter",
    "adapted_layers",
    "adapter_of",
    "attach_",
    "detach_",
    "freeze_around_",
    "merge_",
    "weight_change",
]

ADAPTABLE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d)
_ADAPTER = "_stepwell_adapter"


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter is beside its two matrices, the layer's parameters `lora_a` and `lora_b`.

    Args:
        rank: r, the rows of A.
        scaling: what the product of the two is multiplied by.
        dropout: probability of dropping an input of A while training; embeddings have none.
    """

    rank: int
    scaling: float
    dropout: float = 0.0


def adapter_of(layer: nn.Module) -> Adapter | None:
    """The adapter of a layer, if it has one."""
    found: Adapter | None = layer.__dict__.get(_ADAPTER)
    return found


def adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if adapter_of(module) is not None}


def attach_(layer: nn.Module, adapter: Adapter, rng: Rng) -> None:
    """Give a layer an adapter that changes nothing yet; its type, names and weight stay.

    A starts as torch's layers do, uniform with bound 1 / sqrt(fan in), and B at 0; of an embedding A starts at 0 and B
    as N(0, 1).

    Shapes: A (rank, in) and B (out, rank) of Linear; A (rank, in, *kernel) and B (out, rank, *1) of Conv; A (rank,
    codes) and B (width, rank) of Embedding.

    Raises:
        JobError: a convolution with groups, whose change is no low-rank matrix; a layer that has an adapter.

    >>> layer, inputs = nn.Linear(4, 3), torch.ones(2, 4)
    >>> before = layer(inputs)
    >>> attach_(layer, Adapter(rank=2, scaling=1.0), Rng(0))
    >>> torch.equal(layer(inputs), before), type(layer).__name__, layer.lora_a.shape
    (True, 'Linear', torch.Size([2, 4]))
    """
    if adapter_of(layer) is not None:
        raise JobError(
            "a layer has an adapter already", expected="one adapter a layer", fix="Merge the first: merge_adapter(model)"
        )
    if getattr(layer, "groups", 1) != 1:
        raise JobError(
            f"an adapter was asked for on a {type(layer).__name__} with {layer.groups} groups",
            expected="convolutions without groups",
            fix="Leave it out of lora.targets",
        )
    weight: Any = layer.weight
    embeds = isinstance(layer, nn.Embedding)
    rows, columns = (weight.shape[1], weight.shape[:1]) if embeds else (weight.shape[0], weight.shape[1:])
    # Drawn on the host: the same numbers whatever device trains them.
    a = torch.zeros(adapter.rank, *columns, dtype=weight.dtype)
    b = torch.zeros(rows, adapter.rank, *[1] * (0 if embeds else weight.dim() - 2), dtype=weight.dtype)
    if embeds:
        b.normal_(generator=rng.generator())
    else:
        bound = 1 / math.sqrt(math.prod(columns))
        a.uniform_(-bound, bound, generator=rng.generator())
    layer.register_parameter("lora_a", nn.Parameter(a.to(weight.device)))
    layer.register_parameter("lora_b", nn.Parameter(b.to(weight.device)))
    # A plain attribute and a function as hook: both are copied with the layer, and neither is in its state_dict.
    layer.__dict__[_ADAPTER] = adapter
    layer.register_forward_hook(_add_change)


def _add_change(layer: nn.Module, args: Any, outputs: Tensor) -> Tensor:
    adapter: Adapter = layer.__dict__[_ADAPTER]
    inputs: Tensor = args[0]
    a, b = layer.get_parameter("lora_a"), layer.get_parameter("lora_b")
    if isinstance(layer, nn.Embedding):
        return outputs + F.linear(F.embedding(inputs, a.T, padding_idx=layer.padding_idx), b) * adapter.scaling
    if layer.training:
        inputs = drop_elements(inputs, adapter.dropout)
    if isinstance(layer, nn.Linear):
        change = F.linear(F.linear(inputs, a), b)
    else:
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
        convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
        change = convolve(layer._conv_forward(inputs, a, None), b)
    return outputs + change * adapter.scaling


def weight_change(layer: nn.Module) -> Tensor:
    """What an adapter adds to its layer's weight, of the weight's shape: scaling * B A.

    Shapes: (out, in), (out, in, *kernel), or (codes, width) of an embedding.
    """
    adapter = adapter_of(layer)
    assert adapter is not None
    held: Any = layer
    change: Tensor = held.lora_b.detach().flatten(1) @ held.lora_a.detach().flatten(1) * adapter.scaling
    return change.T if isinstance(layer, nn.Embedding) else change.view(held.weight.shape)


@torch.no_grad()
def merge_(layer: nn.Module) -> None:
    """Add what the adapter changes to the layer's weight and take the adapter away: a plain layer again."""
    held: Any = layer
    held.weight.add_(weight_change(layer))
    detach_(layer)


def detach_(layer: nn.Module) -> None:
    """Take an adapter away; the layer is what it was before."""
    del layer._parameters["lora_a"], layer._parameters["lora_b"], layer.__dict__[_ADAPTER]
    for key in [key for key, hook in layer._forward_hooks.items() if hook is _add_change]:
        del layer._forward_hooks[key]


def freeze_around_(model: nn.Module, trained: Collection[str]) -> None:
    """Take the gradient from every parameter but those named.

    Batch norms of the frozen part keep their statistics too: an adapter could not carry new ones.
    """
    model.requires_grad_(False)
    for name in trained:
        model.get_parameter(name).requires_grad_(True)
    for norm in norms_of(model, ["*"]):
        if not any(parameter.requires_grad for parameter in norm.parameters()):
            allow_holding(norm)
            set_held(norm, True)
