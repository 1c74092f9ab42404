"""A recipe and a job are values: frozen, compared and hashed by what they hold, changed by making another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stepwell.core.errors import JobError, nearest
from stepwell.recipe.values.canonical import job_values, recipe_values
from stepwell.recipe.values.parts import UNSET, KeepRules, ModelSpec, StopRules
from stepwell.recipe.values.paths import set_at
from stepwell.recipe.values.plain import frozen, job_mapping, recipe_mapping, technique_id

__all__ = ["Job", "KeepRules", "ModelSpec", "Recipe", "StopRules"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train: an objective, an optimizer, a schedule and an ordered stack of techniques.

    Every part takes a name, a mapping with its name and settings, or a technique object; the objective also takes any
    callable (outputs, targets) -> loss, the optimizer any callable that takes parameter groups. All are validated and
    stored as technique objects, so two spellings of one recipe are equal.

    Args:
        preset: a shipped recipe to start from, by name or as {"name": ..., "without": [ids]}: what is given here is
            merged over it, techniques by id. It is merged once; what remains of it is its name, for the record.
        objective: what is minimised; None for the task's own loss.
        optimizer: required unless a preset brings it.
        schedule: None for constant values.
        techniques: in the order in which they act; each id once, or once per `drives`.
        batch_size: samples per optimizer step over all micro-batches and ranks, >= 1, or "full".
        micro_batch_size: samples per forward pass, 1 to batch_size; None for the whole batch.
        precision: of the forward pass: fp32, bf16 autocast, or fp16 autocast with loss scaling.
        plan: how parameters lie in memory: "flat" in few buffers, so that an update is few operations (with stepwell's own
            optimizers), "tensors" each by itself. What is learned differs by rounding at most.
        on_nonfinite: what a non-finite loss or gradient does: stop, skip the step, or roll back.

    Raises:
        JobError: anything unknown, of the wrong type or out of range.

    >>> recipe = Recipe(objective="cross_entropy", optimizer={"name": "adamw", "lr": 3e-3}, techniques=[{"name": "mixup"}])
    >>> recipe.optimizer.lr, recipe.techniques[0].alpha, recipe.batch_size
    (0.003, 0.2, 32)
    """

    preset: Any = field(default=None, compare=False)
    objective: Any = UNSET
    optimizer: Any = UNSET
    schedule: Any = UNSET
    techniques: Sequence[Any] = UNSET
    batch_size: int | Literal["full"] = UNSET
    micro_batch_size: int | None = UNSET
    precision: Literal["fp32", "bf16", "fp16"] = UNSET
    plan: Literal["flat", "tensors"] = UNSET
    on_nonfinite: Literal["stop", "skip", "rollback"] = UNSET

    def __post_init__(self) -> None:
        given = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        _fill(self, recipe_values({key: value for key, value in given.items() if value is not UNSET}))

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any]) -> Recipe:
        """A recipe from what a job file holds under `recipe:`."""
        return Recipe(**recipe_values(mapping))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values in the order of a job file, every setting written out. Python callables become {"python": name}."""
        return recipe_mapping(self, code="name")

    def without(self, id: str) -> Recipe:
        """The same recipe with one technique (or the schedule of that id) left out.

        Raises:
            JobError: it has no such technique.
        """
        kept = tuple(item for item in self.techniques if technique_id(item) != id)
        if len(kept) < len(self.techniques):
            return dataclasses.replace(self, techniques=kept)
        ids = [technique_id(item) for item in self.techniques]
        if self.schedule is not None:
            ids.append(technique_id(self.schedule))
            if ids[-1] == id:
                return dataclasses.replace(self, schedule=None)
        raise JobError(
            f"the recipe has no technique {id!r} to leave out", expected="the id of one of its techniques", fix=nearest(id, ids)
        )

    def __hash__(self) -> int:
        return hash(frozen(recipe_mapping(self, code="name")))


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a training run is made of. A job file holds the same names.

    Args:
        data: a source's settings, or a mapping {"source": NAME, ...}; None for data given from Python.
        split: how the data is parted; None for the defaults.
        model: a model's name, or a mapping with its settings; None for a module given from Python.
        task: classification, binary, multilabel, regression, language_modeling, segmentation, pairs, triplets or
            multi_task; None where Python gives the data.
        recipe: how to train, a Recipe or a mapping.
        budget: planned work in epochs, steps, samples or tokens, e.g. "60 epochs".
        seed: of every random draw, 0 to 2**63 - 1.
        init_from: weights to start from: a run folder or a .safetensors file, or {path: PATH, except: [patterns]}
            to leave tensors out that have another shape, such as a head. A resumed run doesn't read it again.
        device: auto, cpu, cuda or mps.
        workers: processes that load data where each sample is work, >= 0.
        evaluate_every, checkpoint_every, log_every: durations; None leaves log_every to the run.
        keep: which checkpoints stay: how many of the newest, >= 2, or {newest, top, every, max_size}; the best one always does.
        saving: "background" writes checkpoints while training goes on, "wait" before the next step.
        stop: what ends the run early, {"max_time": "10 minutes"}.

    Raises:
        JobError: anything unknown, of the wrong type, missing or out of range.

    >>> job = Job(recipe={"optimizer": "sgd", "techniques": [{"name": "mixup"}]}, budget="3 epochs")
    >>> job.replace_at("recipe.techniques.mixup.alpha", 0.4).recipe.techniques[0].alpha
    0.4
    >>> job.without("mixup") == Job(recipe={"optimizer": "sgd"}, budget="3 epochs")
    True
    """

    data: Any = None
    split: Any = None
    model: Any = None
    task: str | None = None
    recipe: Recipe
    budget: str
    seed: int = 0
    init_from: Any = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int = 0
    evaluate_every: str = "1 epochs"
    checkpoint_every: str = "1 epochs"
    log_every: str | None = None
    keep: Any = field(default_factory=KeepRules)
    saving: Literal["background", "wait"] = "background"
    stop: StopRules = field(default_factory=StopRules)

    def __post_init__(self) -> None:
        given = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        _fill(self, job_values(given, needs=("recipe", "budget")))

    @staticmethod
    def from_mapping(mapping: Mapping[str, Any], *, given: Collection[str] = ()) -> Job:
        """A job from what a job file holds.

        Args:
            mapping: plain values; one read by `stepwell.recipe.files` knows its lines.
            given: which of "data", "model", "task" Python gives, and the mapping need not hold.

        Raises:
            JobError: as the constructor, and where data, model, task, recipe or budget are missing.
        """
        needs = [name for name in ("data", "model", "task", "recipe", "budget") if name not in given]
        return Job(**job_values(mapping, needs=needs))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values in the order of a job file, every setting written out; what Python gave is left out."""
        return job_mapping(self, code="name")

    def replace_at(self, path: str, value: Any) -> Job:
        """The same job with another value at a path, validated anew.

        Args:
            path: names joined by dots; items of a list by index or technique id: "recipe.techniques.mixup.alpha".
            value: whatever may stand there.

        Raises:
            JobError: no such path, a value that can't stand there, or recipe.preset, which is merged already.
        """
        if path.startswith("recipe.preset"):
            raise JobError(
                f"{path} can't be changed: the preset is already merged into the recipe",
                expected="a path of the merged recipe",
                fix="Make a new Recipe(preset=...), or read the job file with --set recipe.preset=NAME",
            )
        mapping = job_mapping(self, code="keep")
        set_at(mapping, path, value)
        return Job(**job_values(mapping, needs=("recipe", "budget")))

    def without(self, id: str) -> Job:
        """The same job with one technique left out of its recipe.

        Raises:
            JobError: the recipe has no such technique.
        """
        return dataclasses.replace(self, recipe=self.recipe.without(id))

    def __hash__(self) -> int:
        return hash(frozen(job_mapping(self, code="name")))


def _fill(value: Any, fields: Mapping[str, Any]) -> None:
    # A frozen dataclass normalises its own fields once, while it is made.
    for name, item in fields.items():
        object.__setattr__(value, name, item)
