"""The step against hand-written PyTorch loops over 50 steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.updates import elementwise
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import AdamW, ClipNorm, CrossEntropy, Ema, Sgd

STEPS = 50


def network(dtype: torch.dtype) -> nn.Sequential:
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Linear(20, 37), nn.ReLU(), nn.Linear(37, 10))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.to(dtype)


def batches(dtype: torch.dtype) -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    return [
        Batch(torch.randn(32, 20, generator=generator).to(dtype), torch.randint(0, 10, (32,), generator=generator))
        for _ in range(STEPS)
    ]


def by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Iterable[Batch], *, clip: float | None
) -> tuple[list[Tensor], list[Tensor]]:
    """A plain loop; returns its weights and an EMA of them with decay 0.9, warmed as stated in `warmed_decay`."""
    shadow: list[Tensor] = []
    for count, batch in enumerate(data):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        decay = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        if not shadow:
            shadow = [p.detach().clone() for p in model.parameters()]
        else:
            for mean, parameter in zip(shadow, model.parameters()):
                mean.lerp_(parameter.detach(), 1 - decay)
    return [p.detach() for p in model.parameters()], shadow


def by_step(
    model: nn.Module, optimizer: Any, data: Iterable[Batch], *, clip: float | None, memory: str
) -> tuple[list[Tensor], list[Tensor]]:
    techniques: list[Any] = [Ema(decay=0.9)] if clip is None else [ClipNorm(max_norm=clip), Ema(decay=0.9)]
    step = TrainStep(
        model,
        objective=CrossEntropy(),
        optimizer=optimizer,
        techniques=techniques,
        execution=Execution(memory=memory),  # type: ignore[arg-type]
    )
    for batch in data:
        step(batch)
    weights = [p.detach().clone() for p in step.model.parameters()]
    with step.parts.averages["ema"].swapped():
        averaged = [p.detach().clone() for p in step.model.parameters()]
    return weights, averaged


OPTIMIZERS: dict[str, tuple[Any, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": (
        Sgd(lr=0.1, momentum=0.9, weight_decay=1e-3),
        lambda p, fused: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, fused=fused),
    ),
    "nesterov": (
        Sgd(lr=0.05, momentum=0.9, nesterov=True),
        lambda p, fused: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, fused=fused),
    ),
    "adamw": (
        AdamW(lr=3e-3, weight_decay=0.05),
        lambda p, fused: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.05, fused=fused),
    ),
}


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fp32_has_the_bits_of_a_loop_that_calls_the_same_kernels(name: str, clip: float | None) -> None:
    ours, theirs = OPTIMIZERS[name]
    model, twin = network(torch.float32), network(torch.float32)
    expected = by_hand(twin, theirs(twin.parameters(), True), batches(torch.float32), clip=clip)
    got = by_step(model, ours, batches(torch.float32), clip=clip, memory="tensors")
    for mine, hand in zip(got, expected):
        assert all(torch.equal(a, b) for a, b in zip(mine, hand))


@pytest.mark.parametrize("memory", ["flat", "tensors"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float64_agrees_with_a_plain_loop_to_1e_12(name: str, clip: float | None, fused: bool, memory: str) -> None:
    ours, theirs = OPTIMIZERS[name]
    model, twin = network(torch.float64), network(torch.float64)
    expected = by_hand(twin, theirs(twin.parameters(), fused), batches(torch.float64), clip=clip)
    got = by_step(model, ours, batches(torch.float64), clip=clip, memory=memory)
    for mine, hand in zip(got, expected):
        assert max(float((a - b).abs().max()) for a, b in zip(mine, hand)) <= 1e-12


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_flat_memory_has_the_bits_of_a_loop_over_the_same_flat_memory(name: str) -> None:
    """The hand-written loop keeps its weights in one padded buffer and calls torch's fused optimizer on it."""
    ours, theirs = OPTIMIZERS[name]
    model, twin = network(torch.float32), network(torch.float32)
    got, _ = by_step(model, ours, batches(torch.float32), clip=None, memory="flat")
    sizes = [-(-p.numel() // 16) * 16 for p in twin.parameters()]
    flat = torch.zeros(sum(sizes))
    places = [slice(sum(sizes[:i]), sum(sizes[:i]) + p.numel()) for i, p in enumerate(twin.parameters())]
    for place, parameter in zip(places, twin.parameters()):
        flat[place] = parameter.detach().reshape(-1)
        parameter.data = flat[place].view(parameter.shape)
    flat.requires_grad_()
    optimizer = theirs([flat], True)
    for batch in batches(torch.float32):
        twin.zero_grad()
        F.cross_entropy(twin(batch.inputs), batch.targets).backward()
        flat.grad = torch.zeros_like(flat)
        for place, parameter in zip(places, twin.parameters()):
            assert parameter.grad is not None
            flat.grad[place] = parameter.grad.reshape(-1)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(got, twin.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_models_are_laid_out_in_part_and_train_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "LARGEST_LAID_OUT_WHOLE", 100)
    monkeypatch.setattr(elementwise, "LARGEST_BESIDE_LARGE", 400)
    ours, theirs = OPTIMIZERS[name]
    step = TrainStep(network(torch.float32), objective=CrossEntropy(), optimizer=ours)
    assert isinstance(step.optimizer, elementwise.ElementwiseOptimizer)
    assert [tuple(p.shape) for p in step.optimizer.outside] == [(37, 20)]
    model, twin = network(torch.float64), network(torch.float64)
    expected = by_hand(twin, theirs(twin.parameters(), True), batches(torch.float64), clip=0.5)
    got = by_step(model, ours, batches(torch.float64), clip=0.5, memory="flat")
    for mine, hand in zip(got, expected):
        assert max(float((a - b).abs().max()) for a, b in zip(mine, hand)) <= 1e-12


def test_parameters_keep_names_shapes_and_state_in_flat_memory() -> None:
    model = network(torch.float32)
    before = copy.deepcopy(model.state_dict())
    step = TrainStep(model, objective=CrossEntropy(), optimizer=AdamW())
    assert {name: t.shape for name, t in model.state_dict().items()} == {name: t.shape for name, t in before.items()}
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    step(batches(torch.float32)[0])
    state = step.optimizer.state_dict()["state"]
    assert [tuple(entry["exp_avg"].shape) for entry in state.values()] == [tuple(p.shape) for p in model.parameters()]


def test_training_goes_on_after_a_user_clears_gradients_or_replaces_memory() -> None:
    data = batches(torch.float32)
    model, twin = network(torch.float32), network(torch.float32)
    step = TrainStep(model, objective=CrossEntropy(), optimizer=Sgd(lr=0.1))
    plain = TrainStep(twin, objective=CrossEntropy(), optimizer=Sgd(lr=0.1))
    for batch in data[:5]:
        step.model.zero_grad(set_to_none=True)
        for parameter in step.model.parameters():
            parameter.data = parameter.data.clone()
        step(batch)
        plain(batch)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


def test_state_moves_between_flat_memory_and_separate_tensors() -> None:
    data = batches(torch.float64)
    steps = [
        TrainStep(network(torch.float64), objective=CrossEntropy(), optimizer=AdamW(), execution=Execution(memory=memory))  # type: ignore[arg-type]
        for memory in ("flat", "tensors")
    ]
    for batch in data[:5]:
        steps[0](batch)
    steps[1].load_state_dict(copy.deepcopy(steps[0].state_dict()))
    for batch in data[5:10]:
        for step in steps:
            step(batch)
    pairs = zip(steps[0].model.parameters(), steps[1].model.parameters())
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) <= 1e-12
