"""EMA: an exponential moving average of the weights, warmed up, with a half-life in the run's own units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between
from stepwell.core.clock import Horizon, steps_of
from stepwell.core.duration import Duration
from stepwell.core.updates.averaging import NamedAverage, wide

__all__ = ["Ema", "EmaAverage", "decay_of", "warmed_decay"]

# Parameters that the engine lays out in one flat buffer are padded to this many elements each.
_ALIGNMENT = 16


def decay_of(half_life: float) -> float:
    """The decay per step under which a weight's share halves every `half_life` steps; 0 for a half-life of 0.

    >>> decay_of(1), decay_of(2) ** 2, decay_of(0)
    (0.5, 0.5000000000000001, 0.0)
    """
    return 0.5 ** (1.0 / half_life) if half_life > 0 else 0.0


def warmed_decay(decay: float, num_updates: int) -> float:
    """The decay of one update: 0 for the first, then min(decay, (1 + n) / (10 + n)) after n updates.

    The first update copies the weights, so that the random initialisation has no share at all; after n updates about
    the last n / 9 dominate, until the configured decay takes over.

    Args:
        decay: the final decay, in [0, 1).
        num_updates: updates made so far, >= 0.

    Source: the `num_updates` rule of TensorFlow's ExponentialMovingAverage.

    >>> [warmed_decay(0.5, n) for n in (0, 1, 5, 8, 100)]
    [0.0, 0.18181818181818182, 0.4, 0.5, 0.5]
    """
    return min(decay, (1 + num_updates) / (10 + num_updates)) if num_updates else 0.0


def _places(model: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Where each parameter and saved buffer lives (tied ones once): looked up there, one that was replaced is still found."""
    places: dict[str, tuple[dict[str, Any], str]] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        saved = {key: t for key, t in module._buffers.items() if key not in module._non_persistent_buffers_set}
        for store, tensors in ((module._parameters, module._parameters), (module._buffers, saved)):
            for key, tensor in tensors.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    places[f"{prefix}.{key}" if prefix else key] = (store, key)
    return places


def _runs(tensors: list[Tensor]) -> list[list[int]]:
    """Indices of tensors that follow each other in one storage, with nothing but padding between them."""

    def where(index: int) -> tuple[str, str, int, int]:
        tensor = tensors[index]
        return str(tensor.device), str(tensor.dtype), tensor.untyped_storage().data_ptr(), int(tensor.storage_offset())

    runs: list[list[int]] = []
    stop = 0
    for index in sorted(range(len(tensors)), key=where):
        place = where(index)
        last = runs[-1][-1] if runs else index
        joined = runs and where(last)[:3] == place[:3] and 0 <= place[3] - stop < _ALIGNMENT
        if joined and tensors[index].is_contiguous() and tensors[last].is_contiguous():
            runs[-1].append(index)
        else:
            runs.append([index])
        stop = place[3] + tensors[index].numel()
    return runs


class EmaAverage(NamedAverage):
    """What `Ema` makes for one model: the averaged tensors, by name, and how often they were updated.

    Args:
        model: whose parameters and saved float buffers are averaged; other buffers are copied, and so are float
            buffers with infinite entries (attention masks). 16-bit tensors are averaged in float32.
        decay: share of the old average that an update keeps, in [0, 1), once warmed up.
        start: completed steps after which averaging starts.
    """

    made_by = "ema"

    def __init__(self, model: nn.Module, *, decay: float, start: int = 0) -> None:
        super().__init__()
        self.decay, self.start = decay, start
        self._places = _places(model)
        self._lay_out(self._stored())

    def _stored(self) -> list[Tensor]:
        return [store[key] for store, key in self._places.values()]

    def live(self) -> dict[str, Tensor]:
        return {name: store[key].detach() for name, (store, key) in self._places.items()}

    def is_due(self) -> bool:
        return self.num_steps > self.start

    @torch.no_grad()
    def _lay_out(self, live: list[Tensor]) -> None:
        # One span for every run of tensors in the same memory: a flat model of 100 tensors is then one operation.
        # Padding is averaged along with its neighbours, and never copied back.
        live = [tensor.detach() for tensor in live]
        old, self.tensors = self.tensors, {}
        self._pointers = [tensor.data_ptr() for tensor in live]
        self._spans: list[Tensor] = []
        self._averages: list[Tensor] = []
        names = list(self._places)
        mixable = [t.is_complex() or (t.is_floating_point() and bool(t.isfinite().all())) for t in live]
        chosen = [index for index, good in enumerate(mixable) if good]
        for run in _runs([live[index] for index in chosen]):
            members = [chosen[index] for index in run]
            span = live[members[0]]
            base, last = span.storage_offset(), live[members[-1]]
            if len(members) > 1:
                span = span.as_strided((last.storage_offset() + last.numel() - base,), (1,), base)
            average = wide(span)
            for index in members:
                shape, offset = live[index].shape, live[index].storage_offset() - base
                self.tensors[names[index]] = average[offset : offset + shape.numel()].view(shape) if len(members) > 1 else average
            self._spans.append(span)
            self._averages.append(average)
        self._same_dtype = all(span.dtype == average.dtype for span, average in zip(self._spans, self._averages))
        self._copied = [live[index] for index, good in enumerate(mixable) if not good]
        self._copies = [tensor.clone() for tensor in self._copied]
        self.tensors.update(zip([name for name, good in zip(names, mixable) if not good], self._copies))
        self.tensors = {name: self.tensors[name] for name in names}  # not in the order of their places in memory
        for name, tensor in old.items():
            self.tensors[name].copy_(tensor)

    def take_in(self) -> None:
        live = self._stored()
        if [tensor.data_ptr() for tensor in live] != self._pointers:
            self._lay_out(live)
        decay = warmed_decay(self.decay, self.num_updates)
        spans = self._spans
        if decay == 0.0:
            torch._foreach_copy_(self._averages, spans)
        else:
            if not self._same_dtype:
                spans = [span.to(average.dtype) for span, average in zip(spans, self._averages)]
            torch._foreach_lerp_(self._averages, spans, 1.0 - decay)
        if self._copies:
            torch._foreach_copy_(self._copies, self._copied)


@technique(
    id="ema",
    slot="average",
    paper="Polyak & Juditsky 1992; Morales-Brogliato et al. 2024, arXiv:2411.18704",
    search={"half_life": ("1%", "5%", "10%")},
)
class Ema:
    """Keep an exponential moving average of the weights, and deliver it.

    What: after each step, average <- d * average + (1 - d) * weights, with d warmed up, see `warmed_decay`. Why: averages
    out the noise of the last steps, as a lower rate would, at no cost in speed of learning; steadier predictions. When
    not: runs that end at a rate near zero gain little. Batch-norm statistics are averaged like weights.

    Args:
        half_life: time in which a weight's share halves, a duration >= 0; in % it fits runs of any length. With
            "0 steps" the average is the weights.
        decay: share kept per step, in [0, 1), in place of half_life: 0.999 is a half-life of 693 steps.
        start: when averaging starts, a duration; the first update copies the weights.

    Raises:
        JobError: both half_life and decay are given, a decay outside [0, 1), a % without a planned run.

    Paper: Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992;
    Morales-Brogliato et al., "Exponential moving average of weights in deep learning", 2024, arXiv:2411.18704.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = Ema(model, half_life="1 steps")
    >>> for value in (4.0, 8.0): _ = nn.init.constant_(model.weight, value); average.update()
    >>> with average.swapped(): round(model.weight.item(), 4)   # 2/11 of 4 and 9/11 of 8: still warming up
    7.2727
    """

    half_life: str = "5%"
    decay: float | None = None
    start: str = "0 steps"

    def __post_init__(self) -> None:
        Duration.parse(self.half_life, name="ema.half_life")
        Duration.parse(self.start, name="ema.start")
        if self.decay is not None:
            require_between("ema.decay", self.decay, 0, 1, "Write e.g. 0.999", ends="[)")
            alone = self.half_life == "5%"
            require(alone, "ema.half_life", self.half_life, "one of half_life and decay", "Leave out ema.half_life or ema.decay")

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that another one stands in for."""
        return () if self.decay is None else ("half_life",)

    def __call__(self, model: nn.Module, horizon: Horizon | None = None) -> EmaAverage:
        if horizon is not None:
            expected = f"less than the budget, {horizon.total:g} {horizon.unit}"
            good = horizon.amount(self.start, name="ema.start") < horizon.total
            require(good, "ema.start", self.start, expected, 'Write it in %, e.g. "50%", or train longer')
        decay = self.decay
        if decay is None:
            decay = decay_of(steps_of(self.half_life, horizon, name="ema.half_life"))
        return EmaAverage(model, decay=decay, start=steps_of(self.start, horizon, name="ema.start"))
