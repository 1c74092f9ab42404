"""The difference of two jobs, path by path."""

from __future__ import annotations

import pytest

from stepwell.recipe.files import parse_job
from stepwell.recipe.job import Job
from stepwell.recipe.values.compare import Change, diff

FILE = """\
data: {source: digits}
model: {name: mlp, hidden: [128, 64]}
task: classification
recipe:
  optimizer: {name: adamw, lr: 3e-3}
  schedule: one_cycle
  techniques: [mixup, clip_norm, ema]
budget: 60 epochs
"""


@pytest.fixture
def job() -> Job:
    return parse_job(FILE)


def test_equal_jobs_have_no_difference(job: Job) -> None:
    assert diff(job, parse_job(FILE)) == []


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("recipe.optimizer.lr", 0.003, 0.01),
        ("recipe.techniques.mixup.alpha", 0.2, 0.4),
        ("seed", 0, 3),
        ("model.hidden", [128, 64], [8]),
        ("split.validation", None, 0.3),
    ],
)
def test_one_changed_value_is_one_change_at_the_path_that_replaces_it(job: Job, path: str, before: object, after: object) -> None:
    assert diff(job, job.replace_at(path, after)) == [Change(path, before, after)]


def test_a_dropped_technique_is_removed_and_the_other_way_round_added(job: Job) -> None:
    less = job.without("clip_norm")
    assert diff(job, less) == [Change("recipe.techniques.clip_norm", {"name": "clip_norm", "max_norm": 1.0}, None, "removed")]
    assert diff(less, job)[0].kind == "added"
    assert diff(less, job)[0].path == "recipe.techniques.clip_norm"


def test_another_optimizer_is_one_change_and_not_many_inside(job: Job) -> None:
    [change] = diff(job, job.replace_at("recipe.optimizer", "sgd"))
    assert (change.path, change.before["name"], change.after["name"]) == ("recipe.optimizer", "adamw", "sgd")


def test_another_order_of_techniques_is_a_move(job: Job) -> None:
    other = job.replace_at("recipe.techniques", list(reversed(job.recipe.techniques)))
    assert diff(job, other) == [
        Change("recipe.techniques", ["mixup", "clip_norm", "ema"], ["ema", "clip_norm", "mixup"], "moved")
    ]


def test_what_is_left_out_or_given_is_removed_or_added(job: Job) -> None:
    [removed] = diff(job, job.replace_at("recipe.schedule", None))
    assert (removed.path, removed.kind) == ("recipe.schedule", "removed")
    assert diff(job, job.replace_at("stop.max_time", "10 s")) == [Change("stop", None, {"max_time": "10 s"}, "added")]
