"""SWA: the plain mean of weights collected late in the run, with batch-norm statistics estimated anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.clock import Horizon, steps_of
from stepwell.core.duration import Duration
from stepwell.core.modules.batch_norm import estimate_batch_norm_
from stepwell.core.updates.averaging import NamedAverage, wide

__all__ = ["Swa", "SwaAverage", "estimate_batch_norm_", "mean_into_"]


@torch.no_grad()
def mean_into_(average: Tensor, value: Tensor, *, num_before: int) -> None:
    """Take one more value into a running mean, in place: average += (value - average) / (num_before + 1).

    Infinite entries (attention masks) are copied, not averaged, and so is everything that isn't a float.

    >>> mean = torch.tensor([1.0, 2.0]); mean_into_(mean, torch.tensor([4.0, 2.0]), num_before=2); mean.tolist()
    [2.0, 2.0]
    """
    if num_before == 0 or not (value.is_floating_point() or value.is_complex()):
        average.copy_(value)
        return
    value = value.detach().to(average.dtype)
    mean = torch.lerp(average, value, 1.0 / (num_before + 1))
    average.copy_(torch.where(torch.isfinite(value), mean, value))


class SwaAverage(NamedAverage):
    """What `Swa` makes for one model: the mean of the collected weights, by state_dict name.

    Args:
        model: whose parameters and saved float buffers are averaged; 16-bit tensors are averaged in float32.
        start: completed steps at which the first weights are collected.
        every: steps from one collection to the next, >= 1.
    """

    made_by = "swa"

    def __init__(self, model: nn.Module, *, start: int, every: int) -> None:
        super().__init__()
        self.model, self.start, self.every = model, start, every
        self.tensors = {name: wide(tensor) for name, tensor in self.live().items()}

    def live(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.model.state_dict().items() if isinstance(value, Tensor)}

    def is_due(self) -> bool:
        since = self.num_steps - self.start
        return since >= 0 and since % self.every == 0

    def take_in(self) -> None:
        for name, tensor in self.live().items():
            mean_into_(self.tensors[name], tensor, num_before=self.num_updates)

    def finalize(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        """Estimate batch-norm statistics of the averaged weights, and keep them until the next collection.

        Works inside and outside of `swapped()`; outside, the model is as before afterwards.
        """
        if not self.ready:
            return
        if not self.is_swapped:
            with self.swapped():
                return self.finalize(model, batches)
        estimate_batch_norm_(model, batches)
        buffers = {name for name, _ in self.model.named_buffers(remove_duplicate=False)}
        self.estimated = {name: tensor.clone() for name, tensor in self.live().items() if name in buffers}


@technique(id="swa", slot="average", paper="Izmailov et al. 2018, arXiv:1803.05407", search={"start": ("50%", "75%", "90%")})
class Swa:
    """Average the weights of the last part of the run, all alike, and deliver the mean.

    What: from `start` on, the weights are collected every `every`, the first at `start` itself; their mean is delivered
    once it exists. Batch-norm statistics of the mean are estimated anew over training batches at the end (`finalize`).
    Why: points along a constant or cyclic rate surround a flatter minimum, and their mean generalises better. When not:
    with a rate that decays to zero (all points are the same), or runs too short to train before `start`.

    Args:
        start: when the first weights are collected, a duration; 75 % is the paper's.
        every: time between collections, a duration > 0; the paper's "1 epochs", here by default a share of the run.

    Raises:
        JobError: `every` is 0, a % without a planned run.

    Paper: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018, arXiv:1803.05407.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = Swa(model, start="2 steps", every="2 steps")
    >>> for value in (1.0, 2.0, 30.0, 4.0): _ = nn.init.constant_(model.weight, value); average.update()
    >>> with average.swapped(): model.weight.item()   # of 2 and 4
    3.0
    """

    start: str = "75%"
    every: str = "5%"

    def __post_init__(self) -> None:
        Duration.parse(self.start, name="swa.start")
        every = Duration.parse(self.every, name="swa.every")
        require(every.amount > 0, "swa.every", self.every, "a duration above 0", 'Write e.g. "1 epochs"')

    def __call__(self, model: nn.Module, horizon: Horizon | None = None) -> SwaAverage:
        if horizon is not None:
            expected = f"at most the budget, {horizon.total:g} {horizon.unit}"
            good = horizon.amount(self.start, name="swa.start") <= horizon.total
            require(good, "swa.start", self.start, expected, 'Write it in %, e.g. "75%", or train longer')
        start, every = steps_of(self.start, horizon, name="swa.start"), steps_of(self.every, horizon, name="swa.every")
        return SwaAverage(model, start=start, every=max(every, 1))
