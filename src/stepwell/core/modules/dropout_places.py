"""Where a model drops: its dropout layers, rates that modules hold as numbers, and activations that were given dropout."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from stepwell.core.modules.dropout import DropoutKind, DropoutLayer, drop
from stepwell.core.own_code import functions_called

__all__ = [
    "DropoutPlace",
    "bare_activations",
    "behind_the_last_layer",
    "dropout_places",
    "insert_dropout_",
    "last_with_parameters",
    "switch_on_",
    "unreachable_dropout",
]

_INSERTED = "_stepwell_inserted_dropout"
_RATE_NAME = re.compile(r"(.*_)?drop(out)?(_?(p|rate|prob|probability))?")
_SWAPPED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, DropoutLayer)
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Tanh, nn.Hardtanh, nn.Sigmoid, nn.Hardsigmoid, nn.Hardswish, nn.Softplus, nn.Softsign),
)
_FUNCTIONS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.feature_dropout,
    torch.alpha_dropout,
)


class _Inserted:
    """A forward hook that drops a module's outputs; copied with the module."""

    def __init__(self, kind: DropoutKind) -> None:
        self.probability, self.kind = 0.0, kind

    def __call__(self, module: nn.Module, args: Any, outputs: Tensor) -> Tensor:
        return drop(outputs, self.probability, self.kind) if module.training else outputs


@dataclass(frozen=True, slots=True)
class DropoutPlace:
    """One rate of a model.

    Args:
        name: dotted; of the layer, of the module and its attribute ("blocks.0.attention.dropout"), or of the
            activation behind which it drops.
        module: it drops while this module is in training mode.
        attribute: what holds the rate; "" where it was inserted behind an activation.
    """

    name: str
    module: nn.Module
    attribute: str

    @property
    def probability(self) -> float:
        holder: Any = self.module if self.attribute else self.module.__dict__[_INSERTED]
        return float(getattr(holder, self.attribute or "probability"))

    def set_(self, probability: float) -> None:
        """Change the rate."""
        holder: Any = self.module if self.attribute else self.module.__dict__[_INSERTED]
        setattr(holder, self.attribute or "probability", probability)

    @property
    def has_kind(self) -> bool:
        """Whether it can drop whole channels or for all of time: rates held as numbers and alpha dropout can't."""
        return not self.attribute or type(self.module) in _SWAPPED

    def use_(self, kind: DropoutKind | None) -> None:
        """Draw masks fast, and of a kind (None: the layer's own). Rates held as numbers and alpha dropout stay as they are."""
        module: Any = self.module
        if not self.attribute:
            module.__dict__[_INSERTED].kind = kind or "element"
        elif self.has_kind and (kind is not None or type(module) is nn.Dropout):
            # The class changes under the object: its hooks stay, and so does every name that it goes by.
            module.__class__ = DropoutLayer
            module.kind = kind or "element"


def dropout_places(model: nn.Module) -> list[DropoutPlace]:
    """Every rate that can be set, in the model's order; a module that goes by two names is listed once.

    >>> places = dropout_places(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.LSTM(2, 2, num_layers=2, dropout=0.1)))
    >>> [(place.name, place.probability) for place in places]
    [('1', 0.5), ('2.dropout', 0.1)]
    """
    return [place for name, module in model.named_modules() for place in _of_module(name, module)]


def _of_module(name: str, module: nn.Module) -> Iterator[DropoutPlace]:
    if isinstance(module, _DropoutNd):
        yield DropoutPlace(name, module, "p")
        return
    if isinstance(module, nn.RNNBase) and module.num_layers == 1:
        return  # it drops between layers only
    for attribute, value in vars(module).items():
        if _RATE_NAME.fullmatch(attribute) and isinstance(value, (int, float)) and not isinstance(value, bool):
            yield DropoutPlace(f"{name}.{attribute}".lstrip("."), module, attribute)
    if _INSERTED in module.__dict__:
        yield DropoutPlace(name, module, "")


def insert_dropout_(module: nn.Module, kind: DropoutKind = "element") -> None:
    """Drop a module's outputs while it trains, at rate 0 until it is set; names and state_dict stay as they are."""
    if _INSERTED not in module.__dict__:
        module.__dict__[_INSERTED] = hook = _Inserted(kind)
        module.register_forward_hook(hook)


def switch_on_(model: nn.Module) -> int:
    """Put everything that drops into training mode, and nothing else (Monte-Carlo dropout); how many rates are above 0."""
    places = [place for place in dropout_places(model) if place.probability > 0]
    for place in places:
        place.module.training = True
    return len(places)


def last_with_parameters(model: nn.Module) -> str | None:
    """The last module that holds parameters of its own, in the order of registration.

    >>> last_with_parameters(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    '0'
    """
    names = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    return names[-1] if names else None


def behind_the_last_layer(model: nn.Module) -> list[nn.Module]:
    """What a Sequential runs after its last module with parameters: dropout there would drop the model's outputs.

    >>> behind_the_last_layer(nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.Dropout(0.5)))
    [Dropout(p=0.5, inplace=False)]
    """
    behind: list[nn.Module] = []
    tail: Any = model
    while isinstance(tail, nn.Sequential) and any(True for _ in tail.parameters()):
        children = list(tail)
        while not any(True for _ in children[-1].parameters()):
            behind += children.pop().modules()
        tail = children[-1]
    return behind


def bare_activations(model: nn.Module) -> list[nn.Module]:
    """Activations registered before the last module with parameters that no dropout layer follows in a Sequential."""
    last = last_with_parameters(model)
    followed = {
        id(child)
        for module in model.modules()
        if isinstance(module, nn.Sequential)
        for child, after in itertools.pairwise(_flattened(module))
        if isinstance(after, _DropoutNd)
    }
    names = itertools.takewhile(lambda item: item[0] != last, model.named_modules())
    return [module for _, module in names if isinstance(module, _ACTIVATIONS) and id(module) not in followed]


def _flattened(module: nn.Sequential) -> list[nn.Module]:
    """What a Sequential runs, one after the other, nested ones opened and what only reshapes left out."""
    found: list[nn.Module] = []
    for child in module:
        found += _flattened(child) if isinstance(child, nn.Sequential) else [child]
    return [child for child in found if not isinstance(child, (nn.Flatten, nn.Unflatten, nn.Identity))]


def unreachable_dropout(model: nn.Module) -> list[str]:
    """Modules whose own code calls a dropout function at a rate that nothing holds; 'name (Class)' each.

    Found by reading the compiled methods of the class: a rate written into the code can't be set from outside. A
    number with a name like `dropout` holds a rate; for attention a dropout layer among the children does too.
    """
    found = []
    for name, module in model.named_modules():
        calls = _dropout_calls(type(module)) if not list(_of_module(name, module)) else set()
        if any(isinstance(child, _DropoutNd) for child in module.children()):
            calls -= {"attention"}
        if calls:
            found.append(f"{name or 'the model'} ({type(module).__name__})")
    return found


def _dropout_calls(kind: type) -> set[str]:
    calls = set()
    for function, code in functions_called(kind, (*_FUNCTIONS, F.scaled_dot_product_attention)):
        if function is not F.scaled_dot_product_attention:
            calls.add("function")
        # Keywords of calls stand among the constants.
        elif any(isinstance(const, tuple) and "dropout_p" in const for const in code.co_consts):
            calls.add("attention")
    return calls
