"""LoRA: train a low-rank change of some layers and leave every weight as it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.errors import JobError, nearest
from stepwell.core.modules.dropout_places import last_with_parameters
from stepwell.core.modules.freezing import matched_names
from stepwell.core.modules.low_rank import ADAPTABLE, Adapter, adapted_layers, attach_, freeze_around_
from stepwell.core.own_code import weights_read
from stepwell.core.randomness import Rng, derive

__all__ = ["Lora", "TrainableShare", "lora_targets", "trainable_share"]

logger = logging.getLogger("stepwell.lora")


@dataclass(frozen=True, slots=True)
class TrainableShare:
    """How much of a model trains.

    Args:
        trainable: values that get a gradient.
        total: values of all parameters.
    """

    trainable: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.trainable / self.total if self.total else 0.0

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.total:,} parameters train ({self.percent:.3g} %)"


def trainable_share(model: nn.Module) -> TrainableShare:
    """Trainable and all parameters of a model, each counted once.

    >>> str(trainable_share(nn.Linear(4, 2)))
    '10 of 10 parameters train (100 %)'
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return TrainableShare(sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes))


def head_of(model: nn.Module) -> str | None:
    """The last module with parameters, where it is linear: the layer that makes the model's outputs."""
    last = last_with_parameters(model)
    return last if last is not None and isinstance(model.get_submodule(last), nn.Linear) else None


def lora_targets(model: nn.Module, patterns: Sequence[str] | None) -> dict[str, nn.Module]:
    """The layers that get an adapter, by name.

    Args:
        patterns: names of layers or of modules that hold some, wildcards allowed; None for every linear layer but the head.

    Raises:
        JobError: a pattern that covers no layer that can be adapted, or one whose weight other code reads.

    >>> list(lora_targets(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)), None))
    ['0']
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, ADAPTABLE)}
    bypassed = _bypassed(model)
    if patterns is None:
        head = head_of(model)
        linear = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
        found: dict[str, nn.Module] = {k: v for k, v in linear.items() if k != head and id(v) not in bypassed}
        if not found:
            raise JobError(
                "lora found no linear layer but the head",
                expected="layers that can be adapted: Linear, Embedding, Conv1d, Conv2d",
                fix=f"Name some in lora.targets. {nearest('', layers)}",
            )
        return found
    chosen: dict[str, nn.Module] = {}
    for pattern in patterns:
        matched = {name: layer for name, layer in layers.items() if _covers(pattern, name)}
        if not matched:
            ending = [name for name in layers if name.endswith(f".{pattern}")]
            raise JobError(
                f"lora.targets has {pattern!r}, which covers no layer that can be adapted",
                expected="names of Linear, Embedding, Conv1d or Conv2d layers, or of modules that hold some",
                fix=f"Write '*.{pattern}'" if ending else nearest(pattern, layers),
            )
        chosen |= matched
    for name, layer in chosen.items():
        if id(layer) in bypassed:
            raise JobError(
                f"lora.targets covers {name!r}, whose weight is also used without calling the layer",
                expected="layers that are called: an adapter acts on the call alone",
                fix="Leave it out of lora.targets (attention of torch: its output projection; a tied embedding)",
            )
    return {name: layer for name, layer in layers.items() if name in chosen}


def _covers(pattern: str, name: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def _bypassed(model: nn.Module) -> set[int]:
    """Layers whose weight is shared, or read by the code around them."""
    holders: dict[int, list[nn.Module]] = {}
    found: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(module)
        children = {"out_proj"} if isinstance(module, nn.MultiheadAttention) else weights_read(type(module))
        found |= {id(child) for name, child in module.named_children() if name in children}
    return found | {id(module) for sharing in holders.values() if len(sharing) > 1 for module in sharing}


@technique(
    id="lora",
    slot="model",
    stage="adapter",
    paper="Hu et al. 2021, arXiv:2106.09685",
    conflicts={
        "unfreezing": "LoRA keeps the pretrained weights frozen for good (Hu et al. 2021, section 4.1), and unfreezing thaws them"
    },
    search={"rank": (4, 8, 16, 32, 64), "alpha": (4.0, 64.0, "log"), "dropout": (0.0, 0.2, "linear")},
)
class Lora:
    """Freeze a model and train a low-rank change of its layers: W + alpha / rank * B A.

    What: A (rank x in) is drawn, B (out x rank) starts at 0, so training starts from the very outputs of the given
    model; its own weights keep their bits, batch-norm statistics too. Why: fine-tuning with a hundredth of the
    optimizer's memory, and adapters of a few megabytes; merged, they cost nothing (`stepwell.recipe.adapters`). When
    not: training from scratch; data far from what the model knows, which needs full rank.

    Args:
        rank: r, from 1 to the smaller side of the smallest chosen layer. Paper: 1 to 64; 8 is enough for most.
        alpha: the change is scaled by alpha / rank; above 0.
        dropout: probability in [0, 1) on the inputs of A, while training.
        targets: layers (Linear, Embedding, Conv1d, Conv2d) or modules that hold some, wildcards allowed
            (["*.attention", "embedding"]). None: every linear layer but the head.
        train_also: modules or parameters that train as they are, e.g. a new head. None: the head (the last layer, where
            it is linear and no target); [] for nothing.

    Shapes: those of the layers. Raises:
        JobError: a setting out of range; a rank above a layer's smaller side; names that cover nothing; a layer named
            twice, grouped or shared.

    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685.

    >>> model = Lora(rank=1, alpha=2.0)(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), Rng(0))
    >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ['0.lora_a', '0.lora_b', '2.weight', '2.bias']
    """

    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.05
    targets: list[str] | None = None
    train_also: list[str] | None = None

    def __post_init__(self) -> None:
        good = isinstance(self.rank, int) and self.rank >= 1
        require(good, "lora.rank", self.rank, "a whole number of at least 1", "The default is 8")
        require_between(
            "lora.alpha", self.alpha, 0.0, 1e6, "The default is 32; lora is switched off by leaving it out", ends="(]"
        )
        require_between("lora.dropout", self.dropout, 0.0, 1.0, "To train without dropout, set it to 0", ends="[)")
        for name, empty in (("targets", False), ("train_also", True)):
            value = getattr(self, name)
            listed = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
            good = value is None or (listed and (bool(value) or empty))
            require(good, f"lora.{name}", value, "a list of names", f'Write e.g. {name}: ["blocks.*"], or leave it out')

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        layers = lora_targets(model, self.targets)
        self._refuse_full_rank(layers)
        head = head_of(model)
        also = self.train_also if self.train_also is not None else [head] if head is not None and head not in layers else []
        trained = set(matched_names(model, also, "lora.train_also")) if also else set()
        twice = [name for name in layers if f"{name}.weight" in trained]
        require(
            not twice,
            "lora.train_also",
            also,
            f"modules without a target inside; {twice[:1]} is one",
            "Name it in one of the two",
        )
        freeze_around_(model, trained)
        adapter = Adapter(self.rank, self.alpha / self.rank, self.dropout)
        for name, layer in layers.items():
            attach_(layer, adapter, Rng(derive(rng.seed, f"lora/{name}")))
        logger.info("%s", self.report(model))
        return model

    def _refuse_full_rank(self, layers: dict[str, nn.Module]) -> None:
        """B A with more rows in A than the weight has on its smaller side reaches no matrix that fewer don't reach."""
        shapes = {name: layer.get_parameter("weight").shape for name, layer in layers.items()}
        sides = {name: (shape[0], shape[1:].numel()) for name, shape in shapes.items()}
        name = min(sides, key=lambda name: min(sides[name]))
        largest = min(sides[name])
        if self.rank > largest:
            others = sum(self.rank > min(pair) for pair in sides.values()) - 1
            raise JobError(
                f"lora.rank is {self.rank}, but the weight of {name!r} is {sides[name][0]} x {sides[name][1]}"
                + (f", and {others} more of the chosen layers are too small" if others else ""),
                expected=f"a rank of at most {largest}, the smaller side: more changes nothing that {largest} doesn't",
                fix=f"Set rank: {largest} or less, or leave small layers out of lora.targets",
            )

    def report(self, model: nn.Module) -> str:
        """How many layers are adapted, and how much of the model trains."""
        number = len(adapted_layers(model))
        return f"lora adapts {number} {'layer' if number == 1 else 'layers'}: {trainable_share(model)}"
