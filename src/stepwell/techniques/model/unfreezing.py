"""Progressive unfreezing: parts of a model start frozen and join the training one after the other."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from stepwell.core.catalog import technique
from stepwell.core.check import require
from stepwell.core.clock import Clock, Horizon, steps_of
from stepwell.core.duration import Duration
from stepwell.core.errors import JobError
from stepwell.core.modules.freezing import allow_holding, claim, matched_names, norms_of, set_held
from stepwell.core.randomness import Rng

__all__ = ["Stage", "Unfreezing", "thaw_steps"]


_EXAMPLE = '[{modules: [head], at: "0%"}, {modules: [body], at: "50%"}]'
_WELL_FORMED = f"stages: {_EXAMPLE}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Modules that join the training together.

    Args:
        modules: names of modules or parameters, wildcards allowed; a module covers everything inside it.
        steps: completed optimizer steps from which they are trained.
    """

    modules: tuple[str, ...]
    steps: int


def thaw_steps(model: nn.Module, stages: list[Stage]) -> dict[str, int]:
    """From which step on each staged parameter is trained: the earliest of the stages that cover it.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> thaw_steps(model, [Stage(("1",), 0), Stage(("*.bias",), 5), Stage(("0",), 9)])
    {'1.weight': 0, '1.bias': 0, '0.bias': 5, '0.weight': 9}
    """
    steps: dict[str, int] = {}
    for stage in stages:
        for name in matched_names(model, stage.modules, "unfreezing"):
            steps[name] = min(stage.steps, steps.get(name, stage.steps))
    return steps


class _Plan:
    """What at() does at each step, worked out once for a model and a horizon."""

    def __init__(self, model: nn.Module, horizon: Horizon | None, stages: list[Stage]) -> None:
        self.model = weakref.ref(model)
        self.horizon = horizon
        joins: dict[int, int] = {}
        tensors: dict[int, Tensor] = {}
        for name, step in thaw_steps(model, stages).items():
            # Tied weights are one tensor under several names.
            tensor = model.get_parameter(name)
            tensors[id(tensor)], joins[id(tensor)] = tensor, min(step, joins.get(id(tensor), step))
        self.parameters = [(tensors[key], step) for key, step in joins.items()]
        self.norms: list[tuple[nn.Module, int]] = []
        for norm in norms_of(model, [pattern for stage in stages for pattern in stage.modules]):
            covering = [stage.steps for stage in stages if any(norm is found for found in norms_of(model, stage.modules))]
            self.norms.append((norm, min(covering)))
        self.edges = sorted({step for _, step in [*self.parameters, *self.norms]})
        self.passed = -1  # how many edges lie behind the clock that was applied last

    def apply(self, steps: int, norm_statistics: str) -> bool:
        passed = sum(steps >= edge for edge in self.edges)
        if passed == self.passed:
            return False
        self.passed, changed = passed, False
        for parameter, step in self.parameters:
            trained = steps >= step
            if parameter.requires_grad != trained:
                parameter.requires_grad_(trained)
                if not trained:
                    parameter.grad = None  # an optimizer skips what has no gradient, and would decay what has an old one
                changed = True
        model = self.model()
        if changed and model is not None and not any(parameter.requires_grad for parameter in model.parameters()):
            raise JobError(
                f"unfreezing leaves nothing to train at step {steps}",
                expected="some part that is trained from the start",
                fix='Give the head\'s stage at: "0%"',
            )
        for norm, step in self.norms if norm_statistics == "frozen" else []:
            set_held(norm, steps < step)
            if steps >= step and model is not None:
                norm.training = model.training
        return changed


@technique(id="unfreezing", slot="model", stage="freeze", paper="Howard and Ruder 2018, arXiv:1801.06146")
class Unfreezing:
    """Start with the head alone and let deeper parts join the training one after the other.

    What: each named part gets gradients from its time on, a function of completed steps alone, so a resumed or
    rolled-back run is where it should be. Why: fine-tuning without a random head's gradients wrecking a pretrained
    body. When not: training from scratch. Parts that are named nowhere are trained from the start.

    Args:
        modules: parts from head to base, one stage each: the first is trained from the start, the next `every`
            later, and so on. None takes the model's direct children, last first.
        every: duration between two stages, > 0.
        stages: instead of `modules`, any times: a list of {modules: [names], at: duration}.
        norm_statistics: "frozen" lets batch norms use their running statistics unchanged while they are frozen;
            "updated" goes on averaging.

    Names are of modules or parameters, wildcards allowed; a module covers everything inside it.

    Raises:
        JobError: a name that matches nothing; both or malformed forms.

    Paper: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, arXiv:1801.06146.

    >>> model, technique = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), Unfreezing(modules=["1", "0"], every="5 steps")
    >>> model = technique(model, Rng(0))
    >>> [(technique.at(model, Clock(steps), None), model[0].weight.requires_grad) for steps in (0, 4, 5)]
    [(True, False), (False, False), (True, True)]
    """

    thaws: ClassVar[bool] = True  # what is frozen now may train later: the optimizer must know all of it

    modules: list[str] | None = None
    every: str = "10%"
    stages: list[dict[str, Any]] | None = field(default=None, metadata={"example": _EXAMPLE})
    norm_statistics: Literal["frozen", "updated"] = "frozen"

    def __post_init__(self) -> None:
        fix = f'Write modules: [head, body] with every: "10%", or {_WELL_FORMED}'
        require(self.modules is None or self.stages is None, "unfreezing.stages", self.stages, "either modules or stages", fix)
        require(
            Duration.parse(self.every, name="unfreezing.every").amount > 0, "unfreezing.every", self.every, "more than 0", fix
        )
        require(self.modules is None or _names(self.modules), "unfreezing.modules", self.modules, "a list of names", fix)
        if self.stages is not None:
            _check_stages(self.stages)
        choice = self.norm_statistics
        require(
            choice in ("frozen", "updated"),
            "unfreezing.norm_statistics",
            choice,
            '"frozen" or "updated"',
            "The default is frozen",
        )

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        # Nothing is frozen yet: the optimizer is made next and must know everything that will ever train.
        for names in self._groups(model):
            claim(model, matched_names(model, names, "unfreezing"), "unfreezing")
            if self.norm_statistics == "frozen":
                for norm in norms_of(model, names):
                    allow_holding(norm)
        return model

    def at(self, model: nn.Module, clock: Clock, horizon: Horizon | None) -> bool:
        """Freeze and thaw for a point in time; True when the set of trainable tensors changed."""
        plan: _Plan | None = self.__dict__.get("_plan")
        if plan is None or plan.model() is not model or plan.horizon != horizon:
            plan = _Plan(model, horizon, self._stages(model, horizon))
            object.__setattr__(self, "_plan", plan)
        return plan.apply(clock.steps, self.norm_statistics)

    def thawed_after(self, model: nn.Module, horizon: Horizon | None) -> dict[str, int]:
        """Completed steps after which each staged parameter trains; a tied one at the earliest time of its names."""
        steps = thaw_steps(model, self._stages(model, horizon))
        earliest: dict[int, int] = {}
        for name, step in steps.items():
            key = id(model.get_parameter(name))
            earliest[key] = min(step, earliest.get(key, step))
        return {name: earliest[id(tensor)] for name, tensor in model.named_parameters() if id(tensor) in earliest}

    def _groups(self, model: nn.Module) -> list[list[str]]:
        if self.stages is not None:
            return [list(stage["modules"]) for stage in self.stages]
        if self.modules is not None:
            return [[name] for name in self.modules]
        return [[name] for name, child in reversed(list(model.named_children())) if any(True for _ in child.parameters())]

    def _stages(self, model: nn.Module, horizon: Horizon | None) -> list[Stage]:
        groups = self._groups(model)
        if self.stages is not None:
            times = [steps_of(stage["at"], horizon, name="unfreezing.stages.at") for stage in self.stages]
        else:
            every = Duration.parse(self.every, name="unfreezing.every")
            times = [
                steps_of(Duration(every.amount * place, every.unit), horizon, name="unfreezing.every")
                for place in range(len(groups))
            ]
        return [Stage(tuple(names), steps) for names, steps in zip(groups, times, strict=True)]

    def check_times(self, model: nn.Module, horizon: Horizon) -> None:
        """Refuse a part whose time comes after the end of the run: it would never train.

        Raises:
            JobError: such a part.
        """
        groups = self._groups(model)
        expected = f"stages that begin before the end of the run, {horizon.total:g} {horizon.unit}"
        if self.stages is not None:
            for stage in self.stages:
                good = horizon.amount(stage["at"], name="unfreezing.stages.at") < horizon.total
                fix = 'Write it in %, e.g. at: "50%", train longer, or use freeze for what never trains'
                require(good, "unfreezing.stages.at", stage["at"], expected, fix)
        elif len(groups) > 1:
            every = Duration.parse(self.every, name="unfreezing.every")
            last = horizon.amount(Duration(every.amount * (len(groups) - 1), every.unit), name="unfreezing.every")
            fix = f'With {len(groups)} stages, write at most every: "{max(99 // (len(groups) - 1), 1)}%", or name fewer modules'
            require(last < horizon.total, "unfreezing.every", self.every, expected, fix)


def _check_stages(stages: Any) -> None:
    good = isinstance(stages, (list, tuple)) and len(stages) > 0
    require(good, "unfreezing.stages", stages, "a list of stages", f"Write {_WELL_FORMED}")
    for number, stage in enumerate(stages):
        path = f"unfreezing.stages[{number}]"
        good = isinstance(stage, Mapping) and set(stage) == {"modules", "at"}
        require(good, path, stage, "a mapping with modules and at, and nothing else", f"Write {_WELL_FORMED}")
        good = _names(stage["modules"])
        require(good, f"{path}.modules", stage["modules"], "a list of one name or more", f"Write {_WELL_FORMED}")
        try:
            Duration.parse(stage["at"], name=f"{path}.at")
        except JobError as error:
            error.fix = f"Write {_WELL_FORMED}"
            raise


def _names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(name, str) for name in value)
