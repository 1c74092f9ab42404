"""States that are cut from the moments before them."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, noise, said
from torch import Tensor, nn


class _Steps(nn.Module):
    """A cell stepped through time by hand; `cut` is done to its state at each step."""

    def __init__(self, how: str, *, tokens: bool = False) -> None:
        super().__init__()
        self.how = how
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.words = nn.Embedding(9, 3) if tokens else None
            self.cell, self.head = nn.GRUCell(3, 8), nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        steps = inputs if self.words is None else self.words(inputs)
        state = torch.zeros(len(steps), 8)
        for moment in range(steps.shape[1]):
            if self.how == "only the last" and moment < steps.shape[1] - 1:
                continue
            if self.how == "no_grad":
                with torch.no_grad():
                    state = self.cell(steps[:, moment], state)
                if moment == steps.shape[1] - 1:
                    state = self.cell(steps[:, moment], state)
                continue
            state = self.cell(steps[:, moment], state.detach() if self.how == "detach" else state)
        outputs: Tensor = self.head(state)
        return outputs


def _rows(*, tokens: bool = False) -> tuple[Tensor, Tensor]:
    steps = torch.randint(9, (80, 6), generator=torch.Generator().manual_seed(0)) if tokens else noise(80, 6, 3)
    return steps, torch.arange(80) % 2


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("how", ["detach", "no_grad"])
def test_a_state_cut_at_each_step_is_told_and_its_first_moments_get_a_gradient_once_mended(how: str, *, tokens: bool) -> None:
    bench = bench_of(_Steps(how, tokens=tokens), _rows(tokens=tokens))
    (found,) = said("cut_moments", bench)
    assert (found.id, found.proof) == ("detached_graph", "mechanism")
    assert (found.evidence["num_moments"], found.evidence["num_cut"]) == (6, 5)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert ids("cut_moments", bench_of(mended.model, _rows(tokens=tokens))) == []


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("how", ["whole", "only the last"])
def test_whole_ways_and_models_that_look_at_the_last_moment_alone_are_healthy(how: str, *, tokens: bool) -> None:
    assert ids("cut_moments", bench_of(_Steps(how, tokens=tokens), _rows(tokens=tokens))) == []


class _Peaks(nn.Module):
    """The largest value over time of a few kernels: of 300 moments many are the largest in no row."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.kernels, self.head = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, steps: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.kernels(steps).amax(1))
        return outputs


def test_moments_that_a_maximum_never_picks_are_not_cut() -> None:
    assert ids("cut_moments", bench_of(_Peaks(), (noise(80, 300, 3), torch.arange(80) % 2))) == []


def test_tables_have_no_moments() -> None:
    assert ids("cut_moments", bench_of(nn.Linear(6, 2), (noise(80, 6), torch.arange(80) % 2))) == []
