"""EMA against sums by hand, in any memory layout, through swaps and restores."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError
from stepwell.techniques.average.ema import Ema, EmaAverage, decay_of


class Net(nn.Module):
    """Two layers, batch norm, a tied weight, a constant mask and a buffer that isn't saved."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first = nn.Linear(5, 3, dtype=dtype)
        self.norm = nn.BatchNorm1d(3, dtype=dtype)
        self.last = nn.Linear(3, 3, dtype=dtype)
        self.tied = self.last
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def train(model: nn.Module, step: int) -> None:
    """Stands for an optimizer step: every parameter and buffer takes new values, a function of the step."""
    draw = torch.Generator().manual_seed(step)
    for tensor in model.parameters():
        tensor.data.copy_(torch.randn(tensor.shape, generator=draw, dtype=torch.float64))
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=draw, dtype=torch.float64))
        if "tracked" in name:
            buffer.fill_(step)


def run(model: nn.Module, average: EmaAverage, first: int, last: int) -> None:
    for step in range(first, last + 1):
        train(model, step)
        average.update(Clock(steps=step))


def by_hand(first: int, last: int, decay: float, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """The average as a plain recursion over full copies, the first one copied."""
    model = Net(dtype)
    expected: dict[str, Tensor] = {}
    for step in range(first, last + 1):
        train(model, step)
        keep = min(decay, (1 + step - first) / (10 + step - first)) if expected else 0.0
        for name, value in model.state_dict().items():
            if value.is_floating_point() and name != "mask":
                expected[name] = keep * expected[name] + (1 - keep) * value if expected.get(name) is not None else value.clone()
    return expected


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.999])
def test_the_average_is_the_warmed_recursion_over_all_parameters_and_float_buffers(decay: float) -> None:
    model = Net(torch.float64)
    average = Ema(decay=decay)(model)
    run(model, average, 1, 30)
    for name, value in by_hand(1, 30, decay).items():
        if not name.startswith("tied"):
            torch.testing.assert_close(average.tensors[name], value, rtol=1e-12, atol=1e-13)


def test_a_half_life_in_percent_halves_a_share_in_that_part_of_the_run() -> None:
    average = Ema(half_life="5%")(Net(), Horizon.of("400 steps"))
    assert average.decay**20 == pytest.approx(0.5, rel=1e-12)


def test_a_decay_of_0_999_is_a_half_life_of_693_steps() -> None:
    assert decay_of(math.log(0.5) / math.log(0.999)) == pytest.approx(0.999, rel=1e-12)
    assert round(math.log(0.5) / math.log(0.999)) == 693


def test_the_random_initialisation_has_no_share_in_a_short_run() -> None:
    models = [Net(), Net()]
    nn.init.constant_(models[1].first.weight, 1e6)
    averages = [Ema(model, decay=0.999) for model in models]
    for model, average in zip(models, averages):
        run(model, average, 1, 3)
    assert torch.equal(averages[0].tensors["first.weight"], averages[1].tensors["first.weight"])


def lay_out_flat(model: nn.Module) -> list[Tensor]:
    """Parameters as views of one buffer per kind, padded to 16 elements each; the padding holds NaN."""
    buffers = []
    for ndim in (1, 2):
        chosen = [p for p in model.parameters() if p.ndim == ndim]
        buffer = torch.full((sum(-(-p.numel() // 16) * 16 for p in chosen),), math.nan)
        start = 0
        for parameter in chosen:
            view = buffer[start : start + parameter.numel()].view(parameter.shape)
            parameter.data = view.copy_(parameter.data)
            start += -(-parameter.numel() // 16) * 16
        buffers.append(buffer)
    return buffers


@pytest.mark.parametrize("when", ["before", "between"])
def test_flat_memory_gives_the_bits_of_ordinary_parameters(when: str) -> None:
    plain, flat = Net(), Net()
    buffers = lay_out_flat(flat) if when == "before" else []
    averages = [Ema(decay=0.9)(plain), Ema(decay=0.9)(flat)]
    run(plain, averages[0], 1, 10)
    run(flat, averages[1], 1, 10)
    if when == "between":
        buffers = lay_out_flat(flat)
    run(plain, averages[0], 11, 25)
    run(flat, averages[1], 11, 25)
    assert all(math.isnan(buffer[-1]) for buffer in buffers)
    for name, value in averages[0].tensors.items():
        assert torch.equal(averages[1].tensors[name], value), name
    assert len(averages[1]._spans) < len(averages[0]._spans)


class Pair(nn.Module):
    """Two weights in one buffer, with so many elements before, between and none behind them."""

    def __init__(self, before: int, between: int) -> None:
        super().__init__()
        self.buffer_of_both = torch.full((before + 6 + between + 4,), math.nan)
        self.first = nn.Parameter(self.buffer_of_both[before : before + 6].view(2, 3))
        self.second = nn.Parameter(self.buffer_of_both[before + 6 + between :].view(4))


@pytest.mark.parametrize(("before", "between", "num_spans"), [(0, 0, 1), (32, 0, 1), (32, 10, 1), (32, 15, 1), (32, 16, 2)])
def test_weights_less_than_16_elements_apart_are_averaged_in_one_go_wherever_they_begin(
    before: int, between: int, num_spans: int
) -> None:
    model = Pair(before, between)
    nn.init.constant_(model.first, 0.0), nn.init.constant_(model.second, 0.0)
    average = Ema(decay=0.5)(model)
    for first, second in ((4.0, -1.0), (8.0, -12.0)):
        nn.init.constant_(model.first, first), nn.init.constant_(model.second, second)
        average.update()
    assert len(average._spans) == num_spans
    torch.testing.assert_close(average.tensors["first"], torch.full((2, 3), 2 / 11 * 4 + 9 / 11 * 8))
    torch.testing.assert_close(average.tensors["second"], torch.full((4,), 2 / 11 * -1 + 9 / 11 * -12))


def test_a_weight_that_is_a_single_number_is_averaged() -> None:
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    average = Ema(decay=0.5)(model)
    for value in (4.0, 8.0):
        nn.init.constant_(model.scale, value)
        average.update()
    assert average.tensors["scale"].item() == pytest.approx(2 / 11 * 4 + 9 / 11 * 8)


def test_the_first_update_copies_even_where_the_difference_is_beyond_float32() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3e38)
    average = Ema(decay=0.9)(model)
    nn.init.constant_(model.weight, -3e38)
    average.update()
    assert torch.equal(average.tensors["weight"], model.weight)


def test_averaging_starts_with_the_first_step_when_no_start_is_given() -> None:
    average = EmaAverage(nn.Linear(1, 1), decay=0.5)
    average.update(Clock(steps=1))
    assert average.ready


def test_swapping_leaves_padding_and_neighbours_in_a_flat_buffer_alone() -> None:
    model = Net()
    buffers = lay_out_flat(model)
    average = Ema(decay=0.9)(model)
    run(model, average, 1, 5)
    before = [buffer.clone() for buffer in buffers]
    with average.swapped():
        pass
    for buffer, old in zip(buffers, before):
        assert torch.equal(buffer.view(torch.int32), old.view(torch.int32))


def test_swapped_holds_the_average_and_then_the_own_weights_to_the_bit() -> None:
    model = Net()
    average = Ema(decay=0.9)(model)
    run(model, average, 1, 12)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.swapped():
        for name, value in average.tensors.items():
            assert torch.equal(model.state_dict()[name], value), name
        assert not torch.equal(model.first.weight, own["first.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name]), name


def test_an_error_inside_swapped_still_gives_the_own_weights_back() -> None:
    model = Net()
    average = Ema(decay=0.9)(model)
    run(model, average, 1, 4)
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def broken_evaluation() -> None:
        with average.swapped():
            raise KeyError("in the evaluation")

    with pytest.raises(KeyError):
        broken_evaluation()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    run(model, average, 5, 6)
    assert average.num_updates == 6


def test_it_is_ready_only_after_its_first_update_and_refuses_a_swap_before() -> None:
    model = Net()
    average = Ema(decay=0.9, start="2 steps")(model)
    for step in (1, 2):
        average.update(Clock(steps=step))
        assert not average.ready
    with pytest.raises(JobError, match=r"ema\.ready"), average.swapped():
        pass
    average.update(Clock(steps=3))
    assert average.ready


def test_a_late_start_averages_only_what_comes_after_it() -> None:
    model, late = Net(torch.float64), by_hand(6, 20, 0.9)
    average = Ema(decay=0.9, start="5 steps")(model)
    run(model, average, 1, 20)
    torch.testing.assert_close(average.tensors["last.bias"], late["last.bias"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("technique", [Ema(half_life="0 steps"), Ema(decay=0.0)])
def test_without_memory_the_average_is_the_weights_to_the_bit(technique: Ema) -> None:
    model = Net()
    average = technique(model)
    run(model, average, 1, 5)
    for name, value in model.state_dict().items():
        if not name.startswith("tied"):
            assert torch.equal(average.tensors[name], value), name


def test_integer_buffers_and_masks_are_copied_and_unsaved_buffers_left_out() -> None:
    model = Net()
    average = Ema(decay=0.9)(model)
    run(model, average, 1, 7)
    assert average.tensors["norm.num_batches_tracked"].item() == 7
    assert average.tensors["mask"].tolist() == [0.0, -math.inf]
    assert "scratch" not in average.tensors


def test_names_and_shapes_are_those_of_the_model() -> None:
    model = Net()
    lay_out_flat(model)
    tensors = Ema(decay=0.9)(model).state_dict()["tensors"]
    own = {name: value.shape for name, value in model.state_dict().items() if not name.startswith("tied")}
    assert {name: value.shape for name, value in tensors.items()} == own
    assert len({value.untyped_storage().data_ptr() for value in tensors.values()}) == len(tensors)


def test_a_restored_average_goes_on_with_the_bits_of_the_uninterrupted_one() -> None:
    whole_model = Net()
    whole = Ema(decay=0.9)(whole_model)
    run(whole_model, whole, 1, 20)
    model = Net()
    first = Ema(decay=0.9)(model)
    run(model, first, 1, 9)
    second = Ema(decay=0.9)(model)
    second.load_state_dict(first.state_dict())
    run(model, first, 10, 11)  # a snapshot, not a window: this must not reach the second
    run(model, second, 10, 20)
    assert second.num_updates == whole.num_updates
    assert all(torch.equal(second.tensors[name], value) for name, value in whole.tensors.items())


def test_a_state_of_another_model_is_refused() -> None:
    state = Ema(decay=0.9)(Net()).state_dict()
    with pytest.raises(JobError, match=r"doesn't fit the model at bias, first\.bias"):
        Ema(decay=0.9)(nn.Linear(2, 2)).load_state_dict(state)


def test_bfloat16_weights_are_averaged_in_float32_and_delivered_in_bfloat16() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    average = Ema(decay=0.999)(model)
    for step in range(1, 3):
        nn.init.constant_(model.weight, 1.0)
        average.update(Clock(steps=step))
    nn.init.constant_(model.weight, 1.0078125)  # one bfloat16 step above 1: 1/4 of it is no bfloat16 number
    average.update(Clock(steps=3))
    # 3 of 12 parts are kept at the third update.
    assert average.tensors["weight"].item() == pytest.approx(1 + 0.75 * 0.0078125, rel=1e-6)
    with average.swapped():
        assert model.weight.dtype == torch.bfloat16


def test_a_replaced_buffer_and_a_model_moved_in_memory_are_followed() -> None:
    model = nn.BatchNorm1d(2)
    average = Ema(decay=0.0)(model)
    model.running_mean = torch.tensor([5.0, 6.0])
    model.weight.data = torch.tensor([7.0, 8.0])
    average.update(Clock(steps=1))
    assert average.tensors["running_mean"].tolist() == [5.0, 6.0]
    assert average.tensors["weight"].tolist() == [7.0, 8.0]


def test_channels_last_weights_keep_their_values() -> None:
    model = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Ema(decay=0.9)(model)
    run(model, average, 1, 1)
    assert torch.equal(average.tensors["weight"], model.weight)


def test_without_a_clock_every_call_is_a_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Ema(model, decay=0.5, start="1 steps")
    for value in (100.0, 4.0, 8.0):
        nn.init.constant_(model.weight, value)
        average.update()
    assert average.num_updates == 2
    assert average.tensors["weight"].item() == pytest.approx(2 / 11 * 4 + 9 / 11 * 8, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"decay": 1.0}, "decay"),
        ({"decay": -0.1}, "decay"),
        ({"decay": 0.9, "half_life": "10 steps"}, "half_life"),
        ({"half_life": "5"}, "half_life"),
        ({"start": 3}, "start"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"ema\.{field}"):
        Ema(**settings)  # type: ignore[arg-type]


def test_a_share_of_the_run_outside_a_run_is_refused() -> None:
    with pytest.raises(JobError, match=r"ema\.half_life is 5% outside a planned run"):
        Ema()(nn.Linear(1, 1))
