"""What is to be learnt, and how well it was, in numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stepwell.doctor.task import Task, class_dim_of, task_of


def _column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


CLASSES = torch.tensor([0, 2, 1, 1])
TASKS: dict[str, tuple[Tensor, Tensor, Task]] = {
    "class numbers": (torch.zeros(4, 3), CLASSES, Task("classes", 3, -1)),
    "class numbers in a column": (torch.zeros(4, 3), CLASSES.unsqueeze(1), Task("classes", 3, -1)),
    "a class at each place, last": (torch.zeros(4, 5, 3), torch.ones(4, 5).long(), Task("classes", 2, -1)),
    "a class at each place, second": (torch.zeros(4, 3, 5), torch.ones(4, 5).long(), Task("classes", 2, 1)),
    "classes as floats": (torch.zeros(4, 3), CLASSES.float(), Task("classes", 3, -1)),
    "one-hot rows": (torch.zeros(4, 3), torch.eye(3)[CLASSES], Task("classes", 3, -1, one_hot=True)),
    "smoothed rows": (torch.zeros(4, 3), 0.9 * torch.eye(3)[CLASSES] + 0.1 / 3, Task("classes", 3, -1, one_hot=True)),
    "yes or no": (torch.zeros(4, 1), _column(0, 1, 1, 0), Task("binary", 2)),
    "yes or no without a column": (torch.zeros(4, 1), torch.tensor([True, False, True, True]), Task("binary", 2)),
    "several of three": (torch.zeros(2, 3), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), Task("multi_label", 2)),
    "quantities": (torch.zeros(4, 1), _column(0.5, 1.5, 2.0, 3.0), Task("quantity")),
    "quantities without a column": (torch.zeros(4, 1), torch.tensor([0.5, 1.5, 2.0, 3.0]), Task("quantity")),
}


@pytest.mark.parametrize("name", TASKS)
def test_targets_are_taken_for_what_they_are(name: str) -> None:
    outputs, targets, task = TASKS[name]
    assert task_of(outputs, targets) == task


def test_outputs_and_targets_that_are_no_tensors_have_no_known_task() -> None:
    assert task_of({"logits": torch.zeros(2)}, torch.zeros(2)).kind == "unknown"
    assert task_of(torch.zeros(0), torch.zeros(0)).kind == "unknown"
    assert Task("unknown").skill(torch.zeros(2), torch.zeros(2)) is None


def test_three_of_four_classes_right_is_three_quarters_and_the_mean_over_classes_is_less() -> None:
    outputs = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    targets = torch.tensor([0, 0, 0, 1])
    task = Task("classes", 2)
    assert task.skill(outputs, targets) == 0.75
    assert task.skill(outputs, targets, weighting="classes") == 0.5
    assert task.trivial(targets) == 0.75


def test_places_that_a_loss_ignores_do_not_count() -> None:
    outputs = torch.tensor([[[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]]])
    targets = torch.tensor([[0, 1, -100]])
    task = Task("classes", 2)
    assert task.skill(outputs, targets) == 0.5
    assert task.skill(outputs, targets, weighting="classes") == 0.5
    assert task.trivial(torch.tensor([1, 1, 0, -100])) == pytest.approx(2 / 3)
    assert task.skill(outputs, torch.full((1, 3), -100)) is None


def test_classes_along_the_second_dimension_are_read_there() -> None:
    outputs = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 5.0, 5.0]]])
    assert Task("classes", 2, class_dim=1).skill(outputs, torch.tensor([[0, 1, 0]])) == pytest.approx(2 / 3)


def test_a_logit_says_yes_above_0_and_a_chance_above_one_half() -> None:
    task = Task("binary", 2)
    assert task.guesses(_column(-3.0, 0.2, 0.7)).tolist() == [0, 1, 1]
    assert task.guesses(_column(0.1, 0.2, 0.7)).tolist() == [0, 0, 1]


def test_the_skill_of_quantities_is_r2_and_never_below_0() -> None:
    targets = torch.tensor([1.0, 2.0, 3.0])  # mean 2, mean square about it 2/3
    task = Task("quantity")
    assert task.skill(torch.tensor([1.0, 2.0, 4.0]), targets) == pytest.approx(1 - (1 / 3) / (2 / 3))
    assert task.skill(torch.tensor([30.0, 20.0, 10.0]), targets) == 0.0
    assert task.skill(torch.full((3,), 2.0), targets) == 0.0
    assert task.trivial(targets) == 0.0
    assert task.skill(targets, torch.ones(3)) is None
    assert task.skill(torch.ones(6), targets) is None


def test_outputs_that_are_not_finite_have_no_skill() -> None:
    assert Task("quantity").skill(torch.tensor([float("nan"), 1.0]), torch.tensor([0.0, 1.0])) == 0.0


def test_classes_lie_where_the_other_dimensions_match_the_targets() -> None:
    assert class_dim_of(torch.zeros(2, 7), torch.zeros(2)) == -1
    assert class_dim_of(torch.zeros(2, 5, 7), torch.zeros(2, 5)) == -1
    assert class_dim_of(torch.zeros(2, 7, 5), torch.zeros(2, 5)) == 1
    assert class_dim_of(torch.zeros(2, 7, 4, 5), torch.zeros(2, 4, 5)) == 1
    assert class_dim_of(torch.zeros(2, 7, 4), torch.zeros(2, 5)) is None
    assert class_dim_of(torch.zeros(2), torch.zeros(2)) is None
