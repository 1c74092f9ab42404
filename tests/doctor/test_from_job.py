"""A job as the doctor holds it: the same data, loss, optimizer, rates and length as `train` would use."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import stepwell
from stepwell import Job, Recipe
from stepwell.core.errors import DataError, JobError
from stepwell.doctor.from_job import Forwarded, ObjectiveLoss, mended_job, setup_of_job, setup_of_recipe
from stepwell.doctor.setup import setup_of
from stepwell.techniques import CrossEntropy, Mse
from stepwell.techniques.optimizer.lion import LionOptimizer


def rows(num_rows: int = 40) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] > 0).long()


def made(recipe: Any, *, model: nn.Module | None = None, budget: str = "3 epochs", train: Any = None) -> Any:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) if model is None else model
    given = {"objective": "cross_entropy", "batch_size": 8, **recipe}
    return setup_of_recipe(model, rows() if train is None else train, rows(20), recipe=Recipe(**given), budget=budget)


def test_an_objective_is_the_loss_that_torch_computes() -> None:
    outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    targets = torch.tensor([0, 0, 1])
    assert float(ObjectiveLoss(CrossEntropy())(outputs, targets)) == pytest.approx(
        float(nn.functional.cross_entropy(outputs, targets))
    )
    # Squared errors 1, 0 and 4 over three rows.
    found = ObjectiveLoss(Mse())(torch.tensor([[1.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [1.0]]))
    assert float(found) == pytest.approx(5 / 3)


def test_modifiers_of_the_objective_are_part_of_the_loss() -> None:
    smoothed = {"name": "label_smoothing", "epsilon": 0.2}
    setup = made({"optimizer": "sgd", "techniques": [smoothed]}).setup
    outputs, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    expected = nn.functional.cross_entropy(outputs, targets, label_smoothing=0.2)
    assert float(setup.loss(outputs, targets)) == pytest.approx(float(expected))


def test_batches_length_and_rows_are_those_of_the_recipe() -> None:
    setup = made({"optimizer": {"name": "sgd", "lr": 0.3}}, budget="12 steps").setup
    assert (setup.batch_size, setup.epochs, setup.steps_per_epoch) == (8, 3, 5)  # 12 steps reach into the third epoch of 5
    assert torch.equal(setup.train.inputs, rows()[0])
    assert setup.lr == 0.3


def test_schedule_and_clipping_come_along() -> None:
    recipe = {"optimizer": {"name": "sgd", "lr": 0.3}, "schedule": {"name": "one_cycle", "anneal": "linear"}}
    setup = made({**recipe, "techniques": [{"name": "clip_norm", "max_norm": 0.5}]}, budget="20 epochs").setup
    assert setup.clip_norm == 0.5
    assert setup.schedule is not None
    # 100 steps: from 1/25 over 29 steps of warmup to 1, and down to nearly nothing at the 100th.
    assert setup.schedule(0.0) == pytest.approx(1 / 25)
    assert setup.schedule(0.29) == pytest.approx(1.0)
    assert setup.schedule(0.99) == pytest.approx(1 / 25 / 1e4)


def test_an_optimizer_that_torch_does_not_have_is_stepwells_own() -> None:
    setup = made({"optimizer": {"name": "lion", "lr": 0.01}}).setup
    before = copy.deepcopy(setup.model.state_dict())
    optimizer = setup.build_optimizer()
    assert isinstance(optimizer, LionOptimizer)
    setup.loss(setup.model(setup.train.inputs), setup.train.targets).backward()
    optimizer.step()
    # Lion's first step moves every weight with a gradient by lr, whatever the gradient's size.
    moved = (setup.model.state_dict()["2.weight"] - before["2.weight"]).abs()
    assert torch.allclose(moved, torch.full_like(moved, 0.01), atol=1e-6)


def test_diagnose_takes_such_a_name_without_a_recipe_and_refuses_unknown_ones() -> None:
    given: dict[str, Any] = {"loss": "cross_entropy", "batch_size": 8, "epochs": 1, "shuffle": True}
    setup = setup_of(nn.Linear(4, 2), rows(), None, optimizer={"name": "lion", "lr": 1e-3}, **given)
    assert isinstance(setup.build_optimizer(), LionOptimizer)
    with pytest.raises(JobError, match="optimizer is"):
        setup_of(nn.Linear(4, 2), rows(), None, optimizer={"name": "lionn"}, **given)
    with pytest.raises(JobError, match="can't be made"):
        setup_of(nn.Linear(4, 2), rows(), None, optimizer={"name": "lion", "momentum": 0.9}, **given)


def test_parameter_groups_keep_their_own_settings() -> None:
    groups = {"optimizer": {"name": "adamw", "lr": 0.1, "weight_decay": 0.5}, "techniques": [{"name": "decay_groups"}]}
    setup = made(groups).setup
    built = setup.build_optimizer()
    by_decay = {group["weight_decay"]: sorted(tuple(part.shape) for part in group["params"]) for group in built.param_groups}
    assert by_decay == {0.5: [(2, 3), (3, 4)], 0.0: [(2,), (3,)]}
    copied = setup.copied()
    held = {id(part) for group in copied.build_optimizer().param_groups for part in group["params"]}
    assert held == {id(part) for part in copied.model.parameters()}


def test_what_acts_in_the_job_and_not_in_the_doctor_is_named() -> None:
    techniques = [{"name": "mixup"}, {"name": "clip_norm"}, {"name": "ema"}, {"name": "label_smoothing"}]
    assert made({"optimizer": "sgd", "techniques": techniques}).notes == ["mixup", "ema"]


def test_the_users_model_and_random_state_stay_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    setup = made({"optimizer": "sgd", "techniques": [{"name": "kaiming_init"}]}, model=model).setup
    assert [type(part) for part in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(setup.model.state_dict()["0.weight"], before["0.weight"]), "the recipe draws them anew"


def test_a_model_that_takes_names_is_called_by_keyword() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, *, first: Tensor, second: Tensor) -> Tensor:
            out: Tensor = self.layer(torch.stack([first, second], 1))
            return out

    inputs, targets = rows()
    data = ({"first": inputs[:, 0], "second": inputs[:, 1]}, targets)
    setup = setup_of_recipe(
        Named(), data, None, recipe=Recipe(objective="cross_entropy", optimizer="sgd"), budget="1 epochs"
    ).setup
    assert isinstance(setup.model, Forwarded)
    assert setup.model(setup.train.inputs).shape == (40, 2)


def test_the_model_itself_is_held_where_nothing_stands_between() -> None:
    setup = made({"optimizer": "sgd", "techniques": [{"name": "label_smoothing"}]}).setup
    assert list(dict(setup.model.named_parameters())) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_stream_is_refused_with_what_to_give_instead() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from zip(*rows(), strict=True)

    with pytest.raises(DataError, match="no known length"):
        made({"optimizer": "sgd"}, train=Stream())


def test_a_job_of_a_file_becomes_a_setup_with_its_data() -> None:
    recipe = {"objective": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.2}, "batch_size": 100}
    job = Job(
        data={"source": "digits"}, model={"name": "mlp", "hidden": [8]}, task="classification", recipe=recipe, budget="2 epochs"
    )
    setup = setup_of_job(job).setup
    assert setup.val is not None
    assert (setup.train.num_there + len(setup.val)) > 1000
    assert setup.model(setup.train.inputs).shape == (len(setup.train), 10)
    assert setup.epochs == 2


def test_diagnose_takes_a_recipe_in_place_of_optimizer_batches_and_epochs_and_nothing_beside_it() -> None:
    inputs, targets = rows()
    inputs[3, 1] = float("inf")
    recipe = Recipe(objective="cross_entropy", optimizer={"name": "lion", "lr": 1e-3}, batch_size=8)
    found = stepwell.diagnose(nn.Linear(4, 2), (inputs, targets), recipe=recipe, budget="2 epochs")
    assert found.findings[0].id == "inf_in_inputs"
    assert found.setup.epochs == 2
    with pytest.raises(JobError, match="epochs is given beside a recipe"):
        stepwell.diagnose(nn.Linear(4, 2), rows(), recipe=recipe, epochs=3)
    with pytest.raises(JobError, match="train is given beside a Job"):
        stepwell.diagnose(Job(recipe=recipe, budget="1 epochs"), rows())
    with pytest.raises(JobError, match="optimizer isn't given"):
        stepwell.diagnose(nn.Linear(4, 2), rows(), loss="cross_entropy", batch_size=8, epochs=1)


def test_changes_of_a_repair_make_another_job() -> None:
    job = Job(recipe=Recipe(optimizer={"name": "adam", "lr": 0.5}), budget="1 epochs")
    changes = {
        "recipe.optimizer.name": "adamw",
        "recipe.optimizer.weight_decay": 0.25,
        "recipe.techniques+": ["class_weights"],
        "budget": "4 epochs",
    }
    mended = mended_job(job, changes)
    assert (type(mended.recipe.optimizer).__name__, mended.recipe.optimizer.lr) == ("AdamW", 0.5)
    assert mended.recipe.optimizer.weight_decay == 0.25
    assert [type(item).__name__ for item in mended.recipe.techniques] == ["ClassWeights"]
    assert mended.budget == "4 epochs"
