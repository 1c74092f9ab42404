"""`diagnose` leaves everything as it was, and has an answer to whatever it is given."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from stepwell.core.errors import DataError, JobError
from stepwell.doctor.bench import Budget
from stepwell.doctor.diagnose import Diagnosis, diagnose


def _rows(num_rows: int = 48, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


def _net(*extra: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), *extra, nn.ReLU(), nn.Linear(8, 2))


class _Drawing(nn.Module):
    """Draws from every global generator there is, at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _net()

    def forward(self, inputs: Tensor) -> Tensor:
        shift = 0.01 * (random.random() + float(np.random.rand()) + float(torch.rand(())))
        outputs: Tensor = self.body(inputs + shift)
        return outputs


class _DrawnRows(Dataset[Any]):
    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = _rows()
        return inputs[index] + 0.01 * (torch.rand(()) + random.random() + float(np.random.rand())), targets[index]


def _diagnosed(model: nn.Module, train: Any = None, **changes: Any) -> Diagnosis:
    given = {"loss": "cross_entropy", "optimizer": {"name": "adam", "lr": 0.05}, "batch_size": 16, "epochs": 3}
    return diagnose(model, _rows() if train is None else train, **{**given, **changes})


def _state(model: nn.Module) -> list[Any]:
    """All of a model that can be seen, tensors as copies."""
    tensors = [part.detach().clone() for part in (*model.parameters(), *model.buffers())]
    grads = [None if part.grad is None else part.grad.clone() for part in model.parameters()]
    seen = [(part.training, dict(part._forward_hooks), dict(part._backward_hooks)) for part in model.modules()]
    flags = [(id(part), id(part.grad), part.requires_grad) for part in model.parameters()]
    return [tensors, grads, seen, flags]


def _world() -> list[Any]:
    """Global state: generators and torch's flags."""
    kind, keys, place, *rest = np.random.get_state()
    flags = (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch.backends.mkldnn.enabled,
    )
    return [torch.get_rng_state(), [kind, torch.tensor(keys.astype(np.int64)), place, rest], random.getstate(), flags]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0)) and one.dtype == other.dtype
    if isinstance(one, list):
        return len(one) == len(other) and all(_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    return bool(one == other)


def _penalised(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that reaches the user's own model: its weights, and a second forward pass in training mode."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        model.train()
        second = model(torch.ones(4, 4)).square().mean()
        weights = sum(part.square().sum() for part in model.parameters())
        return functional.cross_entropy(outputs, targets) + 0.01 * second + 1e-3 * weights

    return loss


def _case(name: str) -> tuple[nn.Module, dict[str, Any]]:
    model: nn.Module = _net(nn.BatchNorm1d(8), nn.Dropout(0.2))
    changes: dict[str, Any] = {}
    if name == "a rate far too high":
        changes["optimizer"] = {"name": "sgd", "lr": 1e4}
    elif name == "a crash":
        changes["train"] = (_rows()[0][:, :3].contiguous(), _rows()[1])
    elif name == "labels out of range":
        changes["train"] = (_rows()[0], _rows()[1] * 5)
    elif name == "a loss that raises":
        changes["loss"] = lambda outputs, targets: 1 / 0
    elif name == "a loss that reaches the model":
        changes["loss"] = _penalised(model)
    elif name == "a loss with state":
        changes["loss"] = _Counted()
    elif name == "a model that draws":
        model = _Drawing()
    elif name == "rows that draw":
        changes["train"] = _DrawnRows()
    return model, changes


class _Counted(nn.Module):
    """A loss with a buffer and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return functional.cross_entropy(outputs * self.scale, targets)


CASES = (
    "nothing wrong",
    "a rate far too high",
    "a crash",
    "labels out of range",
    "a loss that raises",
    "a loss that reaches the model",
    "a loss with state",
    "a model that draws",
    "rows that draw",
)


@pytest.mark.parametrize("name", CASES)
def test_a_diagnosis_changes_no_bit_of_what_it_was_given_nor_of_global_state(name: str) -> None:
    model, changes = _case(name)
    first = next(iter(model.parameters()))
    first.requires_grad_(False)
    next(module for module in model.modules() if isinstance(module, nn.ReLU)).eval()
    model.register_forward_hook(lambda module, inputs, outputs: None)
    list(model.parameters())[-1].grad = torch.full((2,), 3.0)
    train = changes.get("train") or _rows()
    rows = [part.clone() for part in train] if isinstance(train, tuple) else []
    loss = changes.get("loss")
    states = [_state(part) for part in (model, loss) if isinstance(part, nn.Module)]
    world = _world()
    _diagnosed(model, **{**changes, "train": train})
    assert _equal([_state(part) for part in (model, loss) if isinstance(part, nn.Module)], states)
    assert _equal(_world(), world)
    assert _equal(list(train) if rows else [], rows)


def test_what_a_model_draws_does_not_depend_on_where_global_generators_are() -> None:
    def losses(seed: int) -> list[float]:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return _diagnosed(_Drawing(), _DrawnRows()).bench.own.losses

    held = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        assert losses(1) == losses(2)
    finally:
        random.setstate(held[0])
        np.random.set_state(held[1])
        torch.set_rng_state(held[2])


def test_the_answer_is_the_same_where_gradients_are_switched_off() -> None:
    model = _net()
    expected = _diagnosed(model).bench.own.losses
    with torch.no_grad():
        assert _diagnosed(model).bench.own.losses == expected
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert _diagnosed(model).bench.own.losses == expected
        assert torch.is_inference_mode_enabled()


def test_a_lazy_model_stays_without_weights() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    _diagnosed(model)
    assert all(nn.parameter.is_lazy(part) for part in model.parameters())


class _OnGpu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = _net()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs.cuda(99))
        return outputs


ONE_NUMBER = "Let the loss return one number"
CRASHES: dict[str, tuple[dict[str, Any], str]] = {
    "a loss that returns None": ({"loss": lambda outputs, targets: None}, ONE_NUMBER),
    "a loss that returns a number": ({"loss": lambda outputs, targets: 1.5}, ONE_NUMBER),
    "a loss that returns a word": ({"loss": lambda outputs, targets: "low"}, ONE_NUMBER),
    "a loss that returns a pair": ({"loss": lambda outputs, targets: (outputs.mean(), outputs)}, ONE_NUMBER),
    "a loss of each row": ({"loss": nn.CrossEntropyLoss(reduction="none")}, ONE_NUMBER),
    "a loss of one argument": ({"loss": lambda outputs: outputs.mean()}, "Mend what the message names"),
    "arrays of double precision": ({"train": (_rows()[0].numpy().astype(np.float64), _rows()[1].numpy())}, "Mend what"),
    "validation of another width": ({"val": (_rows()[0][:, :3], _rows()[1])}, "Mend what the message names"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_step_that_can_not_be_taken_is_a_blocker_that_says_what_to_give(name: str) -> None:
    changes, words = CRASHES[name]
    found = _diagnosed(_net(), **changes).findings
    assert [(finding.id, finding.severity) for finding in found] == [("crash", "blocker")]
    assert found[0].remedy.text.startswith(words)


def test_code_for_a_device_that_is_not_there_is_a_crash() -> None:
    (found,) = _diagnosed(_OnGpu()).findings
    assert (found.id, found.severity) == ("crash", "blocker")
    assert str(found.remedy.line).endswith("outputs: Tensor = self.body(inputs.cuda(99))")


def test_validation_rows_that_the_model_can_not_take_are_named_as_such() -> None:
    (found,) = _diagnosed(_net(), val=(_rows()[0][:, :3], _rows()[1])).findings
    assert "forward of a batch of 16 validation rows" in found.symptom


def test_an_optimizer_over_another_models_tensors_is_told() -> None:
    found = _diagnosed(_net(), optimizer=torch.optim.SGD(_net().parameters(), lr=0.1)).findings
    assert found[0].id == "params_not_in_optimizer"


def test_an_optimizer_of_several_groups_and_one_of_a_generator_train_like_plain_ones() -> None:
    model = _net()
    plain = _diagnosed(model, optimizer={"name": "sgd", "lr": 0.1}).bench.own.losses
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.1}]
    assert _diagnosed(model, optimizer=torch.optim.SGD(groups, lr=0.1)).bench.own.losses == plain
    for held in (model.parameters(), model.named_parameters()):
        found = _diagnosed(model, optimizer={"name": "sgd", "lr": 0.1, "params": held})
        assert found.bench.own.losses == plain
        assert "params_not_in_optimizer" not in [finding.id for finding in found.findings]


def test_a_single_row_and_a_model_without_weights_have_an_answer() -> None:
    inputs, targets = _rows()
    assert isinstance(_diagnosed(_net(), (inputs[:1], targets[:1])), Diagnosis)
    assert not _diagnosed(nn.Identity()).healthy


def test_what_is_missing_superfluous_or_no_model_is_refused() -> None:
    with pytest.raises(JobError, match="batch_size isn't given"):
        _diagnosed(_net(), batch_size=None)
    with pytest.raises(JobError, match="model is a function; "):
        _diagnosed(lambda inputs: inputs)  # type: ignore[arg-type]
    with pytest.raises(JobError, match="model is a type; "):
        _diagnosed(nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="train has 0 inputs"):
        _diagnosed(_net(), (torch.zeros(0, 4), torch.zeros(0)))


def test_the_verdict_on_a_short_training_does_not_depend_on_how_fast_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.process_time
    setups = [{"epochs": 1}, {"optimizer": {"name": "sgd", "lr": 1e4}}]
    verdicts = []
    for factor in (1.0, 3.0):
        monkeypatch.setattr(time, "process_time", lambda factor=factor: factor * clock())
        verdicts.append([[finding.id for finding in _diagnosed(_net(), **copy.deepcopy(given)).findings] for given in setups])
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("epochs", [2_000, 40_000])
def test_of_a_long_training_at_most_two_in_a_hundred_steps_are_spent_and_that_is_told(epochs: int) -> None:
    cost = Budget(long_steps=6_000) if epochs == 2_000 else Budget()
    found = _diagnosed(_net(), optimizer={"name": "adam", "lr": 30.0}, epochs=epochs, cost=cost)
    assert found.num_steps <= 0.02 * 3 * epochs
    assert not found.whole
    assert f"of {3 * epochs:,} steps: what shows later isn't found" in str(found)


def test_a_training_that_was_tried_whole_says_nothing_of_a_beginning() -> None:
    found = _diagnosed(_net())
    assert found.whole
    assert "what shows later" not in str(found)
