"""Whether what drops in a model has the dimensions that a kind of dropout shares its masks over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.modules.dropout import DropoutKind
from stepwell.core.modules.dropout_places import DropoutPlace

__all__ = ["require_room"]

_WANTED = {"spatial": "images or series, (samples, channels, ...)", "variational": "sequences, (samples, steps, features)"}


def require_room(kind: DropoutKind, places: Sequence[DropoutPlace], call: Callable[[], Any]) -> None:
    """Refuse a kind that would drop as "element" does, or fail in training.

    Beside images or sequences vectors are right: the head of a network drops its numbers one by one.

    Args:
        kind: what the places drop; "element" needs no room.
        places: those without a kind of their own are looked at.
        call: calls the model on a few examples.

    Raises:
        JobError: every place drops vectors, or a variational one drops images.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1))
    >>> require_room("spatial", [DropoutPlace("1", model[1], "p")], lambda: model(nn.Linear(2, 8).weight))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    stepwell.core.errors.JobError: dropout.kind is 'spatial', but '1' drops plain vectors, (8, 3); expected ...
    """
    if kind == "element":
        return
    seen = _shapes_seen([place for place in places if place.has_kind], call)
    if seen and all(len(shape) < 3 for shape in seen.values()):
        name, shape = next(iter(seen.items()))
        raise JobError(
            f"dropout.kind is {kind!r}, but {name!r} drops plain vectors, {shape}",
            expected=_WANTED[kind],
            fix="Take kind: element, which is all that vectors can have",
        )
    images = [name for name, shape in seen.items() if len(shape) > 3]
    if kind == "variational" and images:
        raise JobError(
            f"dropout.kind is 'variational', but {images[0]!r} drops {seen[images[0]]}",
            expected=_WANTED[kind],
            fix=f"Take kind: spatial for images, or give {images[0]!r} a rate of 0 in dropout.patterns",
        )


def _shapes_seen(places: Sequence[DropoutPlace], call: Callable[[], Any]) -> dict[str, tuple[int, ...]]:
    """What each place drops in a call, by name."""
    seen: dict[str, tuple[int, ...]] = {}

    def watched(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, args: Any, outputs: Any) -> None:
            if isinstance(outputs, Tensor):
                seen[name] = tuple(outputs.shape)

        return look

    hooks = [place.module.register_forward_hook(watched(place.name)) for place in places]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return seen
