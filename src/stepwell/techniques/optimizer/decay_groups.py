"""Decay groups: weight decay for weights, none for norms, biases and tensors that are no weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from stepwell.core.catalog import technique
from stepwell.core.errors import JobError, nearest

__all__ = ["ROLES", "DecayGroups", "DecayRow", "decay_table"]

# What a bare parameter can declare itself to be: on the tensor (`parameter.stepwell_role = "position"`), or on the
# module that owns it (`stepwell_roles = {"position": "position"}`), which copy.deepcopy keeps.
ROLES = {"position": "a positional encoding", "class_token": "a class token", "scale": "a layer scale"}
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True)
class DecayRow:
    """One tensor of a model and whether it decays.

    Args:
        name: the first of its names.
        shape: its shape.
        decays: whether weight decay applies.
        reason: why.
    """

    name: str
    shape: tuple[int, ...]
    decays: bool
    reason: str


def decay_table(model: nn.Module) -> list[DecayRow]:
    """Every tensor of a model, each once, with the decision and its reason; never decided by name.

    In this order: the type of a module that owns it (a norm), fewer than two dimensions (biases, gains), a declared
    role (positional encoding, class token, layer scale). Everything else decays.

    Raises:
        JobError: a declared role that is not known.

    >>> [(row.name, row.decays) for row in decay_table(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))]
    [('0.weight', True), ('0.bias', False), ('1.weight', False), ('1.bias', False)]
    """
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((module, name))
    rows = []
    for name, parameter in model.named_parameters():
        why = _why_not(name, parameter, owners.get(id(parameter), []))
        reason = why or ("a weight" if len(owners.get(id(parameter), [])) < 2 else "a weight, tied")
        rows.append(DecayRow(name, tuple(parameter.shape), why is None, reason))
    return rows


def _why_not(name: str, parameter: Tensor, owners: list[tuple[nn.Module, str]]) -> str | None:
    for module, _ in owners:
        if isinstance(module, _NORMS):
            return f"of a {type(module).__name__}"
    if parameter.ndim < 2:
        return f"has {parameter.ndim} dimension{'' if parameter.ndim == 1 else 's'}"
    declared = [getattr(module, "stepwell_roles", {}).get(own) for module, own in owners]
    for role in [getattr(parameter, "stepwell_role", None), *declared]:
        if role is None:
            continue
        if role not in ROLES:
            raise JobError(
                f"the parameter {name} declares the role {role!r}", expected="a known role", fix=nearest(str(role), ROLES)
            )
        return ROLES[role]
    return None


@technique(
    id="decay_groups",
    slot="optimizer",
    role="groups",
    paper="He et al. 2019, arXiv:1812.01187",
)
class DecayGroups:
    """No weight decay for norms, biases and other tensors that are no weights.

    What: decay is 0 for parameters of norm layers (by module type), for everything with fewer than two dimensions,
    and for bare parameters with a declared role (positional encoding, class token, layer scale). Why: decaying a gain
    or an offset regularises nothing and shifts what a layer can express. When not: comparing with a published run
    that decays everything.

    A bare parameter declares its role on itself, `parameter.stepwell_role = "position"`, or on its module,
    `stepwell_roles = {"position_embedding": "position"}`; "position", "class_token" and "scale" are known.

    Raises:
        JobError: an unknown role.

    Paper: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019,
    arXiv:1812.01187, section 3.1.

    >>> DecayGroups()(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2, bias=False)))
    {'0.bias': {'weight_decay': 0.0}, '1.weight': {'weight_decay': 0.0}}
    """

    def __call__(self, model: nn.Module) -> dict[str, dict[str, float]]:
        return {row.name: {"weight_decay": 0.0} for row in decay_table(model) if not row.decays}
