"""Schedule-free AdamW against the paper's equations, the authors' package, and its own promises as an average."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import schedulefree
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import Cosine, Mse, ScheduleFreeAdamW, Warmup, schedule_free_adamw_


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def train(model: nn.Module, optimizer: Any, rates: list[float], first: int = 0) -> None:
    for count, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=False)
        for layout in getattr(optimizer, "layouts", ()):
            layout.attach()
        model(drawn(6, 3, seed=100 + first + count)).square().sum().backward()
        optimizer.step()


def values(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_three_steps_follow_the_equations_of_the_paper() -> None:
    rates, gradients = [0.05, 0.1, 0.1], [0.5, -0.25, 2.0]
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    settings: dict[str, Any] = {"interpolation": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.3}
    optimizer = ScheduleFreeAdamW([weight], **settings)
    x = y = z = 1.0
    v = total = 0.0
    for count, (rate, gradient) in enumerate(zip(rates, gradients), start=1):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        v = 0.9 * v + 0.1 * gradient**2
        z -= rate * (gradient / (math.sqrt(v / (1 - 0.9**count)) + 1e-3) + 0.3 * y)
        total += rate**2
        share = rate**2 / total
        x = (1 - share) * x + share * z
        y = 0.8 * x + 0.2 * z
        assert weight.item() == pytest.approx(y, rel=1e-12)
        with optimizer.average.swapped():
            assert weight.item() == pytest.approx(x, rel=1e-12)


WARMED = [0.01 * min(1.0, count / 5) for count in range(1, 31)]
FALLING = [0.02 * (1 - count / 40) for count in range(30)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("rates", [WARMED, FALLING], ids=["warmed", "falling"])
@pytest.mark.parametrize("memory", ["tensors", "flat"])
def test_the_course_equals_the_authors_package(weight_decay: float, rates: list[float], memory: str) -> None:
    ours, theirs = network(), network()
    settings: dict[str, Any] = {"lr": rates[0], "weight_decay": weight_decay, "eps": 1e-6}
    optimizer = ScheduleFreeAdamW(ours.parameters(), interpolation=0.85, beta2=0.95, **settings)
    if memory == "flat":
        optimizer.lay_out()
    oracle = schedulefree.AdamWScheduleFreeReference(theirs.parameters(), betas=(0.85, 0.95), **settings)
    oracle.train()
    train(ours, optimizer, rates)
    train(theirs, oracle, rates)
    for one, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    oracle.eval()
    with optimizer.average.swapped():
        for one, other in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_with_an_interpolation_of_one_the_gradients_are_taken_at_the_average() -> None:
    model = network()
    optimizer = ScheduleFreeAdamW(model.parameters(), interpolation=1.0)
    train(model, optimizer, [0.01] * 3)
    own = values(model)
    with optimizer.average.swapped():
        assert all(torch.equal(one, other) for one, other in zip(own, values(model)))


@pytest.mark.parametrize("skip", [None, torch.tensor(0.0)], ids=["host", "device"])
def test_a_tensor_that_joins_later_averages_over_its_own_steps(skip: Tensor | None) -> None:
    late = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    early = nn.Parameter(torch.ones(1, dtype=torch.float64))
    both, alone = ScheduleFreeAdamW([early, late], lr=0.1), ScheduleFreeAdamW([copy.deepcopy(late)], lr=0.1)
    single, both.skip = alone.param_groups[0]["params"][0], skip
    for count in range(8):
        early.grad = torch.ones(1, dtype=torch.float64)
        if count >= 5:
            late.grad = single.grad = drawn(1, seed=count)
            alone.step()
        both.step()
    assert late.item() == pytest.approx(single.item(), rel=1e-12 if skip is None else 1e-6)  # shares in fp32 on a device


def test_a_rate_of_zero_moves_nothing_and_divides_by_nothing() -> None:
    model = network()
    before = values(model)
    optimizer = ScheduleFreeAdamW(model.parameters(), lr=0.0)
    train(model, optimizer, [0.0, 0.0])
    for one, other in zip(before, values(model)):
        torch.testing.assert_close(one, other, rtol=1e-15, atol=0.0)


def state_of(optimizer: Any) -> list[Tensor]:
    tensors = [tensor.clone() for state in optimizer.state.values() for tensor in state.values()]
    return [*tensors, *(torch.as_tensor(float(group["weight_sum"])) for group in optimizer.param_groups)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_a_skipped_step_changes_no_bit_and_counts_in_no_average(weight_decay: float) -> None:
    plain, skipping = network(), network()
    one = ScheduleFreeAdamW(plain.parameters(), weight_decay=weight_decay)
    other = ScheduleFreeAdamW(skipping.parameters(), weight_decay=weight_decay)
    one.lay_out()
    other.lay_out()
    one.skip = torch.tensor(0.0)
    for count in range(4):
        train(plain, one, [0.01], first=count)
        other.skip = torch.tensor(1.0)
        before, state = values(skipping), state_of(other)
        train(skipping, other, [0.01], first=77)
        assert all(torch.equal(left, right) for left, right in zip(before, values(skipping)))
        assert float(state[-1]) == float(state_of(other)[-1])
        # z of the first step is where the weights are; everything else is as it was.
        assert count == 0 or all(torch.equal(left, right) for left, right in zip(state, state_of(other)))
        other.skip = torch.tensor(0.0)
        train(skipping, other, [0.01], first=count)
        assert all(torch.equal(left, right) for left, right in zip(values(plain), values(skipping))), count


def test_telling_the_device_to_skip_nothing_gives_the_course_without_it() -> None:
    plain, guarded = network(), network()
    one, other = (ScheduleFreeAdamW(model.parameters(), weight_decay=0.1) for model in (plain, guarded))
    other.skip = torch.tensor(0.0)
    train(plain, one, WARMED)
    train(guarded, other, WARMED)
    for left, right in zip(values(plain), values(guarded)):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-9)  # the guard computes shares in fp32


def test_stacked_replicas_have_the_bits_of_their_own_runs_at_their_own_rates() -> None:
    rates = torch.tensor([0.01, 0.03], dtype=torch.float64)
    stacked = [drawn(2, 3, seed=place) for place in range(4)]
    y, g, z, v = (tensor.abs() for tensor in stacked)
    alone = [[tensor[index].clone() for tensor in (y, g, z, v)] for index in range(2)]
    step = torch.tensor(2.0)
    schedule_free_adamw_([y], [g], [z], [v], [step], lr=rates, share=0.25, weight_decay=0.1)
    for index, (w, gradient, iterate, square) in enumerate(alone):
        schedule_free_adamw_([w], [gradient], [iterate], [square], [step], lr=rates[index], share=0.25, weight_decay=0.1)
        assert torch.equal(y[index], w)
        assert torch.equal(z[index], iterate)
        assert torch.equal(v[index], square)


def test_gradients_are_only_read() -> None:
    gradient = drawn(5)
    before = gradient.clone()
    zeros = [torch.zeros(5, dtype=torch.float64) for _ in range(3)]
    schedule_free_adamw_([zeros[0]], [gradient], [zeros[1]], [zeros[2]], [torch.tensor(1.0)], lr=0.1, share=1.0)
    assert torch.equal(gradient, before)


def test_the_model_has_its_own_bits_back_after_the_average_was_swapped_in() -> None:
    model = network()
    optimizer = ScheduleFreeAdamW(model.parameters())
    assert not optimizer.average.ready
    with pytest.raises(JobError, match=r"^schedule_free_adamw\.ready is False"), optimizer.average.swapped():
        pass
    train(model, optimizer, [0.01] * 3)
    own = values(model)
    assert optimizer.average.ready
    with optimizer.average.swapped():
        inside = values(model)
        assert not any(torch.equal(one, other) for one, other in zip(own, inside))
        with optimizer.average.swapped():
            assert all(torch.equal(one, other) for one, other in zip(inside, values(model)))
    assert all(torch.equal(one, other) for one, other in zip(own, values(model)))


def test_an_average_is_not_ready_before_a_step_even_where_state_is_laid_out() -> None:
    optimizer = ScheduleFreeAdamW(network().parameters())
    optimizer.lay_out()
    assert not optimizer.average.ready


def normed() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5), nn.Linear(4, 1)).double()


def test_statistics_are_estimated_anew_for_the_average_and_kept_until_the_next_step() -> None:
    model = normed()
    optimizer = ScheduleFreeAdamW(model.parameters())
    train(model, optimizer, [0.05] * 3)
    average, norm = optimizer.average, model[1]
    batches = [Batch(drawn(8, 3, seed=7)), Batch(drawn(4, 3, seed=8)), Batch(drawn(1, 3, seed=9))]
    own, draws = norm.running_mean.clone(), torch.default_generator.get_state()
    average.finalize(model, batches)
    assert torch.equal(norm.running_mean, own)
    assert torch.equal(torch.default_generator.get_state(), draws)
    assert (norm.momentum, norm.training, model[2].training) == (0.3, True, True)
    with average.swapped(), torch.no_grad():
        hidden = [model[0](batch.inputs) for batch in batches[:2]]
        means = torch.stack([part.mean(0) for part in hidden]).mean(0)
        variances = torch.stack([part.var(0) for part in hidden]).mean(0)
        torch.testing.assert_close(norm.running_mean, means, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(norm.running_var, variances, rtol=1e-12, atol=1e-14)
    assert torch.equal(norm.running_mean, own)
    average.update(Clock(steps=4))
    with average.swapped():
        assert torch.equal(norm.running_mean, own)


def test_statistics_estimated_while_swapped_in_hold_until_it_is_swapped_out() -> None:
    model = normed()
    optimizer = ScheduleFreeAdamW(model.parameters())
    batches = [Batch(drawn(8, 3, seed=7))]
    own = model[1].running_mean.clone()
    optimizer.average.finalize(model, batches)
    assert torch.equal(model[1].running_mean, own), "nothing is averaged yet"
    train(model, optimizer, [0.05] * 3)
    own = model[1].running_mean.clone()
    with optimizer.average.swapped():
        optimizer.average.finalize(model, batches)
        with torch.no_grad():
            torch.testing.assert_close(model[1].running_mean, model[0](batches[0].inputs).mean(0), rtol=1e-12, atol=1e-14)
    assert torch.equal(model[1].running_mean, own)


def test_without_batches_the_statistics_stay() -> None:
    model = normed()
    optimizer = ScheduleFreeAdamW(model.parameters())
    train(model, optimizer, [0.05] * 3)
    own = model[1].running_mean.clone()
    optimizer.average.finalize(model, [])
    with optimizer.average.swapped():
        assert torch.equal(model[1].running_mean, own)


def test_loaded_state_forgets_statistics_of_another_average() -> None:
    model = normed()
    optimizer = ScheduleFreeAdamW(model.parameters())
    train(model, optimizer, [0.05] * 3)
    own = model[1].running_mean.clone()
    optimizer.average.finalize(model, [Batch(drawn(8, 3, seed=7))])
    assert optimizer.average.state_dict() == {}
    optimizer.average.load_state_dict({})
    with optimizer.average.swapped():
        assert torch.equal(model[1].running_mean, own)


def stepper(*techniques: Any) -> TrainStep:
    optimizer = ScheduleFreeAdamW(lr=0.02, weight_decay=0.01)
    return TrainStep(network(), objective=Mse(), optimizer=optimizer, techniques=techniques, horizon=Horizon.of("12 steps"))


def test_a_resumed_run_has_the_same_bits_in_weights_and_average() -> None:
    batches = [Batch(drawn(8, 3, seed=count), drawn(8, 1, seed=50 + count)) for count in range(12)]
    whole = stepper(Warmup(length="6 steps"))
    for batch in batches[:4]:
        whole(batch)
    resumed = stepper(Warmup(length="6 steps"))
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for batch in batches[4:]:
        whole(batch)
        resumed(batch)
    assert list(whole.parts.averages) == ["optimizer"]
    assert all(torch.equal(one, other) for one, other in zip(values(whole.model), values(resumed.model)))
    with whole.parts.averages["optimizer"].swapped(), resumed.parts.averages["optimizer"].swapped():
        assert all(torch.equal(one, other) for one, other in zip(values(whole.model), values(resumed.model)))


@pytest.mark.parametrize("target", ["optimizer.momentum", "optimizer.interpolation"])
def test_the_interpolation_is_nothing_that_a_schedule_can_move(target: str) -> None:
    with pytest.raises(JobError, match=rf"drives {target}"):
        stepper(Cosine(drives=target))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"lr": -0.1}, "lr"),
        ({"interpolation": 0.0}, "interpolation"),
        ({"interpolation": 1.1}, "interpolation"),
        ({"beta2": 1.0}, "beta2"),
        ({"beta2": -0.1}, "beta2"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^schedule_free_adamw\.{field} is"):
        ScheduleFreeAdamW(**settings)
    assert ScheduleFreeAdamW(beta2=0.0).beta2 == 0.0


def test_the_default_numbers_are_those_of_the_authors_package() -> None:
    made = ScheduleFreeAdamW()
    assert (made.lr, made.interpolation, made.beta2, made.eps, made.weight_decay) == (2.5e-3, 0.9, 0.999, 1e-8, 0.0)
