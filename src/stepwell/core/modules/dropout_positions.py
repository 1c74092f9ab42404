"""Where a place that drops stands in a model, and the rates that are usual there."""

from __future__ import annotations

from torch import nn

from stepwell.core.modules.dropout_places import DropoutPlace

__all__ = ["DROPOUT_RATES", "dropout_position"]

# By where a layer stands. "typical": the table of the techniques page (0.2-0.5 between recurrent layers read as its
# middle) and 0.1 on embeddings (Vaswani et al. 2017). "guideline": the middle of each range of the chapter's table.
DROPOUT_RATES: dict[str, dict[str, float]] = {
    "typical": {
        "input": 0.0,
        "hidden": 0.5,
        "convolution": 0.25,
        "head": 0.5,
        "embedding": 0.1,
        "attention": 0.1,
        "feed_forward": 0.1,
        "recurrent": 0.35,
    },
    "guideline": {
        "input": 0.1,
        "hidden": 0.4,
        "convolution": 0.2,
        "head": 0.4,
        "embedding": 0.2,
        "attention": 0.2,
        "feed_forward": 0.2,
        "recurrent": 0.35,
    },
}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def dropout_position(model: nn.Module, place: DropoutPlace) -> str:
    """Where a place stands, by the kinds of modules around it: a key of `DROPOUT_RATES["typical"]`.

    >>> from stepwell.core.modules.dropout_places import dropout_places
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(), nn.Flatten(), nn.Linear(8, 4), nn.Dropout())
    >>> [dropout_position(model, place) for place in dropout_places(model)]
    ['convolution', 'head']
    """
    if isinstance(place.module, nn.RNNBase):
        return "recurrent"
    modules = list(model.modules())
    attends = any(_attends(module) for module in modules)
    if place.attribute not in ("p", "") and _attends(place.module):
        return "attention"
    before = modules[: next(number for number, module in enumerate(modules) if module is place.module)]
    layers = [module for module in before if _is_layer(module)]
    if not layers:
        return "input"
    last = layers[-1]
    if isinstance(last, _CONVOLUTIONS):
        return "convolution"
    if isinstance(last, nn.RNNBase):
        return "recurrent"
    if not isinstance(last, nn.Linear):
        return "embedding"
    return "feed_forward" if attends else "head" if any(isinstance(layer, _CONVOLUTIONS) for layer in layers) else "hidden"


def _attends(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or "attention" in type(module).__name__.lower()


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Embedding, nn.RNNBase, *_CONVOLUTIONS)) or (
        "position" in {getattr(parameter, "stepwell_role", None) for parameter in module.parameters(recurse=False)}
    )
