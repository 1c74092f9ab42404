"""Remedies that change the model: another call here or there, weights drawn anew, everything that computes trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.calls import Handled, Key
from stepwell.doctor.hidden import hidden_parts
from stepwell.doctor.setup import Setup

Change = Callable[[Setup], Setup]
Action = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""What is done in place of a call: of its function and its arguments."""


class Rewired(nn.Module):
    """A model in whose forward pass some calls are others.

    Args:
        inner: the model.
        actions: of calls, by name and number; the number None stands for all of that name.
    """

    def __init__(self, inner: nn.Module, actions: Mapping[tuple[str, int | None], Action]) -> None:
        super().__init__()
        self.inner = inner
        self.actions = dict(actions)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with Handled(self._handle):
            return self.inner(*args, **kwargs)

    def _handle(self, key: Key, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        action = self.actions.get(key, self.actions.get((key[0], None)))
        return func(*args, **kwargs) if action is None else action(func, args, kwargs)


class InTraining(nn.Module):
    """A model all of whose parts follow `train` and `eval`, whatever they make of it themselves, and only from outside of their
    forward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def train(self, mode: bool = True) -> InTraining:
        for module in self.modules():
            module.training = mode
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        parts = list(self.inner.modules())
        for part in parts:  # before the class's own methods, for as long as the pass takes
            part.__dict__ |= {"train": lambda mode=True, part=part: part, "eval": lambda part=part: part}
        try:
            return self.inner(*args, **kwargs)
        finally:
            for part in parts:
                del part.__dict__["train"], part.__dict__["eval"]


def untouched(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call's first tensor as it is."""
    return args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))


def instead(other: Callable[[Tensor], Tensor]) -> Action:
    """Another function of the call's first tensor."""
    return lambda func, args, kwargs: other(untouched(func, args, kwargs))


def then(other: Callable[[Tensor], Tensor]) -> Action:
    """Another function of what the call returns."""
    return lambda func, args, kwargs: other(func(*args, **kwargs))


def straight_through(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call's values with the gradient of doing nothing (Bengio, Leonard & Courville 2013)."""
    given = untouched(func, args, kwargs)
    return given + (func(*args, **kwargs) - given).detach()


def nothing(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The call is left out."""


def along(dim: int) -> Action:
    """The same call along another dimension."""

    def moved(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(args[0], **{**{key: value for key, value in kwargs.items() if key != "dim"}, "dim": dim})

    return moved


def rewired(actions: Mapping[tuple[str, int | None], Action]) -> Change:
    """Other calls in the forward pass of a copy."""

    def change(setup: Setup) -> Setup:
        copied = setup.copied()
        return copied.change(model=Rewired(copied.model, actions))

    return change


def in_training(setup: Setup) -> Setup:
    """All parts of the model follow train() and eval()."""
    copied = setup.copied()
    return copied.change(model=InTraining(copied.model))


def hold_all(setup: Setup) -> Setup:
    """Everything in the model trains, and the optimizer holds it."""
    copied = setup.copied()
    copied.model.requires_grad_(True)
    settings = {key: value for key, value in copied.optimizer.items() if key != "params"}
    return copied.change(optimizer=settings)


def drawn_anew(names: Iterable[str] | None = None, *, spread: Literal["default", "he"] = "default") -> Change:
    """Weights as the classes of their layers draw them; those of no class that can, as linear layers do.

    Args:
        names: of parameters whose layers are drawn; None for all.
        spread: "he" then draws linear and convolutional weights by He's rule (arXiv:1502.01852) with biases of 0, which keeps
            signals up through many layers.
    """
    chosen = None if names is None else set(names)

    def change(setup: Setup) -> Setup:
        copied = setup.copied()
        with seeded_defaults(0), torch.no_grad():
            _draw_(copied.model, chosen)
            if spread == "he":
                _draw_by_he_(copied.model)
        return copied

    return change


def shrunk(names: Iterable[str], factor: float) -> Change:
    """Some of the parameters at `factor` times their size."""
    chosen = tuple(names)

    def change(setup: Setup) -> Setup:
        copied = setup.copied()
        with torch.no_grad():
            for name in chosen:
                copied.model.get_parameter(name).mul_(factor)
        return copied

    return change


def _draw_by_he_(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _draw_(model: nn.Module, chosen: set[str] | None) -> None:
    for prefix, module in model.named_modules():
        own = {f"{prefix}.{name}".lstrip("."): part for name, part in module.named_parameters(recurse=False)}
        if not own or (chosen is not None and chosen.isdisjoint(own)):
            continue
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            reset()
            continue
        for part in own.values():
            if part.dim() >= 2:
                nn.init.kaiming_uniform_(part, a=5**0.5)


def registered(hidden: Iterable[tuple[str, str]]) -> Change:
    """Hidden modules and tensors become parts of a copy.

    Args:
        hidden: where each lies: name of the module that has it, path of attribute and keys below it.
    """
    places = list(hidden)

    def change(setup: Setup) -> Setup:
        copied = setup.copied()
        for part in hidden_parts(copied.model):
            if (part.owner, part.path) in places:
                part.register_(copied.model)
        return copied.change(optimizer={key: value for key, value in copied.optimizer.items() if key != "params"})

    return change
