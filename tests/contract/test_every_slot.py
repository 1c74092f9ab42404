"""What holds for every technique of a slot: it does its slot's work, touches nothing else, and can be resumed."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import pytest
import torch
from technique_examples import batch_for, example, model_for, objective_model, samples, small_model
from torch import Tensor, nn

from stepwell.core.batch import Batch, tree_leaves
from stepwell.core.catalog import Record, discover, lookup
from stepwell.core.clock import Clock, Horizon
from stepwell.core.randomness import Rng
from stepwell.core.reports import EvalReport, Stop
from stepwell.core.slots import Average, Objective, Observer, Schedule, Stateful, Term
from stepwell.core.updates.gradients import Gradients

HORIZON = Horizon.of("10 epochs", steps_per_epoch=4, samples_per_step=16)
RECORDS = [record for record in discover().values() if record.factory.__module__.startswith("stepwell.")]


def of_slot(slot: str, role: str = "") -> Any:
    chosen = [record for record in RECORDS if (record.slot, record.role) == (slot, role)]
    return pytest.mark.parametrize("record", chosen, ids=[record.id for record in chosen])


def copies(tensors: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def same(left: Any, right: Any) -> bool:
    """Equal bits of tensors, equal values of everything else, in nested dicts and lists."""
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right))
    return bool(left == right)


@of_slot("batch")
def test_a_batch_technique_is_a_function_of_its_seed_and_changes_nothing(record: Record) -> None:
    technique, batch = example(record), batch_for(record)
    before = copies(tree_leaves(batch.inputs) + tree_leaves(batch.targets))
    state = torch.default_generator.get_state()
    made = [technique(batch, Rng(seed)) for seed in (3, 3, 4)]
    assert same(made[0].inputs, made[1].inputs)
    assert same(made[0].targets, made[1].targets)
    assert not (same(made[0].inputs, made[2].inputs) and same(made[0].targets, made[2].targets))
    assert torch.equal(torch.default_generator.get_state(), state)
    assert same(before, tree_leaves(batch.inputs) + tree_leaves(batch.targets))


@of_slot("batch")
def test_a_batch_technique_keeps_shape_and_dtype_of_the_inputs_and_every_sample(record: Record) -> None:
    batch = batch_for(record)
    made = example(record)(batch, Rng(0))
    assert len(made) == len(batch)
    assert [(t.shape, t.dtype) for t in tree_leaves(made.inputs)] == [(t.shape, t.dtype) for t in tree_leaves(batch.inputs)]
    assert all(len(leaf) == len(batch) for leaf in tree_leaves(made.targets))


def build_objective(record: Record) -> Objective:
    technique = example(record)
    objective = technique(lookup("cross_entropy").factory()) if record.role == "modifier" else technique
    assert isinstance(objective, Objective)
    return objective


def check_objective_adds_up(record: Record) -> None:
    objective, batch, model = build_objective(record), samples(record), objective_model(record).eval()
    before = copies(tree_leaves(batch.inputs) + tree_leaves(batch.targets))
    if not objective.decomposable:
        return
    whole, counts = objective(model, batch), objective.counts(batch)
    assert same(before, tree_leaves(batch.inputs) + tree_leaves(batch.targets))
    parts = batch.split([2, 8, 1])
    for name, term in whole.items():
        assert isinstance(term, Term)
        assert term.unit in counts
        assert term.sum.shape == ()
        assert term.sum.dtype == torch.float64
        assert term.sum.requires_grad
        total = sum(objective(model, part)[name].sum.item() for part in parts)
        assert total == pytest.approx(term.sum.item(), rel=1e-12)
    for unit, count in counts.items():
        assert sum(float(objective.counts(part)[unit]) for part in parts) == pytest.approx(float(count), rel=1e-12)


@of_slot("objective", "base")
def test_terms_and_counts_of_an_objective_add_up_over_the_parts_of_a_batch(record: Record) -> None:
    check_objective_adds_up(record)


@of_slot("objective", "modifier")
def test_terms_and_counts_of_a_modified_objective_add_up_over_the_parts_of_a_batch(record: Record) -> None:
    check_objective_adds_up(record)


def trained(model: nn.Module, batch: Batch) -> nn.Module:
    """The model with gradients of a plain sum of squares."""
    model.zero_grad()
    model(batch.inputs).square().sum().backward()
    return model


def some_inputs() -> Batch:
    draw = torch.Generator().manual_seed(7)
    return Batch(torch.randn(12, 4, generator=draw, dtype=torch.float64))


def grads(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@of_slot("grad")
def test_a_grad_technique_keeps_shapes_and_weights_and_measures_scalars(record: Record) -> None:
    model = trained(small_model(), some_inputs())
    weights, shapes = copies(model.parameters()), [(t.shape, t.dtype) for t in grads(model)]
    measured = example(record)(Gradients.of(model.parameters()))
    assert same(weights, copies(model.parameters()))
    assert [(t.shape, t.dtype) for t in grads(model)] == shapes
    assert measured
    for value in measured.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert math.isfinite(value.item())


@of_slot("grad")
def test_a_grad_technique_does_the_same_to_flat_gradients_and_to_plain_parameters(record: Record) -> None:
    plain, flat = (trained(small_model(), some_inputs()) for _ in range(2))
    span = torch.cat([gradient.flatten() for gradient in grads(flat)])
    start = 0
    for parameter in flat.parameters():
        parameter.grad = span[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    technique = example(record)
    one, other = technique(plain.parameters()), technique(Gradients(list(flat.parameters()), [span]))
    assert one.keys() == other.keys()
    for left, right in zip([*grads(plain), *one.values()], [*grads(flat), *other.values()]):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int) -> None:
    def closure() -> float:
        trained(model, some_inputs())
        return 0.0

    for _ in range(num_steps):
        optimizer.step(closure)


@of_slot("optimizer", "base")
def test_an_optimizer_moves_the_weights_and_goes_on_from_its_saved_state_to_the_bit(record: Record) -> None:
    technique, whole, resumed = example(record), small_model(), small_model()
    optimizer = technique([{"params": list(whole.parameters())}])
    assert isinstance(optimizer, torch.optim.Optimizer)
    start = copies(whole.parameters())
    steps(whole, optimizer, 2)
    assert not any(torch.equal(old, new) for old, new in zip(start, whole.parameters()) if old.ndim == 2)
    resumed.load_state_dict(whole.state_dict())
    second = technique([{"params": list(resumed.parameters())}])
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(whole, optimizer, 3)
    steps(resumed, second, 3)
    assert same(copies(whole.parameters()), copies(resumed.parameters()))
    assert same(optimizer.state_dict(), second.state_dict())


@of_slot("optimizer", "groups")
def test_group_factors_are_numbers_for_parameters_that_exist(record: Record) -> None:
    model = small_model()
    factors = example(record)(model)
    assert factors
    assert set(factors) <= {name for name, _ in model.named_parameters()}
    assert all(isinstance(value, (int, float)) and value >= 0 for fields in factors.values() for value in fields.values())


@of_slot("schedule")
@pytest.mark.parametrize("budget", ["40 steps", "1 step", "640 samples", "9000 tokens"])
def test_every_value_of_a_schedule_is_finite_and_a_function_of_what_is_done(record: Record, budget: str) -> None:
    horizon = Horizon.of(budget, steps_per_epoch=4, samples_per_step=16, tokens_per_step=300)
    schedule = example(record)(horizon)
    assert isinstance(schedule, Schedule)
    assert schedule.drives
    for drive in schedule.drives:
        assert drive.mode in ("scale", "set")
        assert "." in drive.target
        places = [place * horizon.per_step for place in range(horizon.total_steps + 3)]
        values = [drive.value(done) for done in places]
        assert all(math.isfinite(value) and value >= 0 for value in values)
        assert values[0] > 0
        order = random.Random(0).sample(range(len(places)), len(places))
        assert [drive.value(places[place]) for place in order] == [values[place] for place in order]


def report(value: float) -> EvalReport:
    return EvalReport(step=0, epoch=0.0, metrics={"loss": value, "accuracy": 1.0 - value})


def random_values(length: int) -> list[float]:
    draw = random.Random(5)
    return [draw.random() for _ in range(length)]


def answers(observer: Any, values: list[float]) -> list[Any]:
    drives = getattr(observer, "drives", ())
    return [(observer(report(value)), [drive.value(0) for drive in drives]) for value in values]


def check_observer_resumes(record: Record) -> None:
    technique, values = example(record), random_values(60)
    first, second = technique(HORIZON), technique(HORIZON)
    assert isinstance(first, Observer)
    assert isinstance(first, Stateful)
    assert first.watches in ("steps", "evaluations")
    if first.watches == "evaluations":
        said = [answer for answer, _ in answers(first, values[:30])]
        assert all(answer is None or (isinstance(answer, Stop) and record.id in answer.reason) for answer in said)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert same(first.state_dict(), second.state_dict())
    if first.watches == "evaluations":
        assert answers(first, values[30:]) == answers(second, values[30:])


@of_slot("observer")
def test_an_observer_goes_on_from_its_saved_state_as_if_never_stopped(record: Record) -> None:
    check_observer_resumes(record)


@of_slot("schedule")
def test_a_schedule_that_learns_from_reports_goes_on_from_its_saved_state(record: Record) -> None:
    schedule = example(record)(HORIZON)
    # A schedule that observes must be able to save what it saw, and one that doesn't has nothing to save.
    assert isinstance(schedule, Observer) == isinstance(schedule, Stateful)
    if isinstance(schedule, Observer):
        check_observer_resumes(record)


def wander(model: nn.Module, average: Average, first: int, last: int) -> None:
    for step in range(first, last + 1):
        draw = torch.Generator().manual_seed(step)
        for tensor in [*model.parameters(), *model.buffers()]:
            noise = torch.rand(tensor.shape, generator=draw, dtype=torch.float64)
            tensor.data.copy_(noise if tensor.is_floating_point() else torch.tensor(step))
        average.update(Clock(steps=step, samples=16 * step))


@of_slot("average")
def test_an_average_goes_on_from_its_saved_state_to_the_bit_at_any_time(record: Record) -> None:
    technique, model = example(record), small_model()
    whole = technique(model, HORIZON)
    assert not whole.ready
    wander(model, whole, 1, 40)
    assert whole.ready
    for cut in (0, 1, 29, 30, 31, 39):
        first, second = technique(model, HORIZON), technique(model, HORIZON)
        wander(model, first, 1, cut)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert second.ready == first.ready
        wander(model, second, cut + 1, 40)
        assert same(second.state_dict(), whole.state_dict()), cut


@of_slot("average")
def test_an_average_gives_the_model_its_own_bits_back_and_never_moves_them(record: Record) -> None:
    model = small_model()
    average = example(record)(model, HORIZON)
    wander(model, average, 1, 40)
    own, held = copies(model.state_dict().values()), [id(parameter) for parameter in model.parameters()]
    with average.swapped():
        assert not same(copies(model.state_dict().values()), own)
    assert same(copies(model.state_dict().values()), own)
    assert [id(parameter) for parameter in model.parameters()] == held


@of_slot("model")
def test_a_model_technique_is_a_function_of_its_seed_and_leaves_the_global_generators_alone(record: Record) -> None:
    technique, state = example(record), torch.default_generator.get_state()
    models = [technique(model_for(record), Rng(3)) for _ in range(2)]
    assert all(isinstance(model, nn.Module) for model in models)
    assert same(*[dict(model.state_dict()) for model in models])
    assert torch.equal(torch.default_generator.get_state(), state)
    assert models[0](some_inputs().inputs).shape == (12, 3)


TIMED = [record for record in RECORDS if record.slot == "model" and hasattr(record.factory, "at")]


@pytest.mark.parametrize("record", TIMED, ids=[record.id for record in TIMED])
def test_what_a_model_technique_does_in_time_follows_from_the_clock_alone(record: Record) -> None:
    technique = example(record)

    def trainable(model: nn.Module) -> list[bool]:
        return [parameter.requires_grad for parameter in model.parameters()]

    walked = technique(model_for(record), Rng(0))
    for place in (0, 1, 7, 20, 40, 3, 0, 39):
        technique.at(walked, Clock(steps=place), HORIZON)
        before = trainable(walked)
        assert not technique.at(walked, Clock(steps=place), HORIZON), "a second call at the same time changes nothing"
        assert trainable(walked) == before
        fresh = technique(model_for(record), Rng(0))
        technique.at(fresh, Clock(steps=place), HORIZON)
        assert trainable(fresh) == before, place
