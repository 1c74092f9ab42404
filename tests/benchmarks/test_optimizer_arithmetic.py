"""What the optimizers' figures are made of: bytes, ratios per byte, sizes of tensors."""

from __future__ import annotations

import pytest
import torch

from benchmarks import optimizers


def test_bytes_are_weights_twice_gradients_once_and_every_buffer_twice() -> None:
    found = {each.name: (each.num_bytes, each.second_pass) for each in optimizers.contestants()}
    # w read and written, g read; SGD's buffer, Adam's two moments, read and written: 4 bytes each.
    assert found["sgd"] == (8 + 4 + 8, 0)
    assert found["adamw"] == (8 + 4 + 16, 0)
    assert found["lion"] == found["rmsprop"] == found["adagrad"] == (20, 0)
    assert found["lars"] == (20, 8)
    assert found["lamb"] == (28, 12)


def test_every_contestant_keeps_as_many_buffers_as_it_is_charged_for() -> None:
    for each in optimizers.contestants():
        weight = torch.nn.Parameter(torch.ones(3, 3))
        optimizer = each.build([weight])
        weight.grad = torch.ones(3, 3)
        optimizer.step()
        held = [name for name, value in optimizer.state[weight].items() if value.numel() == 9]
        assert len(held) == each.num_buffers, each.name


def test_a_ratio_compares_time_per_byte_within_a_round() -> None:
    row = optimizers.Row("x", 1000, 14, 0, ours=(1.0, 3.0, 2.0), fused=(2.0, 2.0, 8.0), foreach=16.0)
    # 1/14 over 2/28, 3/14 over 2/28, 2/14 over 8/28.
    assert row.ratio.median == pytest.approx(1.0)
    assert (row.ratio.lower, row.ratio.upper) == pytest.approx((0.75, 2.0))
    assert row.ratio_of_minima == pytest.approx(1.0)
    assert row.over_foreach == pytest.approx(1 / 8)


def test_the_second_pass_is_a_column_of_its_own_and_no_part_of_the_bar() -> None:
    row = optimizers.Row("x", 1000, 20, 8, ours=(20.0,), fused=(14.0,), foreach=28.0)
    assert row.ratio.median == pytest.approx(2.0)
    assert row.line.split()[-2:] == [f"{2.0 * 20 / 28:.2f}", "1.00"]
    (bar,) = optimizers.bars([row])
    assert (bar.value, bar.limit, bar.verdict) == (pytest.approx(2.0), 1.15, "not met")


@pytest.mark.parametrize("num_parameters", [1_000_000, 20_000_000])
def test_the_model_has_the_size_it_is_said_to_have_and_tensors_large_and_small(num_parameters: int) -> None:
    sizes = [torch.Size(shape).numel() for shape in optimizers.shapes(num_parameters)]
    assert sum(sizes) == num_parameters
    assert 70 <= len(sizes) <= 80
    assert max(sizes) < num_parameters / 8
    assert sum(size <= 8192 for size in sizes) > 40


def test_measuring_gives_a_row_with_as_many_readings_as_rounds() -> None:
    which = [each for each in optimizers.contestants() if each.name in ("lion", "lars")]
    rows = list(optimizers.measure(which, 20_000, 2))
    assert [row.name for row in rows] == ["lion", "lars"]
    assert all(len(row.ours) == len(row.fused) == 2 and min(row.ours) > 0 for row in rows)
