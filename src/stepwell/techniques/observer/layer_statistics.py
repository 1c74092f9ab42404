"""Layer statistics: gradients, updates and activations of every layer, at a cadence."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_one_of
from stepwell.core.clock import Horizon, steps_of
from stepwell.core.duration import Duration
from stepwell.core.modules.layer_statistics import ActivationSums, gradient_statistics, is_saturating, update_ratio
from stepwell.core.reports import EvalReport, StepReport, Stop

__all__ = ["LayerStatistics", "LayerWatch"]


class LayerWatch:
    """What `LayerStatistics` makes for one run: a probe that the step asks at the steps where it is due.

    Of a step of your own: `begin(model)`, forward and backward, `gradients(model)`, the update, `end(model)`.
    """

    watches: Literal["steps"] = "steps"

    def __init__(self, *, every: int, activations: str) -> None:
        self.every, self.activations = every, activations
        self._sums: dict[str, ActivationSums] = {}
        self._hooks: list[Any] = []
        self._before: dict[str, Tensor] = {}
        self._rows: dict[str, dict[str, Tensor]] = {}

    def due(self, steps: int) -> bool:
        """Whether the step after `steps` completed ones is watched: the first, then every `every`-th."""
        return steps % self.every == 0

    def begin(self, model: nn.Module) -> None:
        """Before the forward pass: watch activations, remember weights."""
        self.cancel()
        self._before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        for name, module in model.named_modules():
            if self._is_watched(module):
                sums = self._sums[name] = ActivationSums(module)
                self._hooks.append(module.register_forward_hook(lambda _, __, outputs, sums=sums: _add(sums, outputs)))

    def gradients(self, model: nn.Module) -> None:
        """After the last backward pass, before gradients are changed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                statistics = gradient_statistics(parameter.grad)
                self._rows[name] = {f"gradient_{key}": value for key, value in statistics.items()}

    def end(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """After the update: everything of this step, by the name of the parameter or module."""
        for name, parameter in model.named_parameters():
            if name in self._before:
                row = self._rows.setdefault(name, {})
                row["parameter_norm"] = parameter.detach().norm()
                row["update_ratio"] = update_ratio(self._before[name], parameter)
        rows = self._rows | {
            name: {f"activation_{key}": value for key, value in sums.statistics().items()} for name, sums in self._sums.items()
        }
        self.cancel()
        return {name: row for name, row in rows.items() if row}

    def cancel(self) -> None:
        """Let go of everything, as after a step that was skipped."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._sums, self._before, self._rows = [], {}, {}, {}

    def __call__(self, report: StepReport | EvalReport) -> Stop | None:
        """Nothing to decide: rules that stop a run read the report's `layers` themselves."""
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cancel()

    def _is_watched(self, module: nn.Module) -> bool:
        if self.activations == "none" or next(module.children(), None) is not None:
            return False
        return self.activations == "all" or is_saturating(module)


def _add(sums: ActivationSums, outputs: Any) -> None:
    if isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.numel():
        with torch.no_grad():
            sums.add(outputs)


@technique(id="layer_statistics", slot="observer", paper="Glorot and Bengio 2010, PMLR 9:249-256")
class LayerStatistics:
    """Record gradients, updates and activations of every layer, every so often.

    What: at the steps where it is due, for each parameter the gradient's mean, standard deviation, norm, largest size and
    share of zeros (before clipping), the parameter's norm and its update-to-weight ratio; for each layer the mean and
    standard deviation of its outputs, dead units (rectifiers that were 0 for the whole batch) and values saturated
    against the activation's own limits. Rows go to `history.layers` and metrics/layers.csv; training is not changed by a
    bit. Why: vanishing and exploding gradients, dead units and wrong rates show here first. When not: every step of a
    large model, since each row reads every weight once more.

    Args:
        every: time between two rows, a duration; the first step is always recorded.
        activations: "all" leaf modules, the "limited" ones (with limits or a flat side), or "none".

    Raises:
        JobError: a duration without a unit or of 0 steps; another word for activations.

    Paper: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> watch = LayerStatistics(every="10 steps")(Horizon.of("100 steps"))
    >>> watch.begin(model); model(torch.ones(4, 2)).sum().backward(); watch.gradients(model)
    >>> sorted(watch.end(model))
    ['0', '0.bias', '0.weight', '1']
    """

    every: str = "2%"
    activations: Literal["all", "limited", "none"] = "all"

    def __post_init__(self) -> None:
        every = Duration.parse(self.every, name="layer_statistics.every")
        require(every.amount > 0, "layer_statistics.every", self.every, "a duration above 0", 'Write e.g. "2%"')
        require_one_of("layer_statistics.activations", self.activations, ("all", "limited", "none"))

    def __call__(self, horizon: Horizon | None = None) -> LayerWatch:
        every = max(steps_of(self.every, horizon, name="layer_statistics.every"), 1)
        return LayerWatch(every=every, activations=self.activations)
