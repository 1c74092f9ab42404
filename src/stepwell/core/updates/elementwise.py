"""Base of our optimizers: a rule over lists of tensors, or over flat memory where it is the same for every element."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepwell.core.updates.layout import Layout, Run
from stepwell.core.updates.pieces import same_order

# Models up to this many values (1 MiB in fp32, about what stays in cache) are laid out whole; of larger ones, tensors up
# to the second number.
LARGEST_LAID_OUT_WHOLE = 1 << 18
LARGEST_BESIDE_LARGE = 1 << 13


@contextmanager
def same_groups(optimizer: Optimizer) -> Iterator[None]:
    """Keep the group dicts of an optimizer while it loads state: schedules and lanes hold on to them.

    torch replaces them by copies, and whoever wrote a rate to the old ones would change nothing any more.
    """
    groups = optimizer.param_groups
    yield
    for group, loaded in zip(groups, optimizer.param_groups, strict=True):
        group.update(loaded)
    optimizer.param_groups = groups


def _parts(layout: Layout, run: Run, *, per_tensor: bool) -> Callable[[Tensor], list[Tensor]]:
    """How a run is cut out of a buffer of its layout: whole, or member by member."""
    if not per_tensor:
        return lambda buffer: [buffer[run.start : run.stop]]

    def members(buffer: Tensor) -> list[Tensor]:
        views = layout.views(buffer)
        return [views[index] for index in run.members]

    return members


@dataclass(slots=True)
class Lane:
    """What one call of an update rule works on: tensors that share a group and a step count.

    Args:
        group: the parameter group, read for its current lr, decay and so on.
        values, gradients: the tensors to update, and their gradients.
        state: buffer name -> tensors, as long as `values`.
        steps: fp32 step counters, one per tensor, already counting this step.
        count: the same number on the host.
    """

    group: dict[str, Any]
    values: list[Tensor]
    gradients: list[Tensor]
    state: dict[str, list[Tensor]]
    steps: list[Tensor]
    count: int = 0


class ElementwiseOptimizer(Optimizer):
    """A `torch.optim.Optimizer` whose rule is one function over lists of tensors.

    In a loop of your own it is used like any optimizer. The engine lays its groups out in flat memory (`lay_out`),
    after which `update_` is one kernel per group. State has the ordinary names and shapes in both.

    `buffers` names the state that every parameter has beside its step count. `per_tensor` is True where the rule needs
    each tensor's own norm: it is then given the parameters' views, one by one, in flat memory too.
    """

    buffers: tuple[str, ...] = ()
    per_tensor: ClassVar[bool] = False

    def __init__(self, groups: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        self.layouts: list[Layout] = []
        self.skip: Tensor | None = None  # fp32 scalar on the device: 1 makes an update change nothing
        self._layout_groups: list[dict[str, Any]] = []
        self._buffers: list[dict[str, Tensor]] = []
        self._lanes: list[Lane] | None = None
        self._outside: list[nn.Parameter] = []
        self._spans: list[Tensor] = []
        self._value_spans: list[Tensor] = []
        self._scratch: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @abstractmethod
    def rule_(self, lane: Lane) -> None:
        """Update the lane's values in place."""

    def initial_value(self, name: str, group: dict[str, Any]) -> float:
        """What a buffer holds before the first step."""
        return 0.0

    def scratch(self, like: Tensor, size: int) -> Tensor:
        """Memory for a rule's temporary values, kept from step to step: new pages cost more than the arithmetic on them."""
        key = (like.dtype, like.device)
        held = self._scratch.get(key)
        if held is None or held.numel() < size:
            held = self._scratch[key] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update_()
        return loss

    def update_(self) -> None:
        """`step` without hooks: what the engine calls, inside `torch.no_grad()`."""
        if self._lanes is not None:
            for lane in self._lanes:
                lane.count += 1
                lane.steps[0].add_(1 if self.skip is None else 1 - self.skip)
                self.rule_(lane)
        for lane in self._lists():
            if self.skip is None:
                torch._foreach_add_(lane.steps, 1)
            else:
                torch._foreach_add_(lane.steps, 1 - self.skip)  # type: ignore[arg-type]
            self.rule_(lane)

    def lay_out(self) -> None:
        """Lay every group out in flat memory, as far as its parameters allow; the rest stays per tensor.

        In flat memory a gradient is added to zeros, which for a large tensor costs more than the calls it saves: of a
        large model only the small tensors are laid out, and autograd hands the large gradients over as they are.
        """
        total = sum(parameter.numel() for group in self.param_groups for parameter in group["params"])
        largest = LARGEST_BESIDE_LARGE if total > LARGEST_LAID_OUT_WHOLE else total
        for group in self.param_groups:
            kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if Layout.takes(parameter) and parameter.numel() <= largest:
                    kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
            for parameters in kinds.values():
                layout = Layout(parameters)
                self.layouts.append(layout)
                self._layout_groups.append(group)
                start = {name: self.initial_value(name, group) for name in self.buffers}
                self._buffers.append({name: torch.full_like(layout.values, value) for name, value in start.items()})
        self.relayout()

    def relayout(self) -> None:
        """Find the lanes again, after parameters were frozen or unfrozen or state was loaded."""
        self._lanes, self._spans, self._value_spans = [], [], []
        inside = set()
        for layout, group, buffers in zip(self.layouts, self._layout_groups, self._buffers, strict=True):
            views = {name: layout.views(buffer) for name, buffer in buffers.items()}
            keys: list[float | None] = []
            for index, parameter in enumerate(layout.parameters):
                inside.add(parameter)
                state = self.state[parameter]
                for name in self.buffers:
                    if state.get(name) is not views[name][index] and name in state:
                        views[name][index].copy_(state[name])
                    state[name] = views[name][index]
                state.setdefault("step", torch.zeros((), dtype=torch.float32, device=layout.values.device))
                keys.append(float(state["step"]) if parameter.requires_grad else None)
            for run in layout.runs(keys):
                step = self.state[layout.parameters[run.members[0]]]["step"].clone()
                for member in run.members:
                    self.state[layout.parameters[member]]["step"] = step
                self._spans.append(layout.gradients[run.start : run.stop])
                self._value_spans.append(layout.values[run.start : run.stop])
                parts = _parts(layout, run, per_tensor=self.per_tensor)
                values, gradients = parts(layout.values), parts(layout.gradients)
                state_of_lane = {name: parts(buffer) for name, buffer in buffers.items()}
                self._lanes.append(Lane(group, values, gradients, state_of_lane, [step] * len(values), int(step)))
            layout.attach()
        self._outside = [p for group in self.param_groups for p in group["params"] if p not in inside]

    @property
    def gradient_spans(self) -> list[Tensor]:
        """The flat gradients of the lanes; with `outside` they cover every gradient."""
        return list(self._spans)

    @property
    def value_spans(self) -> list[Tensor]:
        """The flat values of the lanes; with those of `outside` that train, they cover all that trains."""
        return list(self._value_spans)

    @property
    def outside(self) -> list[nn.Parameter]:
        """Parameters that are not laid out."""
        return self._outside

    def _lists(self) -> list[Lane]:
        if self._lanes is not None and not self._outside:
            return []
        outside = None if self._lanes is None else set(self._outside)
        lanes: dict[tuple[int, int, torch.dtype], Lane] = {}
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is None or (outside is not None and parameter not in outside):
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                    start = {name: self.initial_value(name, group) for name in self.buffers}
                    state.update({name: torch.full_like(parameter, value) for name, value in start.items()})
                    self._counts[parameter] = 0
                count = self._counts[parameter] = self._counts.setdefault(parameter, int(state["step"])) + 1
                key = (number, count, parameter.dtype)
                lane = lanes.setdefault(key, Lane(group, [], [], {name: [] for name in self.buffers}, [], count))
                lane.values.append(parameter)
                lane.gradients.append(same_order(parameter.grad, parameter))
                lane.steps.append(state["step"])
                for name in self.buffers:
                    lane.state[name].append(state[name])
        return list(lanes.values())

    @property
    def _counts(self) -> dict[Tensor, int]:
        # Host copies of the step counters: reading a device tensor in every step would wait for the device.
        counts: dict[Tensor, int] = self.__dict__.setdefault("_host_counts", {})
        return counts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load ordinary state; flat memory is filled from it."""
        with same_groups(self):
            super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "step" in state:  # a lane's members share one counter; apart they each need their own
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).clone()
            # Files hold tensors in the default order; kernels walk all memory in the parameter's.
            state.update({name: same_order(state[name], parameter) for name in self.buffers if name in state})
        self._counts.clear()
        if self._lanes is not None:
            self.relayout()
