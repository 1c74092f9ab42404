"""`stepwell.diagnose`: why a training fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from stepwell.core.check import require_one_of
from stepwell.core.errors import JobError
from stepwell.data.loading import host_state_kept, seed_host_
from stepwell.doctor.advice import Advice, advised
from stepwell.doctor.bench import SEEDS, Bench, Budget
from stepwell.doctor.checklist import STAGES, suspicions
from stepwell.doctor.findings import Finding, Suspicion
from stepwell.doctor.judge import judged, try_first
from stepwell.doctor.setup import Setup, setup_of
from stepwell.doctor.undisturbed import undisturbed

if TYPE_CHECKING:
    from stepwell.doctor.repair import Repair
    from stepwell.recipe.job import Job, Recipe


@dataclass
class Diagnosis:
    """What was found.

    Args:
        setup: what was looked at.
        findings: the likeliest first.
        asked: names of the stages that were gone through.
        bench: what was measured of the setup on the way.
        suspicions: all that was thought of; findings are what is left of them.
        notes: what of a job was left out.
        advice: of a setup that nothing is wrong with, what may be tried next; notes, never alarms.

    Further `healthy`; `whole`, whether trials ran the whole training and not only its beginning; `num_steps` and CPU `seconds`
    that it cost.
    """

    setup: Setup
    findings: list[Finding]
    asked: list[str]
    bench: Bench = field(repr=False)
    suspicions: list[Suspicion] = field(default_factory=list, repr=False)
    notes: list[str] = field(default_factory=list)
    advice: list[Finding] = field(default_factory=list)
    whole: bool = field(default=True, init=False)
    num_steps: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        # What is asked of the bench later isn't part of what it cost.
        self.whole = "run" not in self.asked or self.bench.complete
        self.num_steps, self.seconds = self.bench.spent_steps, self.bench.spent

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong; notes don't count."""
        return all(finding.severity == "note" for finding in self.findings)

    def repair(self, *, seeds: Sequence[int] = SEEDS, rounds: int = 3) -> Repair:
        """A mended copy of the setup, verified by training it beside the one that it was made of.

        Args:
            seeds: of these trainings.
            rounds: how many remedies are applied at most; after each the mended setup is examined anew.
        """
        from stepwell.doctor.repair import repaired

        with undisturbed(self.setup):
            return repaired(self, seeds=seeds, rounds=rounds)

    def page(self, path: str | Path, *, repair: Repair | None = None) -> Path:
        """Write one self-contained HTML page: findings, evidence and pictures.

        Args:
            path: of the file to write.
            repair: what was applied, where it shall be told too.
        """
        from stepwell.doctor.page import write_page

        with undisturbed(self.setup):
            return write_page(self, Path(path), repair=repair)

    def __str__(self) -> str:
        from stepwell.doctor.told import text_of

        return text_of(self)


def diagnose(
    model: nn.Module | Job,
    train: Any = None,
    val: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    shuffle: bool = True,
    recipe: Recipe | None = None,
    budget: str = "10 epochs",
    base: str | Path | None = None,
    cost: Budget | None = None,
    advice: Advice = "cheap",
) -> Diagnosis:
    """Find out why a training fails, or that it doesn't.

    The model, the data, random state and modes are left as they were: all trials run on copies.

    Args:
        model: as it would be trained; or a Job, which holds all the rest.
        train, val: a pair of tensors or arrays, or a map-style Dataset of (inputs, targets).
        loss: (outputs, targets) -> scalar, or a name such as "cross_entropy".
        optimizer: a mapping such as {"name": "sgd", "lr": 0.1, "momentum": 0.9}, with `params` where it doesn't hold all of the
            model; or a torch optimizer.
        batch_size, epochs: rows a step, and passes over the data, >= 1.
        shuffle: whether rows come in a new order each epoch.
        recipe: in place of optimizer, batch_size and epochs, and of the loss where none is given; `budget` says how long it
            trains, as in `fit`.
        base: of a Job: the folder that its data paths start from.
        cost: what trials may cost.
        advice: on what to try next where nothing is wrong: "none"; "cheap", what needs no more training; "all", each step tried
            on copies within the cost.

    Raises:
        JobError: a value that can't be used, or a model that can't be copied.
        DataError: data that can't be indexed twice or stacked.

    >>> import torch
    >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)); y = (x[:, 0] > 0).long()
    >>> x[5, 1] = float("nan")
    >>> found = diagnose(nn.Linear(3, 2), (x, y), loss="cross_entropy", optimizer="adam", batch_size=16, epochs=2)
    >>> found.findings[0].id, found.findings[0].evidence["train_rows"]
    ('nan_in_inputs', [5])
    """
    require_one_of("advice", advice, get_args(Advice))
    plain = {"optimizer": optimizer, "batch_size": batch_size, "epochs": epochs}
    if not isinstance(model, nn.Module):
        _refuse_no_job(model)
        _refuse({"train": train, "val": val, "loss": loss, "recipe": recipe, **plain}, "a Job, which has its own")
        return diagnose_job(model, base, cost=cost, advice=advice)
    if recipe is not None:
        from stepwell.doctor.from_job import setup_of_recipe

        _refuse(plain, "a recipe, which has its own")
        made = setup_of_recipe(model, train, val, recipe=recipe, budget=budget, loss=loss)
        return examined(made.setup, cost, notes=made.notes, advice=advice)
    return examined(_setup_given(model, val, shuffle, {"train": train, "loss": loss, **plain}), cost, advice=advice)


def _setup_given(model: nn.Module, val: Any, shuffle: bool, needed: dict[str, Any]) -> Setup:
    missing = next((name for name, value in needed.items() if value is None), None)
    if missing is not None:
        raise JobError(f"{missing} isn't given", expected="all of what trains the model, or a Job", fix=f"Give {missing}=")
    with host_state_kept():
        seed_host_(0)  # a Dataset may draw from the global generators
        return setup_of(model, val=val, shuffle=shuffle, **needed)


def diagnose_job(job: Job, base: str | Path | None = None, *, cost: Budget | None = None, advice: Advice = "cheap") -> Diagnosis:
    """What `diagnose` does with a Job."""
    from stepwell.doctor.from_job import setup_of_job

    _refuse_no_job(job)
    made = setup_of_job(job, base)
    return examined(made.setup, cost, notes=made.notes, advice=advice)


def examined(setup: Setup, budget: Budget | None = None, *, notes: Sequence[str] = (), advice: Advice = "none") -> Diagnosis:
    """Go through the checklist until the answer is certain; what works gets advice."""
    found: list[Suspicion] = []
    asked: list[str] = []
    with undisturbed(setup):
        bench = Bench(setup, budget)
        for stage in STAGES:
            certain = [item for item in found if item.proof == "certain"]
            if any(item.blocks for item in certain) or (certain and stage.trains):
                break
            if stage.trains:
                try_first(bench, found)
            asked.append(stage.name)
            found += suspicions(bench, stage)
        findings = judged(bench, found)
        works = all(finding.severity == "note" for finding in findings)
        return Diagnosis(setup, findings, asked, bench, found, list(notes), advised(bench, advice) if works else [])


def _refuse_no_job(given: Any) -> None:
    from stepwell.recipe.job import Job

    if not isinstance(given, Job):
        raise JobError(f"model is a {type(given).__name__}", expected="a torch.nn.Module or a Job", fix="Give the module itself")


def _refuse(given: dict[str, Any], beside: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise JobError(f"{name} is given beside {beside}", expected="one of the two", fix=f"Leave {name} out")
