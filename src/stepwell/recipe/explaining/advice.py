"""Advice as one table: what a recipe may lack for its model, its data and its batch size, each with its source.

Nothing here is an error: a job with advice trains as it is. `stepwell explain` prints what applies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stepwell.core.catalog import Record, record_of
from stepwell.recipe.run import Assembly

__all__ = ["ADVICE", "Advice", "Situation", "advice", "situation_of"]

LARGE_BATCH = 2048  # from here on one rate for all tensors starts to fail (You et al. 2017: ResNet-50 at 8,192, AlexNet sooner)
SMALL_NORM_BATCH = 8  # samples behind one batch-norm statistic (Wu & He 2018, figure 1: the error rises below 16)
LARGE_MODEL = 300_000_000  # values; AdamW's two moments are 2.4 GB of fp32 then
WARMED = {"warmup", "warmup_cosine", "warmup_linear", "warmup_stable_decay", "one_cycle", "noam", "inverse_sqrt"}


@dataclass(frozen=True)
class Situation:
    """What advice is decided from.

    Args:
        records: of every technique in the recipe.
        warms_up: whether the learning rate starts low.
        batch_size: samples per optimizer step. norm_batch: samples per forward pass.
        num_values: size of the model.
        decays: whether any tensor's weight decay is above 0.
        starts_trained: whether the job names weights to start from.
        layers: those that the model has of "attention", "convolution", "recurrent" and "batch_norm".
    """

    records: tuple[Record, ...]
    warms_up: bool = True
    batch_size: int = 32
    norm_batch: int = 32
    num_values: int = 0
    decays: bool = True
    starts_trained: bool = False
    layers: frozenset[str] = frozenset()

    def has(self, *ids: str) -> bool:
        """Whether one of these techniques is in the recipe."""
        return any(record.id in ids for record in self.records)

    def has_layer(self, kind: str) -> bool:
        """Whether the model has such a layer."""
        return kind in self.layers

    def provides(self, tag: str) -> bool:
        """Whether anything in the recipe has this tag."""
        return any(tag in record.provides for record in self.records)

    @property
    def has_schedule(self) -> bool:
        return any(record.slot == "schedule" and record.role == "" and record.id != "constant" for record in self.records)


@dataclass(frozen=True)
class Advice:
    """One rule of the table.

    Args:
        id: its name.
        applies: whether it does in a situation.
        text: what to do.
        source: who found it.
    """

    id: str
    applies: Callable[[Situation], bool]
    text: str
    source: str


ADVICE = (
    Advice(
        "large batch",
        lambda s: s.batch_size >= LARGE_BATCH and not s.provides("layerwise_trust"),
        "batches this large train better with lamb or lars, or with lr_scaling and a longer warmup",
        "You et al. 2017, arXiv:1708.03888; 2020, arXiv:1904.00962; Goyal et al. 2017, arXiv:1706.02677",
    ),
    Advice(
        "memory",
        lambda s: s.num_values >= LARGE_MODEL and s.has("adam", "adamw", "lamb"),
        "where memory is short, lion keeps one moment instead of two: lr 3 to 10 times smaller, weight_decay as much larger",
        "Chen et al. 2023, arXiv:2302.06675",
    ),
    Advice(
        "convolution schedule",
        lambda s: s.has_layer("convolution") and not s.has_layer("attention") and not s.has_schedule,
        "convolutional networks gain most from a schedule: one_cycle, or step",
        "Smith & Topin 2019, arXiv:1708.07120; He et al. 2016, arXiv:1512.03385",
    ),
    Advice(
        "transformer schedule",
        lambda s: s.has_layer("attention") and not s.has_schedule,
        "transformers want a warmup and a decay: warmup_cosine, or inverse_sqrt where the length of the run is open",
        "Vaswani et al. 2017, arXiv:1706.03762",
    ),
    Advice(
        "warmup",
        lambda s: not s.warms_up and (s.has_layer("attention") or s.provides("adaptive")),
        "without a warmup the first steps of an adaptive optimizer are taken on a variance of few gradients: add {name: warmup}",
        "Liu et al. 2020, arXiv:1908.03265; Xiong et al. 2020, arXiv:2002.04745",
    ),
    Advice(
        "decay of norms",
        lambda s: s.decays and (s.provides("decoupled_decay") or s.provides("l2_decay")) and not s.has("decay_groups"),
        "norms and biases are decayed like weights; decay_groups leaves them out",
        "He et al. 2019, arXiv:1812.01187, section 3.1",
    ),
    Advice(
        "norm of small batches",
        lambda s: s.has_layer("batch_norm") and s.norm_batch < SMALL_NORM_BATCH,
        "batch norm over so few samples is noisy: swap_norm to group, or larger micro-batches",
        "Wu & He 2018, arXiv:1803.08494",
    ),
    Advice(
        "norm of sequences",
        lambda s: s.has_layer("batch_norm") and (s.has_layer("attention") or s.has_layer("recurrent")),
        "sequences of different length share no batch statistics: swap_norm to layer or rms",
        "Ba et al. 2016, arXiv:1607.06450; Zhang & Sennrich 2019, arXiv:1910.07467",
    ),
    Advice(
        "clipping of recurrent nets",
        lambda s: s.has_layer("recurrent") and not s.has("clip_norm", "clip_value", "adaptive_clip"),
        "recurrent nets meet rare, very steep gradients: add {name: clip_norm, max_norm: 1.0}",
        "Pascanu et al. 2013, arXiv:1211.5063",
    ),
    Advice(
        "fine-tuning of nothing",
        lambda s: s.has("unfreezing", "layerwise_lr", "lora") and not s.starts_trained,
        "fine-tuning techniques hold back weights that are trained already: unless the model's own are, add init_from to the job",
        "Howard & Ruder 2018, arXiv:1801.06146; Hu et al. 2021, arXiv:2106.09685",
    ),
    Advice(
        "stopping under a schedule",
        lambda s: s.has("early_stopping") and s.has("one_cycle"),
        "early_stopping can end the run before one_cycle's low rates make their gain; give it a patience of the run's last third",
        "Smith & Topin 2019, arXiv:1708.07120",
    ),
    Advice(
        "smoothed teacher",
        lambda s: s.has("label_smoothing") and s.has("distillation"),
        "a teacher that was itself trained with label smoothing distils worse",
        "Müller et al. 2019, arXiv:1906.02629",
    ),
)


def advice(situation: Situation, table: Iterable[Advice] = ADVICE) -> list[Advice]:
    """What applies in a situation, in the table's order.

    >>> [item.id for item in advice(Situation(records=(), layers=frozenset({"batch_norm"}), norm_batch=4))]
    ['norm of small batches']
    """
    return [item for item in table if item.applies(situation)]


_LAYERS: dict[str, Callable[[nn.Module], bool]] = {
    "attention": lambda module: isinstance(module, nn.MultiheadAttention) or type(module).__name__.endswith("Attention"),
    "convolution": lambda module: isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    "recurrent": lambda module: isinstance(module, nn.RNNBase),
    "batch_norm": lambda module: isinstance(module, _BatchNorm),
}


def situation_of(assembly: Assembly) -> Situation:
    """What the table needs to know of a job that is ready to train."""
    resolved, model = assembly.resolved, assembly.step.model
    items = [resolved.base, resolved.optimizer, *resolved.techniques]
    records = tuple(record for item in items if (record := record_of(item)) is not None)
    modules = list(model.modules())
    size = assembly.source.batch_size
    return Situation(
        records=records,
        warms_up=any(_warms_up(item) for item in items),
        batch_size=size,
        norm_batch=min(assembly.parts.job.recipe.micro_batch_size or size, size),
        num_values=sum(parameter.numel() for parameter in model.parameters()),
        decays=any(group.get("weight_decay") for group in assembly.step.optimizer.param_groups),
        starts_trained=assembly.parts.job.init_from is not None,
        layers=frozenset(kind for kind, is_one in _LAYERS.items() if any(is_one(module) for module in modules)),
    )


def _warms_up(item: Any) -> bool:
    record = record_of(item)
    if record is None:
        return False
    warmup = getattr(item, "warmup", None)
    return record.id in WARMED or (warmup is not None and not str(warmup).startswith("0"))
