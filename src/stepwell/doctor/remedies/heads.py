"""Remedies of the last layer: as many outputs as there are classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.remedies.output_wrappers import FlatEntropy
from stepwell.doctor.setup import Setup

Entropy = Literal["as it is", "of scores", "of shares"]
FOLLOWS = ("unstable_loss", "unscaled_targets", "target_shape_mismatch", "loss_sign_flipped", "wrong_loss", "lr_too_high")


def missing_outputs(
    setup: Setup, num_classes: int, evidence: Mapping[str, Number], *, entropy: Entropy = "as it is"
) -> Suspicion:
    change = partial(_resized, num_classes=num_classes, entropy=entropy)
    possible = True
    try:
        possible = resized_head(setup, num_classes, entropy=entropy) is not None
    except Exception:  # a model that takes no other width
        possible = False
    with_loss = "" if entropy == "as it is" else " and use cross-entropy"
    return Suspicion(
        "wrong_num_outputs",
        f"the labels have {num_classes} classes, the model has {evidence['num_outputs']} outputs",
        "there is no output for some of the classes: the loss fails, or pulls outputs where it means nothing",
        evidence,
        Remedy(f"Give the last layer {num_classes} outputs{with_loss}", change if possible else None),
        proof="certain",
        weight=1.0,
        explains=("label_out_of_range", *FOLLOWS),
        blocks=True,
    )


def _resized(setup: Setup, num_classes: int, entropy: Entropy) -> Setup:
    mended = resized_head(setup, num_classes, entropy=entropy)
    return setup if mended is None else mended


def head_of(model: nn.Module, inputs: Any, num_outputs: int) -> str | None:
    """The path of the last layer that ran and has this many outputs; None where there is none that could be replaced."""
    ran: list[str] = []
    hooks = []
    for name, part in model.named_modules():
        if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)) and len(part.weight) == num_outputs:
            hooks.append(part.register_forward_hook(lambda *_, name=name: ran.append(name)))
    try:
        model.eval()
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran else None


def resized_head(setup: Setup, num_classes: int, *, entropy: Entropy = "as it is") -> Setup | None:
    """A new last layer with an output per class; None where no last layer is found, or the outputs don't follow it.

    Args:
        entropy: "as it is" keeps the loss; "of scores" and "of shares" make it a cross-entropy.
    """
    copied = setup.copied()
    some = setup.train.take(slice(0, 2)).inputs
    with seeded_defaults(0):
        with torch.no_grad():
            width = int(copied.model.eval()(some).shape[-1])
        path = head_of(copied.model, some, width)
        if path is None:
            return None
        old = copied.model.get_submodule(path)
        bias = old.bias is not None
        new: nn.Module
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, num_classes, bias)
        elif isinstance(old, (nn.Conv1d, nn.Conv2d)) and old.groups == 1:
            new = type(old)(old.in_channels, num_classes, old.kernel_size, old.stride, old.padding, old.dilation, bias=bias)  # type: ignore[arg-type]
        else:
            return None
        copied = with_part(copied, path, new)
        with torch.no_grad():
            if num_classes not in copied.model(some).shape[1:]:
                return None
    for mine, theirs in zip(copied.model.modules(), setup.model.modules(), strict=False):
        mine.training = theirs.training
    if entropy == "as it is":
        return copied
    return copied.change(loss=FlatEntropy(share=entropy == "of shares"))


def with_part(copied: Setup, path: str, new: nn.Module) -> Setup:
    """A copied setup with one module replaced in place; what the optimizer held of the old one, it holds of the new one."""
    old = {id(tensor): name for name, tensor in copied.model.get_submodule(path).named_parameters()}
    fresh = dict(new.named_parameters())
    model = copied.model
    if path:
        model.set_submodule(path, new)
    else:
        model = new
    held = copied.optimizer.get("params")
    if held is None:
        return copied.change(model=model)

    def exchanged(tensor: Any) -> Any:
        return fresh.get(old[id(tensor)], tensor) if id(tensor) in old else tensor

    swapped = [
        {**part, "params": [exchanged(one) for one in part["params"]]} if isinstance(part, dict) else exchanged(part)
        for part in held
    ]
    return copied.change(model=model).with_optimizer(params=swapped)
