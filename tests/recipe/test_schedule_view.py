"""Schedules before a run: the values that are shown are those that training uses, and showing them changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly
from stepwell.recipe.schedule_view import Course, courses, drawn
from stepwell.report.schedule import schedule_png, write_schedule


def assembly(**recipe: Any) -> Assembly:
    draw = torch.Generator().manual_seed(0)
    data = (torch.randn(40, 4, generator=draw), torch.randint(3, (40,), generator=draw))
    job = Job(recipe={"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 8, **recipe}, budget="20 steps")
    return Assembly(ingredients(nn.Linear(4, 3), data, data, job))


@pytest.mark.parametrize("schedule", ["one_cycle", "warmup_cosine", "constant", "plateau"])
def test_the_values_shown_are_those_that_the_steps_are_taken_with(schedule: str) -> None:
    run = assembly(schedule=schedule)
    before = [dict(group) for group in run.step.optimizer.param_groups]
    shown = {course.target: course for course in courses(run)}["optimizer.lr"]
    assert [dict(group) for group in run.step.optimizer.param_groups] == before
    taken = [run.step(run.source.next(cursor)).lr for cursor in range(20)]
    assert shown.steps == tuple(range(1, 21))
    assert shown.values == tuple(taken)
    assert shown.learns == (schedule == "plateau")


def test_momentum_of_the_adam_family_is_its_first_beta() -> None:
    run = assembly(optimizer={"name": "adamw"}, schedule="one_cycle")
    momentum = {course.target: course for course in courses(run)}["optimizer.momentum"]
    assert momentum.values[0] == 0.95
    assert min(momentum.values) == pytest.approx(0.85)


def test_the_field_of_a_technique_starts_from_its_own_setting() -> None:
    run = assembly(
        techniques=[{"name": "mixup", "alpha": 0.4}, {"name": "warmup_cosine", "drives": "mixup.alpha", "warmup": "0 steps"}]
    )
    (course,) = courses(run)
    assert course.target == "mixup.alpha"
    assert course.values[0] == pytest.approx(0.4)


def test_a_long_run_is_shown_at_a_few_hundred_steps_with_both_ends() -> None:
    run = assembly(schedule="one_cycle")
    (lr, _) = courses(run, points=5)
    assert lr.steps == (1, 6, 11, 15, 20)  # 1 + 19 * place / 4, to the nearest


def test_a_recipe_without_a_schedule_has_no_courses() -> None:
    assert courses(assembly()) == []


def test_a_picture_in_text_has_its_highest_value_on_top_and_its_lowest_at_the_bottom() -> None:
    lines = drawn(Course("optimizer.lr", (1, 2, 3), (0.0, 1.0, 0.5)), width=3, height=3).splitlines()
    assert lines[0] == "optimizer.lr: first 0, highest 1, last 0.5"
    assert [line.split("|")[1] for line in lines[1:4]] == [" *", "  *", "*"]


def test_a_constant_value_is_one_line() -> None:
    lines = drawn(Course("optimizer.lr", (1, 2), (0.1, 0.1)), width=4).splitlines()
    assert lines[1].strip() == "0.1 |**"
    assert len(lines) == 4


def test_a_value_that_evaluations_change_says_so() -> None:
    assert "as long as evaluations don't change it" in drawn(Course("optimizer.lr", (1, 2), (1.0, 1.0), learns=True))


def test_the_picture_is_a_png_and_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    made = courses(assembly(schedule="one_cycle"))
    assert schedule_png(made, title="job").startswith(b"\x89PNG")
    write_schedule(tmp_path / "lr.png", made, title="job")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
