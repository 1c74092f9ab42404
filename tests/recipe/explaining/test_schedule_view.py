"""Schedules before a run: the values that are shown are those that training uses, and showing them changes nothing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.errors import JobError, RunFolderError
from stepwell.recipe.explaining.schedule_view import Course, constant_rate, courses, drawn, summary
from stepwell.recipe.fit import ingredients
from stepwell.recipe.job import Job
from stepwell.recipe.run import Assembly
from stepwell.report.schedule import require_picture_path, schedule_png, write_schedule


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
    assert lines[0] == "optimizer.lr: first 0, highest 1 at step 2, last 0.5"
    assert [line.split("|")[1] for line in lines[1:4]] == [" *", "  *", "*"]


def test_a_constant_value_is_one_line() -> None:
    lines = drawn(Course("optimizer.lr", (1, 2), (0.1, 0.1)), width=4).splitlines()
    assert lines[1].strip() == "0.1 |**"
    assert len(lines) == 4


def test_a_value_that_evaluations_change_says_so() -> None:
    assert "unless evaluations change it" in drawn(Course("optimizer.lr", (1, 2), (1.0, 1.0), learns=True))


def test_a_dip_between_two_ends_is_told_with_its_step() -> None:
    course = Course("optimizer.momentum", (1, 5, 9), (0.95, 0.85, 0.95))
    assert summary(course) == "optimizer.momentum: first 0.95, lowest 0.85 at step 5, last 0.95"


def test_a_rate_without_a_schedule_is_one_course_over_the_whole_run() -> None:
    course = constant_rate(assembly(), points=2)
    assert (course.target, course.steps, course.values) == ("optimizer.lr", (1, 20), (0.1, 0.1))
    assert summary(course) == "optimizer.lr: 0.1 at every step"


@pytest.mark.parametrize("schedule", ["one_cycle", None])
def test_the_picture_is_a_png_also_of_a_constant_rate(schedule: str | None, tmp_path: Path) -> None:
    run = assembly(schedule=schedule)
    made = courses(run) or [constant_rate(run)]
    assert schedule_png(made, title="job").startswith(b"\x89PNG")
    write_schedule(tmp_path / "lr.png", made, title="job")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "said", "fix"),
    [
        ("none/lr.png", "there is no folder", "Make the folder first"),
        ("file/lr.png", "is a file, not a folder", "another --png"),
        ("lr", "'lr' has no ending", "lr.png"),
        ("lr.jpg", "'lr.jpg' ends in .jpg", "lr.png"),
        (".", "is a folder", "schedule.png"),
    ],
)
def test_a_place_where_no_picture_can_be_written_is_told(name: str, said: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobError) as raised:
        require_picture_path(tmp_path / name)
    assert said in raised.value.what
    assert fix in raised.value.fix


def test_a_picture_without_permission_to_write_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # whoever runs this may be allowed everything
    with pytest.raises(JobError, match="no permission to write"):
        require_picture_path(tmp_path / "lr.png")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_the_picture_is_told_with_its_own_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stepwell.report.schedule.write_bytes", full)
    with pytest.raises(RunFolderError, match="No space left on device") as raised:
        write_schedule(tmp_path / "lr.png", courses(assembly(schedule="one_cycle")), title="job")
    assert "--png" in raised.value.fix
