"""Parameters by name pattern, and batch-norm statistics that stand still while their module is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.errors import JobError, nearest

__all__ = ["allow_holding", "claim", "hold_statistics", "matched_names", "moves", "norms_of", "release_claims", "set_held"]

_HELD = "_stepwell_statistics_held"
_CLAIM = "_stepwell_claimed_by"
_FOR_GOOD = "_stepwell_statistics_held_for_good"


def matched_names(model: nn.Module, patterns: Sequence[str], name: str) -> list[str]:
    """Names of the parameters that a list of patterns covers, in the model's order.

    Args:
        patterns: names of modules or parameters, shell wildcards allowed ("layer4", "blocks.*.attention", "head.bias");
            a module covers everything inside it.
        name: whose patterns these are, for messages ("freeze.patterns").

    Raises:
        JobError: a pattern that covers nothing.

    >>> matched_names(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), ["1"], "freeze.patterns")
    ['1.weight', '1.bias']
    """
    covered: set[str] = set()
    parameters = [parameter for parameter, _ in model.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        found = [parameter for parameter in parameters if any(fnmatchcase(part, pattern) for part in _prefixes(parameter))]
        if not found:
            known = dict.fromkeys(part for parameter in parameters for part in _prefixes(parameter))
            raise JobError(
                f"{name} has {pattern!r}, which matches no module or parameter of the model",
                expected="the name of a module, or a pattern such as 'blocks.0*'",
                fix=nearest(pattern, known),
            )
        covered.update(found)
    return [parameter for parameter in parameters if parameter in covered]


def claim(model: nn.Module, names: Iterable[str], owner: str) -> None:
    """Say who decides when parameters are trained: two techniques on one tensor would silently undo each other.

    Raises:
        JobError: another technique decides about one of them.

    >>> model = nn.Linear(2, 2)
    >>> claim(model, ["weight"], "freeze"); claim(model, ["bias"], "unfreezing")
    """
    for name in names:
        parameter = model.get_parameter(name)
        before = parameter.__dict__.setdefault(_CLAIM, owner)
        if before != owner:
            raise JobError(
                f"{before} and {owner} both decide when {name} is trained",
                expected="one of them for each parameter",
                fix=f"Leave {name} out of the patterns of one of the two",
            )


def release_claims(model: nn.Module) -> None:
    """Forget the claims of an earlier run of the same model."""
    for parameter in model.parameters():
        parameter.__dict__.pop(_CLAIM, None)


def _prefixes(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def norms_of(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Batch norms with running statistics in what the patterns cover."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        and module.track_running_stats
        and any(fnmatchcase(part, pattern) for part in _prefixes(name) for pattern in patterns)
    ]


def allow_holding(norm: nn.Module) -> None:
    """Prepare a batch norm for `set_held`; its behaviour doesn't change yet."""
    if _HELD not in norm.__dict__:
        # A hook and a plain attribute: both are copied with the module, and neither is in its state_dict.
        norm.__dict__[_HELD] = False
        norm.register_forward_pre_hook(_use_running_statistics)


def set_held(norm: nn.Module, held: bool) -> None:
    """While held, a batch norm uses its running statistics unchanged, whatever mode its model is put into."""
    norm.__dict__[_HELD] = held


def hold_statistics(norms: Iterable[nn.Module]) -> None:
    """From now on these batch norms use their running statistics unchanged, whatever mode the model is put into.

    >>> norm = nn.BatchNorm1d(2, eps=0.0, affine=False)
    >>> hold_statistics([norm])
    >>> import torch
    >>> norm.train()(torch.tensor([[1.0, 5.0]])).tolist()
    [[1.0, 5.0]]
    """
    for norm in norms:
        # A hook of its own, beside the one that freezing and thawing use: thawing must not let go of what is held here.
        if _FOR_GOOD not in norm.__dict__:
            norm.__dict__[_FOR_GOOD] = True
            norm.register_forward_pre_hook(_as_in_evaluation)


def moves(norm: nn.Module) -> bool:
    """Whether a batch norm has running statistics that nothing holds."""
    held = norm.__dict__.get(_HELD, False) or norm.__dict__.get(_FOR_GOOD, False)
    return getattr(norm, "running_mean", None) is not None and not held


def _as_in_evaluation(norm: nn.Module, args: Any) -> None:
    norm.training = False


def _use_running_statistics(norm: nn.Module, args: Any) -> None:
    if norm.__dict__[_HELD]:
        norm.training = False
