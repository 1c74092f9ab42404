"""Losses on yes-or-no targets see 0, 1 and probabilities alone, whoever wrote the loss and wherever the data lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import stepwell
from stepwell.core.errors import DataError, JobError

X, CLASSES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), (torch.arange(40) % 3).float()
GOOD = (CLASSES > 0).float()


class Numbered(Dataset[Any]):
    """Samples that are made one by one."""

    def __init__(self, targets: Tensor) -> None:
        self.targets_of_all = targets

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return X[place], self.targets_of_all[place]


class Stream(IterableDataset[Any]):
    """Samples of unknown number."""

    def __init__(self, targets: Tensor) -> None:
        self.targets_of_all = targets

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(X, self.targets_of_all, strict=True)


class Heads(nn.Module):
    """One output for each of two tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(6, 2)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        price, sold = self.both(inputs).unbind(1)
        return {"price": price, "sold": sold}


def trained(data: Any, objective: Any, *, model: nn.Module | None = None, val: Any = None) -> stepwell.Run:
    recipe = stepwell.Recipe(objective=objective, optimizer={"name": "sgd", "lr": 0.1}, batch_size=10)
    return stepwell.fit(model or nn.Linear(6, 1), data, val=val, recipe=recipe, budget="2 steps")


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits], ids=["module", "function"])
def test_torch_s_own_losses_are_looked_at(loss: Any) -> None:
    with pytest.raises(DataError, match=r"^targets of BCEWithLogitsLoss hold 2"):
        trained((X, CLASSES), loss)
    with pytest.raises(DataError, match=r"^targets of BCEWithLogitsLoss hold -1"):
        trained((X, GOOD * 2 - 1), loss)
    assert trained((X, GOOD), loss).steps == 2
    assert trained((X, CLASSES), nn.MSELoss()).steps == 2


def test_a_loss_on_probabilities_is_no_traceback_whether_its_targets_or_its_outputs_are_none() -> None:
    sigmoid = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid())
    with pytest.raises(DataError, match=r"^targets of BCELoss hold 2"):
        trained((X, CLASSES), nn.BCELoss(), model=sigmoid)
    with pytest.raises(JobError, match=r"^the loss failed on outputs float32 \(8, 1\) against targets float32 \(8,\)") as refusal:
        trained((X, GOOD), nn.BCELoss())
    assert "sigmoid" in refusal.value.fix
    assert trained((X, GOOD), nn.BCELoss(), model=sigmoid).steps == 2


@pytest.mark.parametrize("loss", ["bce", "binary_focal", nn.BCEWithLogitsLoss()])
def test_losses_of_tasks_are_looked_at_and_the_task_is_named(loss: Any) -> None:
    tasks = {"price": "mse", "sold": {"objective": loss, "weight": 0.5}}
    objective = stepwell.techniques.MultiTask(tasks=tasks)
    name = loss if isinstance(loss, str) else "BCEWithLogitsLoss"
    with pytest.raises(DataError, match=f"^task sold: targets of {name} hold 2"):
        trained((X, {"price": CLASSES, "sold": CLASSES}), objective, model=Heads())
    assert trained((X, {"price": CLASSES, "sold": GOOD}), objective, model=Heads()).steps == 2


def test_a_task_inside_a_task_is_looked_at() -> None:
    class Nested(Heads):
        def forward(self, inputs: Tensor) -> dict[str, Any]:
            return {"outer": super().forward(inputs)}

    inner = stepwell.techniques.MultiTask(tasks={"price": "mse", "sold": "bce"})
    objective = stepwell.techniques.MultiTask(tasks={"outer": inner})
    with pytest.raises(DataError, match=r"^task outer: task sold: targets of bce hold 2"):
        trained((X, {"outer": {"price": CLASSES, "sold": CLASSES}}), objective, model=Nested())


@pytest.mark.parametrize("made", [Numbered, Stream, lambda targets: DataLoader(Numbered(targets), batch_size=4)])
def test_data_that_is_not_in_memory_is_looked_at(made: Callable[[Tensor], Any]) -> None:
    with pytest.raises(DataError, match=r"^targets of bce hold 2"):
        trained(made(CLASSES), "bce")
    with pytest.raises(DataError, match=r"^targets of bce hold 2"):
        trained((X, GOOD), "bce", val=made(CLASSES))
    assert trained(made(GOOD), "bce", val=made(GOOD)).steps == 2


def test_samples_are_read_from_all_over_a_dataset_that_is_sorted_by_class() -> None:
    with pytest.raises(DataError, match=r"^targets of bce hold 2"):
        trained(Numbered(CLASSES.sort().values), "bce")


def test_looking_leaves_the_stream_at_its_start() -> None:
    recipe = stepwell.Recipe(objective="bce", optimizer={"name": "sgd", "lr": 0.1}, batch_size=10)
    model = nn.Linear(6, 1)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stepwell.fit(model, Stream(GOOD), recipe=recipe, budget="1 step")
    by_hand = nn.Linear(6, 1)
    by_hand.load_state_dict(start)
    F.binary_cross_entropy_with_logits(by_hand(X[:10]).squeeze(1), GOOD[:10]).backward()
    assert by_hand.weight.grad is not None
    torch.testing.assert_close(model.weight, by_hand.weight - 0.1 * by_hand.weight.grad)
