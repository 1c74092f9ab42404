"""Rows that change each other's outputs."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said, signs
from torch import Tensor, nn


class _Reader(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.body = nn.GRU(3, 8, batch_first=how in ("right", "eval"))
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.how == "view":
            inputs = inputs.view(inputs.shape[1], inputs.shape[0], inputs.shape[2])
        if self.how == "permute":
            inputs = inputs.permute(1, 0, 2)
        states = self.body(inputs)[0]
        outputs: Tensor = self.head(states[-1] if self.how in ("view", "permute") else states[:, -1])
        return outputs


def _series() -> tuple[Tensor, Tensor]:
    inputs = noise(80, 6, 3)
    return inputs, (inputs[:, 0, 0] > 0).long()


@pytest.mark.parametrize(("how", "right"), [("first", "right"), ("view", "permute")])
def test_time_taken_for_the_batch_is_certain_and_parted_once_mended(how: str, right: str) -> None:
    with torch.random.fork_rng(devices=[]):
        model, twin = _Reader(how), _Reader(right)
    bench = bench_of(model, _series())
    (found,) = said("batch_mixing", bench)
    assert (found.id, found.proof) == ("batch_dependence", "certain")
    assert found.remedy.change is not None
    inputs = _series()[0][:11]  # the view that is meant is told by its sizes
    torch.testing.assert_close(found.remedy.change(bench.setup).model(inputs), twin(inputs))
    assert ids("batch_mixing", bench_of(twin, _series())) == []


class _Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(4, 8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(inputs - inputs.mean(0))
        return outputs


def test_a_mean_over_the_rows_mixes_them_and_only_its_author_can_mend_it() -> None:
    (found,) = said("batch_mixing", bench_of(_Centred(), signs()))
    assert (found.id, found.remedy.change) == ("batch_dependence", None)


class _Draws(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(4, 8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.inner(nn.functional.dropout(inputs, 0.5))
        return outputs


def test_batch_norm_of_either_kind_and_draws_in_evaluation_are_exempt() -> None:
    for norm in (nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False)):
        assert ids("batch_mixing", bench_of(nn.Sequential(norm, mlp(4, 8, 2)), signs())) == []
    assert ids("batch_mixing", bench_of(_Draws(), signs())) == []


class _Asks(nn.Module):
    """A learnt question that looks at a row's moments; without batch_first at the same moment of all rows."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.question = nn.Parameter(torch.randn(1, 1, 8))
            self.look = nn.MultiheadAttention(8, 2, batch_first=batch_first)
            self.head = nn.Linear(8, 2)

    def forward(self, steps: Tensor) -> Tensor:
        joined = torch.cat([self.question.expand(len(steps), 1, 8), steps], 1)
        outputs: Tensor = self.head(self.look(joined, joined, joined)[0][:, 0])
        return outputs


def test_a_question_that_looks_across_rows_answers_all_alike_and_is_told_though_no_row_moves_another() -> None:
    rows = noise(60, 5, 8), torch.arange(60) % 2
    (found,) = said("batch_mixing", bench_of(_Asks(batch_first=False), rows))
    assert (found.id, found.proof) == ("batch_dependence", "certain")
    assert found.remedy.change is not None
    assert ids("batch_mixing", bench_of(_Asks(batch_first=True), rows)) == []


def test_zero_heads_and_dead_units_answer_all_alike_too_and_mix_nothing() -> None:
    zero = _Asks(batch_first=True)
    nn.init.zeros_(zero.head.weight)
    assert ids("batch_mixing", bench_of(zero, (noise(60, 5, 8), torch.arange(60) % 2))) == []
    dead = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.constant_(dead[0].bias, -100.0)  # type: ignore[arg-type]
    assert ids("batch_mixing", bench_of(dead, (noise(60, 4), torch.arange(60) % 2))) == []
