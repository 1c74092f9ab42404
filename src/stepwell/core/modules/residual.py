"""Residual blocks of a model: those that say so, or those that a person names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from stepwell.core.errors import JobError, nearest

__all__ = ["ResidualBlock", "branch_modules", "check_patterns", "residual_blocks"]

ROLE = "residual"
# Children that hold the way around the branch, by the names that torchvision, timm and others give them.
_SHORTCUTS = ("downsample", "shortcut", "skip", "skip_connection", "identity", "proj_shortcut")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """shortcut(x) + branch(x), somewhere in a model.

    Args:
        name: its dotted place in the model ("body.3"); "" where the model itself is one.
        module: the whole block.
        branch: what is added, or None where it is not one module (a block of another library, named by a pattern).
    """

    name: str
    module: nn.Module
    branch: nn.Module | None


def residual_blocks(
    model: nn.Module, patterns: Sequence[str] | None = None, name: str = "stochastic_depth.patterns"
) -> list[ResidualBlock]:
    """The residual blocks of a model, in the model's order.

    Without patterns: the modules that declare `stepwell_role = "residual"` (`stepwell.models.parts.Residual` does);
    the branch is their attribute `branch`. With patterns: the outermost modules whose dotted name or whose class's
    name matches; where such a module holds blocks that declare themselves, those.

    Args:
        patterns: shell wildcards over dotted names ("layer?.*") or class names ("Bottleneck"); None for declared blocks.
        name: the setting the patterns come from, for messages.

    Raises:
        JobError: no block, or a pattern that matches none; the nearest known names are given.

    >>> class Block(nn.Module):
    ...     stepwell_role = "residual"
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.branch = nn.Linear(2, 2)
    >>> [block.name for block in residual_blocks(nn.Sequential(nn.Linear(2, 2), Block(), Block()))]
    ['1', '2']
    """
    if patterns is None:
        declared = list(_declared(model, ""))
        if not declared:
            raise JobError(
                "the model has no residual block that declares itself",
                expected='modules with the attribute stepwell_role = "residual", as the models resnet and transformer have',
                fix=f"Leave {name.partition('.')[0]} out, or name its blocks in {name} by place or class, e.g. ['layer?.*'] or "
                f"['Bottleneck']. {nearest('Block', _candidates(model).values())}",
            )
        return declared
    found: dict[str, ResidualBlock] = {}
    for pattern in patterns:
        found.update((block.name, block) for block in _matched(model, pattern, name))
    return [found[place] for place, _ in model.named_modules() if place in found]


def branch_modules(block: ResidualBlock) -> list[tuple[str, nn.Module]]:
    """Modules of a block's branch with their places in the model, in the order they were registered.

    Where the branch is not one module, it is everything in the block but the shortcut (children called downsample,
    shortcut, skip, ...). That order is taken for the order of the computation.

    >>> block = ResidualBlock("3", nn.Sequential(nn.Linear(2, 2), nn.ReLU()), None)
    >>> [place for place, _ in branch_modules(block)]
    ['3.0', '3.1']
    """
    places = {id(module): place for place, module in block.module.named_modules(prefix=block.name)}
    if block.branch is not None:
        return [(places[id(module)], module) for module in block.branch.modules()]
    kept = [child for called, child in block.module.named_children() if called not in _SHORTCUTS]
    return [(places[id(module)], module) for child in kept for module in child.modules()]


def check_patterns(name: str, patterns: Sequence[str] | None) -> None:
    """Refuse patterns that are not a list of names (or None).

    Raises:
        JobError: they are not.
    """
    good = patterns is None or (
        isinstance(patterns, (list, tuple)) and bool(patterns) and all(isinstance(p, str) for p in patterns)
    )
    if not good:
        raise JobError(
            f"{name} is {patterns!r}",
            expected="a list of names of residual blocks, or nothing",
            fix='Leave it out for blocks that declare themselves, or write e.g. ["layer?.*"]',
        )


def _block(place: str, module: nn.Module) -> ResidualBlock:
    branch = getattr(module, "branch", None)
    return ResidualBlock(place, module, branch if isinstance(branch, nn.Module) else None)


def _declared(module: nn.Module, prefix: str) -> Iterator[ResidualBlock]:
    for place, part in module.named_modules(prefix=prefix):
        if getattr(part, "stepwell_role", None) == ROLE:
            yield _block(place, part)


def _candidates(model: nn.Module) -> dict[str, str]:
    """Modules that could be a block: those made of others; place -> class name."""
    return {
        place: type(module).__name__
        for place, module in model.named_modules()
        if place and not isinstance(module, _CONTAINERS) and any(True for _ in module.children())
    }


def _matched(model: nn.Module, pattern: str, name: str) -> list[ResidualBlock]:
    outermost: list[str] = []
    blocks: list[ResidualBlock] = []
    for place, module in model.named_modules():
        if any(place.startswith(f"{outer}.") for outer in outermost):
            continue
        if place and (fnmatchcase(place, pattern) or fnmatchcase(type(module).__name__, pattern)):
            outermost.append(place)
            declared = list(_declared(module, place))
            if not declared and isinstance(module, _CONTAINERS):
                raise JobError(
                    f"{name} has {pattern!r}, which matches {place!r}, a {type(module).__name__} of modules",
                    expected="modules that add a branch to their input",
                    fix=f"Name what is inside it: '{place}.*'",
                )
            # A single layer adds nothing to its input.
            if declared or any(True for _ in module.children()):
                blocks += declared or [_block(place, module)]
    if not blocks:
        candidates = _candidates(model)
        raise JobError(
            f"{name} has {pattern!r}, which matches no residual block of the model",
            expected="the place or the class of a block, or a pattern such as 'layer?.*'",
            fix=nearest(pattern, {*candidates, *candidates.values()}),
        )
    return blocks
