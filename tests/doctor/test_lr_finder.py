"""`find_lr`: it leaves everything as it was, finds rates that train, and refuses where none does."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stepwell import Batch, Job, Recipe, TrainStep, find_lr
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.doctor.lr_finder import LrFound
from stepwell.doctor.lr_picture import lr_png
from stepwell.doctor.lr_sweep import Sweep
from stepwell.engine.parts import Execution
from stepwell.techniques import AdamW, ClipNorm, CrossEntropy, Ema, LrGroups, Mixup, OneCycle, Sgd, Unfreezing

QUICK = Sweep(low=1e-5, high=10.0, num_steps=30)


class Changing(nn.Module):
    """Everything that a forward pass could leave a trace in: buffers, one of them not saved, a number, a draw."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(2), persistent=False)
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        self.seen += x.mean()
        return self.head(self.body(x + 0.01 * torch.randn_like(x)))


def data(num: int = 96) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(num, 4, generator=draw)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def model() -> Changing:
    torch.manual_seed(0)
    return Changing()


def held(value: Any) -> Any:
    """A copy of nested tensors and plain values, NaN-safe to compare with `same`."""
    return copy.deepcopy(value)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def traces(module: Changing) -> dict[str, Any]:
    return {
        "tensors": {name: tensor.detach().clone() for name, tensor in [*module.named_parameters(), *module.named_buffers()]},
        "gradients": [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        "trains": [p.requires_grad for p in module.parameters()],
        "modes": [part.training for part in module.modules()],
        "hooks": [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()],
        "addresses": [p.data_ptr() for p in module.parameters()],
        "calls": module.num_calls,
    }


def generators() -> list[Any]:
    array = np.random.get_state()
    return [torch.get_rng_state(), random.getstate(), [array[0], array[1].tolist(), *array[2:]]]  # type: ignore[index, union-attr]


def a_step(module: nn.Module, optimizer: Any, *, memory: Any = "flat") -> TrainStep:
    techniques = [
        OneCycle(warmup="20%"),
        Mixup(alpha=0.2, num_classes=3),
        ClipNorm(max_norm=1.0),
        Ema(half_life="5 steps"),
        Unfreezing(modules=["head", "body"], every="50%"),
        LrGroups(patterns={"body": 0.1}),
    ]
    return TrainStep(
        module,
        objective=CrossEntropy(),
        optimizer=optimizer,
        techniques=techniques,
        horizon=Horizon.of("100 steps"),
        execution=Execution(micro_batch_size=8, memory=memory),
    )


OPTIMIZERS = [AdamW(lr=1e-3), Sgd(lr=1e-2, momentum=0.9), lambda groups: torch.optim.AdamW(groups, lr=1e-3)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["adamw", "momentum", "torch"])
@pytest.mark.parametrize("memory", ["flat", "tensors"])
def test_a_users_own_step_is_bit_for_bit_what_it_was_and_goes_on_as_if_nothing_had_been(optimizer: Any, memory: Any) -> None:
    x, y = data()
    own = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, generator=own)
    module = model()
    step, witness = a_step(module, optimizer, memory=memory), a_step(model(), optimizer, memory=memory)
    before = traces(module), held(step.state_dict()), held([{**g, "params": 0} for g in step.optimizer.param_groups])
    chance, order = generators(), own.get_state()

    find_lr(step, loader, sweep=QUICK, repeats=2)

    after = traces(module), step.state_dict(), [{**g, "params": 0} for g in step.optimizer.param_groups]
    assert same(before, after)
    assert same(chance, generators())
    assert torch.equal(order, own.get_state())
    assert module.seen.sum() == 0  # the sweep has not even called it
    for start in range(0, 96, 16):
        batch = Batch(x[start : start + 16], y[start : start + 16])
        torch.manual_seed(start)
        mine = step(batch)
        torch.manual_seed(start)
        assert torch.equal(mine.loss, witness(batch).loss)
    assert same(step.state_dict()["model"], witness.state_dict()["model"])


def test_a_step_that_has_trained_keeps_its_optimizer_and_gradients() -> None:
    x, y = data()
    module = model()
    step = TrainStep(module, objective=CrossEntropy(), optimizer=AdamW(lr=1e-2))
    for _ in range(3):
        step(Batch(x, y))
    before = traces(module), held(step.state_dict())
    find_lr(step, [Batch(x[:32], y[:32]), Batch(x[32:], y[32:])], sweep=QUICK, repeats=1)
    assert same(before, (traces(module), step.state_dict()))


@pytest.mark.parametrize("rule", ["auto", "valley"])
def test_a_module_given_as_to_fit_keeps_weights_buffers_modes_and_generators(rule: Any) -> None:
    module, (x, y) = model(), data()
    module.body.eval()
    kept = x.clone(), y.clone()
    recipe = Recipe(optimizer="adamw", schedule="one_cycle", techniques=[{"name": "ema"}, {"name": "orthogonal_init"}])
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(2))
    before, chance, order = traces(module), generators(), loader.generator.get_state()
    find_lr(module, loader, val=(x, y), recipe=recipe, budget="20 steps", sweep=QUICK, repeats=1, rule=rule)
    assert same(before, traces(module))
    assert same(chance, generators())
    assert torch.equal(order, loader.generator.get_state())
    assert same(kept, (x, y))


def test_a_stream_is_read_from_a_copy() -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        num_read = 0

        def __iter__(self) -> Iterator[Any]:
            for x, y in zip(*data(), strict=True):
                self.num_read += 1
                yield x, y

    stream = Stream()
    find_lr(nn.Linear(4, 3), stream, recipe=Recipe(optimizer="sgd"), budget="20 steps", sweep=QUICK, repeats=1, rule="valley")
    assert stream.num_read == 0


def line(num: int = 200) -> tuple[Tensor, Tensor]:
    x = torch.randn(num, 3, generator=torch.Generator().manual_seed(3))
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def test_trials_find_a_rate_that_descends_a_parabola_almost_at_once() -> None:
    x, y = line()
    # The loss is a parabola with the curvatures of 2 x'x / n; plain descent diverges above 2 / the largest.
    largest = float(torch.linalg.eigvalsh(2 * x.T @ x / len(x)).max())
    recipe = Recipe(objective="mse", optimizer={"name": "sgd", "momentum": 0.0}, batch_size="full")
    found = find_lr(nn.Linear(3, 1), (x, y), val=(x, y), recipe=recipe, budget="20 steps", sweep=QUICK)
    assert found.rate is not None
    assert 0.2 / largest < found.rate < 2 / largest
    assert found.rule == "trials"
    assert min(trial.loss for trial in found.trials) < 1e-3
    assert found.num_steps == 2 * sum(len(c.rates) for c in found.curves) + sum(t.num_steps for t in found.trials)


@pytest.mark.parametrize("rule", ["steepest", "valley", "divergence", "minimum"])
def test_every_rule_stays_below_where_plain_descent_diverges(rule: Any) -> None:
    x, y = line()
    largest = float(torch.linalg.eigvalsh(2 * x.T @ x / len(x)).max())
    recipe = Recipe(objective="mse", optimizer={"name": "sgd", "momentum": 0.0}, batch_size="full")
    found = find_lr(nn.Linear(3, 1), (x, y), recipe=recipe, budget="20 steps", rule=rule, repeats=2)
    assert found.rate is not None
    assert found.rate < 2 / largest
    assert found.rule == rule
    assert found.trials == []
    assert found.confidence == "high"  # each repeat has the same full batch


def test_a_rate_for_a_longer_training_follows_from_trials_by_the_square_root_of_the_lengths() -> None:
    x, y = line()
    recipe = Recipe(objective="mse", optimizer={"name": "sgd", "momentum": 0.0}, batch_size="full")
    found = find_lr(nn.Linear(3, 1), (x, y), val=(x, y), recipe=recipe, budget="80 steps", sweep=QUICK, most_steps=20, repeats=1)
    full = [trial for trial in found.trials if trial.kind == "trial"]
    best = min(full, key=lambda trial: trial.loss)
    assert found.rate == pytest.approx(best.rate / 2)
    assert "20 of 80 steps" in found.notes[-1]


class Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        nn.init.constant_(self.layer.bias, -1000.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))


class Undefined(Dead):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).log()


def uphill(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1, maximize=True)


@pytest.mark.parametrize(
    ("module", "optimizer", "reason"),
    [
        (Dead(), "adamw", "gradient is exactly 0"),
        (Undefined(), "adamw", "isn't finite"),
        (nn.Linear(4, 3), uphill, "never falls"),
    ],
)
def test_what_no_rate_can_train_is_refused_with_the_reason(module: nn.Module, optimizer: Any, reason: str) -> None:
    found = find_lr(module, data(), recipe=Recipe(optimizer=optimizer), budget="20 steps", sweep=QUICK)
    assert found.rate is None
    assert reason in found.reason
    assert found.confidence == "none"
    assert lr_png(found, title="none").startswith(b"\x89PNG")


def test_a_training_that_only_makes_validation_worse_is_refused() -> None:
    x, y = data()
    recipe = Recipe(optimizer={"name": "sgd"}, objective="cross_entropy")
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    # Wherever training raises one class, validation wants another, and all are as likely before.
    found = find_lr(module, (x, y), val=(-x, y), recipe=recipe, budget="30 steps", sweep=QUICK, repeats=1)
    assert found.rate is None
    assert "untrained" in found.reason


def test_what_does_not_fit_together_is_a_mistake_in_three_parts() -> None:
    step = TrainStep(nn.Linear(4, 3), objective=CrossEntropy(), optimizer=Sgd(lr=0.1))
    for call in (
        lambda: find_lr(step, iter([])),
        lambda: find_lr(step, []),
        lambda: find_lr(step, None),
        lambda: find_lr(step, [Batch(*data())], val=data()),
        lambda: find_lr(nn.Linear(4, 3), data(), rule="best"),  # type: ignore[arg-type]
        lambda: find_lr(nn.Linear(4, 3), data(), repeats=0),
        lambda: find_lr(nn.Linear(4, 3), data(), lr=3),
        lambda: find_lr("job.yaml"),  # type: ignore[arg-type]
        lambda: find_lr(Job(recipe=Recipe(optimizer="sgd"), budget="1 epoch"), data()),
    ):
        with pytest.raises(JobError) as caught:
            call()
        assert caught.value.expected
        assert caught.value.fix


def test_a_scheduled_step_that_has_begun_is_refused_because_its_rate_has_moved() -> None:
    x, y = data()
    how = {"techniques": [OneCycle()], "horizon": Horizon.of("10 steps")}
    step = TrainStep(nn.Linear(4, 3), objective=CrossEntropy(), optimizer=Sgd(lr=0.1), **how)  # type: ignore[arg-type]
    step(Batch(x, y))
    with pytest.raises(JobError, match="schedule"):
        find_lr(step, [Batch(x, y)])


def test_the_result_as_plain_values_has_all_of_it() -> None:
    found = find_lr(nn.Linear(4, 3), data(), recipe=Recipe(optimizer="sgd"), rule="valley", sweep=QUICK, repeats=1)
    plain = found.to_mapping()
    assert plain["rate"] == found.rate
    assert plain["factor"] == 1.0
    assert plain["curves"][0]["rates"] == found.curves[0].rates


def test_a_picture_is_a_png_1360_pixels_wide() -> None:
    found = find_lr(nn.Linear(4, 3), data(), recipe=Recipe(optimizer="sgd"), budget="20 steps", sweep=QUICK, repeats=1)
    content = lr_png(found, title="a job")
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(content[16:20], "big") == 1360


def test_without_any_repeat_that_agrees_the_factor_is_infinite() -> None:
    assert math.isinf(LrFound(None, "why", "auto", "none", [], [], []).factor)
