"""SWA against plain means, torch's AveragedModel and torch's update_bn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from stepwell.core.batch import Batch
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.core.randomness import seeded_defaults
from stepwell.techniques.average.swa import Swa, SwaAverage, estimate_batch_norm_


def network(*extra: nn.Module) -> nn.Sequential:
    with seeded_defaults(5):
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.3), nn.ReLU(), *extra, nn.Linear(6, 2)).double()


def batches(sizes: list[int]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(2)
    return [torch.randn(size, 4, generator=draw, dtype=torch.float64) for size in sizes]


def train(model: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    for name, buffer in model.named_buffers():
        tracked = "tracked" in name
        buffer.copy_(torch.tensor(step) if tracked else torch.rand(buffer.shape, generator=draw, dtype=torch.float64))


def run(model: nn.Module, average: SwaAverage, first: int, last: int) -> None:
    for step in range(first, last + 1):
        train(model, step)
        average.update(Clock(steps=step))


def test_the_mean_equals_torch_averaged_model() -> None:
    model = network()
    oracle = AveragedModel(model, use_buffers=False)
    average = Swa(start="4 steps", every="3 steps")(model)
    for step in range(1, 15):
        train(model, step)
        average.update(Clock(steps=step))
        if step in (4, 7, 10, 13):
            oracle.update_parameters(model)
    assert average.num_updates == 4
    for name, parameter in oracle.module.named_parameters():
        torch.testing.assert_close(average.tensors[name], parameter.detach(), rtol=1e-12, atol=1e-13)


def test_the_last_quarter_every_tenth_of_100_steps_collects_at_75_85_and_95() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = Swa(start="75%", every="10%")(model, Horizon.of("100 steps"))
    for step in range(1, 101):
        nn.init.constant_(model.weight, step)
        average.update(Clock(steps=step))
    assert average.tensors["weight"].item() == 85.0
    assert average.num_updates == 3


def test_collecting_once_an_epoch_counts_the_steps_of_an_epoch() -> None:
    average = Swa(start="2 epochs", every="1 epochs")(nn.Linear(1, 1), Horizon.of("4 epochs", steps_per_epoch=7))
    collected = []
    for step in range(1, 29):
        before = average.num_updates
        average.update(Clock(steps=step))
        if average.num_updates > before:
            collected.append(step)
    assert collected == [14, 21, 28]


def test_finalize_equals_torch_update_bn_on_the_averaged_model() -> None:
    model = network()
    data = batches([16, 16, 5])
    average = Swa(start="1 steps", every="1 steps")(model)
    oracle = AveragedModel(model)
    for step in range(1, 5):
        train(model, step)
        average.update(Clock(steps=step))
        oracle.update_parameters(model)
    update_bn(data, oracle)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    average.finalize(model, [Batch(part) for part in data])
    with average.swapped():
        for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
            torch.testing.assert_close(model.state_dict()[name], oracle.module.state_dict()[name], rtol=1e-12, atol=1e-13)
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_finalize_inside_swapped_gives_the_same_average_and_restores_the_model() -> None:
    models = [network(), network()]
    averages = [Swa(start="1 steps", every="1 steps")(model) for model in models]
    for model, average in zip(models, averages):
        run(model, average, 1, 3)
    parts = [Batch(part) for part in batches([8, 8])]
    own = {name: value.clone() for name, value in models[1].state_dict().items()}
    averages[0].finalize(models[0], parts)
    with averages[1].swapped():
        averages[1].finalize(models[1], parts)
        inside = {name: value.clone() for name, value in models[1].state_dict().items()}
    with averages[0].swapped():
        assert all(torch.equal(value, inside[name]) for name, value in models[0].state_dict().items())
    assert all(torch.equal(value, own[name]) for name, value in models[1].state_dict().items())


def test_finalizing_in_the_middle_of_a_run_changes_nothing_that_is_saved() -> None:
    models = [network(), network()]
    averages = [Swa(start="1 steps", every="1 steps")(model) for model in models]
    for model, average in zip(models, averages):
        run(model, average, 1, 3)
    averages[0].finalize(models[0], [Batch(part) for part in batches([8, 8])])
    for model, average in zip(models, averages):
        run(model, average, 4, 5)
    saved = [average.state_dict()["tensors"] for average in averages]
    assert all(torch.equal(value, saved[1][name]) for name, value in saved[0].items())


def test_statistics_are_the_mean_over_batches_of_their_own_statistics_by_hand() -> None:
    norm = nn.BatchNorm1d(1, dtype=torch.float64)
    parts = [Batch(torch.tensor([[0.0], [2.0]]).double()), Batch(torch.tensor([[4.0], [10.0]]).double())]
    estimate_batch_norm_(norm, parts)
    # means 1 and 7; unbiased variances 2 and 18.
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert (norm.running_mean.item(), norm.running_var.item()) == (4.0, 10.0)


def test_estimating_restores_modes_and_momentum_draws_nothing_and_leaves_no_gradient() -> None:
    model = network(nn.Dropout(0.5))
    model.train()
    model[3].eval()
    before = torch.default_generator.get_state()
    estimate_batch_norm_(model, [Batch(part) for part in batches([8, 8])])
    assert torch.equal(torch.default_generator.get_state(), before)
    assert [module.training for module in model] == [True, True, True, False, True]
    assert model[1].momentum == 0.3
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_error_while_estimating_still_restores_modes_and_momentum() -> None:
    model = network()
    model.eval()
    with pytest.raises(RuntimeError):
        estimate_batch_norm_(model, [Batch(torch.zeros(3, 9, dtype=torch.float64))])
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.3


def test_dropout_is_off_while_statistics_are_estimated() -> None:
    parts = [Batch(part) for part in batches([8, 8])]
    plain = nn.Sequential(nn.BatchNorm1d(4)).double()
    dropped = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4)).double()
    estimate_batch_norm_(plain, parts)
    estimate_batch_norm_(dropped, parts)
    assert torch.equal(plain[0].running_var, dropped[1].running_var)  # type: ignore[arg-type]


def test_no_batches_or_no_batch_norm_change_nothing() -> None:
    model = network()
    train(model, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    estimate_batch_norm_(model, [])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    consumed = iter([Batch(torch.zeros(1, 2))])
    estimate_batch_norm_(nn.Linear(2, 2), consumed)
    assert next(consumed, None) is not None


def test_a_last_batch_of_one_sample_is_passed_over() -> None:
    models = [network(), network()]
    parts = [Batch(part) for part in batches([8, 8, 1])]
    estimate_batch_norm_(models[0], parts)
    estimate_batch_norm_(models[1], parts[:2])
    assert torch.equal(models[0][1].running_mean, models[1][1].running_mean)


def test_swapped_restores_the_bits_after_an_error_too() -> None:
    model = network()
    average = Swa(start="1 steps", every="1 steps")(model)
    run(model, average, 1, 3)
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def broken_evaluation() -> None:
        with average.swapped():
            assert torch.equal(model[0].weight, average.tensors["0.weight"])
            raise KeyError("in the evaluation")

    with pytest.raises(KeyError):
        broken_evaluation()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_it_is_not_ready_before_its_start_and_refuses_a_swap() -> None:
    model = network()
    average = Swa(start="3 steps", every="1 steps")(model)
    run(model, average, 1, 2)
    assert not average.ready
    with pytest.raises(JobError, match=r"swa\.ready"), average.swapped():
        pass
    run(model, average, 3, 3)
    assert average.ready


def test_a_restored_average_goes_on_with_the_bits_of_the_uninterrupted_one() -> None:
    technique = Swa(start="2 steps", every="2 steps")
    model = network()
    whole = technique(model)
    run(model, whole, 1, 10)
    first = technique(model)
    run(model, first, 1, 5)
    second = technique(model)
    second.load_state_dict(first.state_dict())
    run(model, first, 6, 6)
    run(model, second, 6, 10)
    assert all(torch.equal(second.tensors[name], value) for name, value in whole.tensors.items())


def test_a_state_of_another_model_is_refused() -> None:
    state = Swa(start="1 steps", every="1 steps")(network()).state_dict()
    with pytest.raises(JobError, match="doesn't fit the model"):
        Swa(start="1 steps", every="1 steps")(nn.Linear(2, 2)).load_state_dict(state)


def test_a_mask_with_infinite_entries_is_copied() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    average = Swa(model, start="1 steps", every="1 steps")
    for _ in range(3):
        average.update()
    assert average.tensors["mask"].tolist() == [0.0, -math.inf]


@pytest.mark.parametrize(
    ("settings", "field"), [({"every": "0 steps"}, "every"), ({"every": "x"}, "every"), ({"start": 5}, "start")]
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"swa\.{field}"):
        Swa(**settings)  # type: ignore[arg-type]


def test_statistics_that_are_held_are_not_estimated_anew() -> None:
    from stepwell.core.modules.freezing import allow_holding, hold_statistics, set_held

    norms = [nn.BatchNorm1d(1) for _ in range(3)]
    for norm in norms:
        norm.running_mean.fill_(7.0)
    hold_statistics(norms[:1])
    allow_holding(norms[1])
    set_held(norms[1], True)
    estimate_batch_norm_(nn.Sequential(*norms), [Batch(torch.tensor([[1.0], [3.0]])), Batch(torch.tensor([[5.0], [7.0]]))])
    assert [norm.running_mean.item() == 7.0 for norm in norms] == [True, True, False]
