"""Several tasks at once: each divided by its own count, weighted by hand, written as plain values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.slots import Objective
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.recipe.files import dump, parse_job
from stepwell.recipe.job import Recipe
from stepwell.techniques import CrossEntropy, Dice, Huber, Mse, Sgd
from stepwell.techniques.objective.multi_task import MultiTask

TASKS = {"kind": "cross_entropy", "size": {"objective": {"name": "huber", "delta": 0.5}, "weight": 0.25}}


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def material(size: int = 6) -> tuple[dict[str, Tensor], Batch]:
    outputs = {"kind": draws(size, 3), "size": draws(size, 2)}
    targets = {"kind": torch.arange(size) % 3, "size": draws(size, 2, seed=1)}
    return outputs, Batch(draws(size, 4), targets, draws(size, seed=2).abs())


def test_every_task_keeps_its_sum_its_unit_and_its_count_and_is_weighted() -> None:
    outputs, batch = material()
    made = MultiTask(tasks=TASKS)
    kinds = CrossEntropy().terms(outputs["kind"], Batch(batch.inputs, batch.targets["kind"], batch.weights))["cross_entropy"]
    sizes = Huber(delta=0.5).terms(outputs["size"], Batch(batch.inputs, batch.targets["size"], batch.weights))["huber"]
    terms = made.terms(outputs, batch)
    assert list(terms) == ["kind.cross_entropy", "size.huber"]
    assert torch.equal(terms["kind.cross_entropy"].sum, kinds.sum)
    assert torch.equal(terms["size.huber"].sum, sizes.sum)
    assert [(term.unit, term.weight) for term in terms.values()] == [("kind.samples", 1.0), ("size.values", 0.25)]
    assert batch.weights is not None
    total = float(batch.weights.sum())
    assert {unit: float(count) for unit, count in made.counts(batch).items()} == {
        "kind.samples": pytest.approx(total),
        "size.values": pytest.approx(2 * total),
    }


def test_the_weight_of_a_task_multiplies_those_of_its_terms() -> None:
    made = MultiTask(tasks={"mask": {"objective": {"name": "bce_dice", "weight": 0.25}, "weight": 3.0}})
    batch = Batch(torch.zeros(2), {"mask": torch.zeros(2, 2, 2)})
    assert {name: (term.unit, term.weight) for name, term in made.terms({"mask": torch.zeros(2, 2, 2)}, batch).items()} == {
        "mask.bce": ("mask.pixels", 0.75),
        "mask.dice": ("mask.samples", 2.25),
    }
    assert made.counts(batch) == {"mask.samples": 2, "mask.pixels": 8}


def test_a_missing_label_of_one_task_leaves_the_sample_in_the_other() -> None:
    both = {"a": {"objective": {"name": "cross_entropy", "ignored": "everywhere"}}, "b": "cross_entropy"}
    outputs = {"a": draws(4, 3), "b": draws(4, 3, seed=1)}
    batch = Batch(draws(4, 2), {"a": torch.tensor([0, -100, 2, -100]), "b": torch.tensor([0, 1, 2, 0])})
    made = MultiTask(tasks=both)
    assert {unit: int(count) for unit, count in made.counts(batch).items()} == {"a.samples": 2, "b.samples": 4}
    kept = torch.nn.functional.cross_entropy(outputs["a"][[0, 2]], torch.tensor([0, 2]), reduction="sum")
    torch.testing.assert_close(made.terms(outputs, batch)["a.cross_entropy"].sum, kept)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_training_on_it_is_training_on_the_weighted_sum_of_means(weight: float) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(4, 5).double()
            with torch.no_grad():
                self.trunk.weight.copy_(draws(5, 4, seed=7))
                self.trunk.bias.zero_()

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            made = self.trunk(inputs)
            return {"kind": made[:, :3], "size": made[:, 3:]}

    _, batch = material()
    batch.weights = None
    made = MultiTask(tasks={"kind": "cross_entropy", "size": {"objective": "mse", "weight": weight}})
    weights = []
    for size in (None, 4):
        step = TrainStep(Heads(), objective=made, optimizer=Sgd(lr=0.5, momentum=0.0), execution=Execution(micro_batch_size=size))
        step(batch)
        weights.append(next(iter(step.model.parameters())).detach())
    plain = Heads()
    outputs = plain(batch.inputs)
    loss = nn.functional.cross_entropy(outputs["kind"], batch.targets["kind"])
    (loss + weight * nn.functional.mse_loss(outputs["size"], batch.targets["size"])).backward()
    assert plain.trunk.weight.grad is not None
    expected = plain.trunk.weight.detach() - 0.5 * plain.trunk.weight.grad
    for found in weights:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


SPELLINGS: list[Any] = [
    {"kind": "cross_entropy", "size": {"objective": {"name": "huber", "delta": 0.5}, "weight": 0.25}},
    {"kind": {"name": "cross_entropy"}, "size": {"objective": Huber(delta=0.5), "weight": 0.25}},
    {"kind": {"objective": CrossEntropy()}, "size": {"objective": Huber(delta=0.5), "weight": 0.25}},
]


@pytest.mark.parametrize("tasks", SPELLINGS)
def test_names_mappings_and_objects_are_the_same_objectives(tasks: Any) -> None:
    outputs, batch = material()
    first, other = MultiTask(tasks=SPELLINGS[0]).terms(outputs, batch), MultiTask(tasks=tasks).terms(outputs, batch)
    assert {name: (float(term.sum), *term[1:]) for name, term in other.items()} == {
        name: (float(term.sum), *term[1:]) for name, term in first.items()
    }


def test_an_object_becomes_the_mapping_that_a_job_file_holds() -> None:
    assert MultiTask(tasks={"size": Huber(delta=0.5)}).tasks == {
        "size": {"objective": {"name": "huber", "delta": 0.5}, "weight": 1.0}
    }


def test_a_job_file_with_tasks_is_read_written_and_read_again() -> None:
    job = parse_job(
        """\
data: {source: digits}
model: {name: mlp}
task: multi_task
recipe:
  objective:
    name: multi_task
    tasks:
      kind: cross_entropy
      size: {objective: {name: huber, delta: 0.5}, weight: 0.25}
  optimizer: sgd
budget: 1 epochs
"""
    )
    assert job.recipe.objective == MultiTask(tasks=TASKS)
    assert parse_job(dump(job.to_mapping())) == job
    assert Recipe(objective=MultiTask(tasks=TASKS), optimizer="sgd") == Recipe(
        objective={"name": "multi_task", "tasks": TASKS}, optimizer="sgd"
    )


def test_a_user_s_loss_can_be_a_task() -> None:
    made = MultiTask(
        tasks={"size": {"objective": nn.L1Loss(), "weight": 2}, "own": lambda outputs, targets: (outputs - targets).abs()}
    )
    batch = Batch(torch.zeros(2), {"size": torch.tensor([1.0, 3.0]), "own": torch.tensor([2.0, 2.0])})
    terms = made.terms({"size": torch.zeros(2), "own": torch.zeros(2)}, batch)
    assert [(term.sum.item(), term.weight) for term in terms.values()] == [(4.0, 2), (4.0, 1.0)]
    assert list(made.objectives) == ["size", "own"]


def test_it_can_be_cut_only_where_every_task_can() -> None:
    assert MultiTask(tasks={"a": "mse", "b": "dice"}).decomposable
    assert not MultiTask(tasks={"a": "mse", "b": Dice(over="batch")}).decomposable


def test_more_outputs_and_targets_than_tasks_are_left_alone() -> None:
    batch = Batch(torch.zeros(2), {"a": torch.zeros(2), "unused": torch.zeros(2, 9)})
    terms = MultiTask(tasks={"a": "mse"}).terms({"a": torch.ones(2), "features": torch.zeros(2, 5)}, batch)
    assert {name: term.sum.item() for name, term in terms.items()} == {"a.mse": 2.0}


@pytest.mark.parametrize("tasks", [{}, [], None, "mse", {1: "mse"}])
def test_tasks_that_are_no_mapping_of_names_are_refused(tasks: Any) -> None:
    with pytest.raises(JobError, match=r"^multi_task\.tasks is"):
        MultiTask(tasks=tasks)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("msee", r"^multi_task\.tasks\.a\.objective: unknown objective technique 'msee'"),
        ("adamw", r"^multi_task\.tasks\.a\.objective: 'adamw' is a technique of the optimizer \(base\) slot"),
        ("label_smoothing", r"^multi_task\.tasks\.a\.objective: 'label_smoothing' is a technique of the objective"),
        ({"weight": 1.0}, r"^multi_task\.tasks\.a is"),
        ({"objective": "mse", "wieght": 1.0}, r"^multi_task\.tasks\.a has the key 'wieght'.*Did you mean 'weight'"),
        ({"objective": {"delta": 1.0}}, r"^multi_task\.tasks\.a\.objective is"),
        ({"objective": {"name": 3}}, r"^multi_task\.tasks\.a\.objective is"),
        ({"name": "huber", "dleta": 1.0}, r"^multi_task\.tasks\.a\.objective has no setting 'dleta'.*Did you mean 'delta'"),
        ({"name": "huber", "delta": -1.0}, r"^multi_task\.tasks\.a\.objective: huber\.delta is -1\.0"),
        ({"name": "huber", "delta": "x"}, r"^multi_task\.tasks\.a\.objective was refused"),
        ({"name": "multi_task"}, r"^multi_task\.tasks\.a\.objective was refused"),
        (3, r"^multi_task\.tasks\.a\.objective: the loss is 3"),
        (Mse, r"^multi_task\.tasks\.a\.objective: the loss is the class Mse"),
        ("contrastive", r"^multi_task\.tasks\.a\.objective is contrastive, which calls the model in its own way"),
        ({"objective": "triplet"}, r"^multi_task\.tasks\.a\.objective is triplet"),
    ],
)
def test_a_task_that_can_not_be_is_refused(task: Any, said: str) -> None:
    with pytest.raises(JobError, match=said):
        MultiTask(tasks={"a": task})


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan, "1", True, None])
def test_a_weight_out_of_range_is_refused(weight: Any) -> None:
    with pytest.raises(JobError, match=r"^multi_task\.tasks\.a\.weight is"):
        MultiTask(tasks={"a": {"objective": "mse", "weight": weight}})


def test_weights_that_are_all_zero_are_refused_and_one_of_them_is_not() -> None:
    nothing = {"objective": "mse", "weight": 0}
    with pytest.raises(JobError, match=r"^multi_task\.tasks is.*expected a weight above 0"):
        MultiTask(tasks={"a": nothing, "b": nothing})
    assert MultiTask(tasks={"a": nothing, "b": "mse"}).tasks["a"]["weight"] == 0


def test_outputs_and_targets_that_lack_a_task_are_refused() -> None:
    made = MultiTask(tasks={"price": "mse"})
    good = {"price": torch.zeros(2)}
    with pytest.raises(DataError, match=r"^multi_task got outputs of type list"):
        made.terms([torch.zeros(2)], Batch(torch.zeros(2), good))
    with pytest.raises(DataError, match=r"^multi_task got outputs without the task 'price'.*Did you mean 'prices'"):
        made.terms({"prices": torch.zeros(2)}, Batch(torch.zeros(2), good))
    with pytest.raises(DataError, match=r"^multi_task got targets of type NoneType"):
        made.terms(good, Batch(torch.zeros(2)))
    with pytest.raises(DataError, match=r"^multi_task got targets without the task 'price'"):
        made.counts(Batch(torch.zeros(2), {"cost": torch.zeros(2)}))


def test_a_model_of_one_output_is_told_what_to_return_and_how_to_get_it() -> None:
    made = MultiTask(tasks={"price": "mse", "sold at": "bce"})
    targets = {"price": torch.zeros(2), "sold at": torch.zeros(2)}
    with pytest.raises(DataError, match=r"^multi_task got outputs that are one tensor \(2, 1\)") as refusal:
        made.terms(torch.zeros(2, 1), Batch(torch.zeros(2), targets))
    assert "{'price': self.price(states), 'sold at': ...}" in refusal.value.fix
    assert "multi_head" in refusal.value.fix


def test_what_a_task_s_objective_refuses_names_the_task() -> None:
    made = MultiTask(tasks={"price": "mse"})
    with pytest.raises(DataError, match=r"^task price: mse got outputs"):
        made.terms({"price": torch.zeros(2, 3)}, Batch(torch.zeros(2), {"price": torch.zeros(2)}))


def test_tasks_may_have_tasks() -> None:
    inner: Objective = MultiTask(tasks={"x": {"objective": "mse", "weight": 0.5}})
    made = MultiTask(tasks={"outer": {"objective": inner, "weight": 0.5}})
    batch = Batch(torch.zeros(2), {"outer": {"x": torch.zeros(2)}})
    (name, term), *rest = made.terms({"outer": {"x": torch.ones(2)}}, batch).items()
    assert (name, term.sum.item(), term.unit, term.weight, rest) == ("outer.x.mse", 2.0, "outer.x.values", 0.25, [])


def test_terms_and_counts_of_a_batch_are_those_of_its_parts() -> None:
    class Pass(nn.Module):
        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            return {"kind": inputs[:, :3], "size": inputs[:, 2:4]}

    _, batch = material(13)
    made, parts = MultiTask(tasks=TASKS), batch.split([5, 7, 1])
    for name, term in made(Pass(), batch).items():
        torch.testing.assert_close(sum(made(Pass(), part)[name].sum for part in parts), term.sum, rtol=1e-12, atol=0)


def test_an_empty_batch_counts_nothing() -> None:
    batch = Batch(torch.zeros(0), {"kind": torch.zeros(0, dtype=torch.int64), "size": torch.zeros(0, 2)})
    assert MultiTask(tasks=TASKS).counts(batch) == {"kind.samples": 0, "size.values": 0}
