"""Layer-wise rates: the deeper a layer lies below the head, the lower its learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require_between
from stepwell.core.errors import JobError
from stepwell.core.modules.norms import is_norm

__all__ = ["LayerRow", "LayerwiseLr", "layer_table", "layers_of"]

_LISTS = (nn.Sequential, nn.ModuleList)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_BLOCKS = ("block", "residual")  # what a module declares itself to be: `stepwell_role = "block"`
_PLACES = ("position", "class_token")  # what a bare parameter declares itself to be


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One tensor of a model, and what its layer's depth makes of its rate.

    Args:
        name: the first of its names.
        depth: layers between its own and the head; 0 for the head.
        factor: what multiplies its rate.
    """

    name: str
    depth: int
    factor: float


@dataclass(frozen=True, slots=True)
class _Part:
    """What is not taken apart further: an "embedding", a "norm", a "layer", or a module's "bare" parameters."""

    kind: str
    parameters: list[nn.Parameter]


def layers_of(model: nn.Module) -> list[list[str]]:
    """The layers of a model from the bottom to the head, each as the names of its parameters.

    The model is taken apart in the order of its children; of these, a list (`nn.Sequential`, `nn.ModuleList`) and a
    module that holds a list of several layers or blocks are taken apart too. One layer is what declares itself a block
    (`stepwell_role`), the members of a list that are all of one class (the blocks of a transformer), and any module
    without such a list. A norm belongs to the layer before it. The bottom layer is made of the embeddings, of bare
    parameters of modules that were taken apart, and of declared positions and class tokens; without an embedding these
    belong to the first layer.

    >>> layers_of(nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 1)))
    [['0.weight', '0.bias', '1.weight', '1.bias'], ['3.weight', '3.bias']]
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    bottom: list[str] = []
    layers: list[list[str]] = []
    only_norms = embedded = False
    for part in _parts(model, root=True):
        own = [names.pop(id(parameter)) for parameter in part.parameters if id(parameter) in names]
        if not own:
            continue
        embedded = embedded or part.kind == "embedding"
        if part.kind in ("embedding", "bare"):
            bottom += own
        elif layers and (part.kind == "norm" or only_norms):
            layers[-1] += own
            only_norms = only_norms and part.kind == "norm"
        else:
            layers.append(own)
            only_norms = part.kind == "norm"  # a norm before the first layer belongs to that one
    if bottom and layers and not embedded:
        layers[0] = bottom + layers[0]
    elif bottom:
        layers.insert(0, bottom)
    return layers


def layer_table(model: nn.Module, *, decay: float) -> list[LayerRow]:
    """Every tensor of a model, from the bottom to the head, with its depth and its factor decay ** depth.

    >>> table = layer_table(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), decay=0.5)
    >>> [(row.name, row.depth, row.factor) for row in table if row.name.endswith("weight")]
    [('0.weight', 1, 0.5), ('2.weight', 0, 1.0)]
    """
    layers = layers_of(model)
    depths = range(len(layers) - 1, -1, -1)
    return [LayerRow(name, depth, decay**depth) for depth, layer in zip(depths, layers, strict=True) for name in layer]


def _parts(module: nn.Module, *, root: bool = False, member: bool = False) -> Iterator[_Part]:
    """The parts of a module in order; `member` says that it is one of a list whose members are all of its class."""
    children = _children(module)
    whole = not isinstance(module, _LISTS) and (member or not (root or _is_row(module)))
    if whole or not children:
        yield _Part(_kind(module, member), list(module.parameters()))
        return
    yield _Part("bare", list(module.parameters(recurse=False)))
    of_one_class = isinstance(module, _LISTS) and len({type(child) for child in children}) == 1
    for child in children:
        yield from _parts(child, member=of_one_class)


def _children(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.children() if any(True for _ in child.parameters())]


def _is_row(module: nn.Module) -> bool:
    """Whether a module is a row of layers rather than one: it holds blocks, or a list with two members of one class."""
    if getattr(module, "stepwell_role", None) in _BLOCKS:
        return False
    inside = [part for part in module.modules() if part is not module]
    if any(getattr(part, "stepwell_role", None) in _BLOCKS for part in inside):
        return True
    classes = [[type(child) for child in _children(part)] for part in inside if isinstance(part, _LISTS)]
    return any(len(set(found)) < len(found) for found in classes)


def _kind(module: nn.Module, member: bool) -> str:
    if is_norm(module):
        return "norm"
    if isinstance(module, _EMBEDDINGS) or (not member and any(isinstance(part, _EMBEDDINGS) for part in module.modules())):
        return "embedding"
    declared = getattr(module, "stepwell_roles", {})
    roles = {getattr(p, "stepwell_role", declared.get(name)) for name, p in module.named_parameters()}
    return "bare" if roles and roles <= set(_PLACES) else "layer"


@technique(
    id="layerwise_lr",
    slot="optimizer",
    role="groups",
    paper="Howard & Ruder 2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555",
    search={"decay": (0.4, 0.95, "linear")},
)
class LayerwiseLr:
    """Lower the learning rate layer by layer, from the head down.

    What: the head trains at the configured rate, the layer below it at `decay` times that, the next at decay^2, and so on
    down to the embeddings; `layer_table` shows every tensor's depth and factor. Why: the lower layers of a pretrained
    model are the more general ones, and need the least change. When not: training from scratch; models whose children
    don't stand in the order in which they are used: name the parts in lr_groups instead.

    Args:
        decay: factor per layer, in (0, 1]. 0.65 to 0.95 is usual for transformers, 1 / 2.6 was the first paper's; 1
            changes nothing.

    Raises:
        JobError: a decay outside its range; a model of one layer only.

    Paper: Howard & Ruder, "ULMFiT", ACL 2018, arXiv:1801.06146, section 3.2; per layer of a transformer: Clark et al.,
    "ELECTRA", ICLR 2020, arXiv:2003.10555.

    >>> LayerwiseLr(decay=0.5)(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)))
    {'0.weight': {'lr': 0.5}, '0.bias': {'lr': 0.5}}
    """

    decay: float = 0.75

    def __post_init__(self) -> None:
        require_between("layerwise_lr.decay", self.decay, 0, 1, "Try 0.75, or 1 for one rate", ends="(]")

    def __call__(self, model: nn.Module) -> dict[str, dict[str, float]]:
        table = layer_table(model, decay=self.decay)
        if len({row.depth for row in table}) < 2:
            raise JobError(
                f"layerwise_lr finds one layer only in this {type(model).__name__}",
                expected="a model of several layers",
                fix="Leave layerwise_lr out, or name the parts in lr_groups",
            )
        # A factor of 1 is left out: it would only make a second group of the same settings.
        return {row.name: {"lr": row.factor} for row in table if row.factor != 1.0}
