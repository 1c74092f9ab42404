"""`--set path=value`, by the rules of job files, applied before anything is validated."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.core.errors import JobError
from stepwell.recipe.files import parse_job
from stepwell.recipe.job import Job
from stepwell.recipe.values.overrides import parse_override

FILE = """\
data: {source: digits}
model: mlp
task: classification
recipe:
  optimizer: adamw
  techniques: [mixup, {name: clip_norm, max_norm: 2}]
  batch_size: 64
budget: 60 epochs
"""


def job(*overrides: str) -> Job:
    return parse_job(FILE, overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3e-3", 0.003),
        ("a=no", "no"),
        ("a='3'", "3"),
        ("a=null", None),
        ("a=", None),
        ("a=[128, 64]", [128, 64]),
        ("a={name: sgd, lr: 1e-1}", {"name": "sgd", "lr": 0.1}),
        ("a=60 epochs", "60 epochs"),
        ("a=x=y", "x=y"),
    ],
)
def test_the_value_is_read_as_in_a_job_file(text: str, value: Any) -> None:
    assert parse_override(text).value == value


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("recipe.optimizer.lr=3e-2", lambda j: j.recipe.optimizer.lr, 0.03),
        ("recipe.optimizer=sgd", lambda j: type(j.recipe.optimizer).__name__, "Sgd"),
        ("recipe.techniques.mixup.alpha=0.4", lambda j: j.recipe.techniques[0].alpha, 0.4),
        ("recipe.techniques.1.max_norm=3", lambda j: j.recipe.techniques[1].max_norm, 3.0),
        ("recipe.techniques.mixup=null", lambda j: len(j.recipe.techniques), 1),
        ("recipe.techniques=[ema]", lambda j: type(j.recipe.techniques[0]).__name__, "Ema"),
        ("recipe.schedule.name=plateau", lambda j: j.recipe.schedule.patience, 10),
        ("model.hidden=[8]", lambda j: j.model.settings["hidden"], [8]),
        ("split.test=0.1", lambda j: j.split.test, 0.1),
        ("stop.max_time=5 s", lambda j: j.stop.max_time, "5 s"),
        ("seed=7", lambda j: j.seed, 7),
        ("recipe.preset=tabular_small", lambda j: type(j.recipe.schedule).__name__, "OneCycle"),
    ],
)
def test_an_override_reaches_any_path(override: str, read: Any, value: Any) -> None:
    assert read(job(override)) == value


def test_of_two_overrides_of_one_path_the_later_wins() -> None:
    assert job("seed=1", "seed=2").seed == 2


def test_a_preset_is_chosen_first_whatever_the_order() -> None:
    made = job("recipe.schedule.warmup=10%", "recipe.preset=tabular_small")
    assert (made.recipe.schedule.warmup, made.recipe.preset) == ("10%", "tabular_small")


@pytest.mark.parametrize(
    ("override", "where", "what", "fix"),
    [
        ("seed", None, "--set got 'seed'", "recipe.optimizer.lr=3e-3"),
        ("=3", None, "--set got '=3'", "recipe.optimizer.lr=3e-3"),
        ("sed=3", "--set sed", "unknown key 'sed'", "Did you mean 'seed'?"),
        ("recipe.optimizer.lrr=1", "--set recipe.optimizer.lrr", "unknown key 'lrr'", "Did you mean 'lr'?"),
        ("recipe.optimiser.lr=1", "--set recipe.optimiser.lr", "leads nowhere", "Did you mean 'optimizer'?"),
        ("recipe.techniques.mixpu.alpha=1", "--set recipe.techniques.mixpu.alpha", "leads nowhere", "Did you mean 'mixup'?"),
        ("recipe.techniques.7=mixup", "--set recipe.techniques.7", "leads nowhere", "Count from 0"),
        ("recipe.optimizer.lr='1e-3'", "--set recipe.optimizer.lr", "recipe.optimizer.lr is '1e-3' (text)", "Remove the quotes"),
        ("recipe.optimizer.lr=[1", "--set recipe.optimizer.lr", "not valid YAML", "bracket"),
        ("recipe.batch_size=0", "--set recipe.batch_size", "recipe.batch_size is 0", "batch_size: 32"),
        ("recipe.optimizer=!!python/name:os.system x", "--set recipe.optimizer", "YAML tag", "never code"),
        ("budget.epochs=3", "--set budget.epochs", "leads nowhere", "Set budget itself"),
        ("recipe.preset=tabular_smal", "--set recipe.preset", "unknown preset", "Did you mean 'tabular_small'?"),
    ],
)
def test_an_override_that_can_not_be_is_refused_under_its_own_name(override: str, where: str | None, what: str, fix: str) -> None:
    with pytest.raises(JobError) as caught:
        job(override)
    assert caught.value.where == where
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_mistake_of_the_file_keeps_its_line_beside_overrides() -> None:
    with pytest.raises(JobError) as caught:
        parse_job(
            FILE.replace("batch_size: 64", "batch_size: many"), ["recipe.optimizer.lr=1e-3", "recipe.techniques.mixup.alpha=1"]
        )
    assert caught.value.where == "job.yaml:7"
