"""Remedies for gradients that don't get through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stepwell.doctor.remedies.flow import gated, normed, rectified
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup


def _setup(model: nn.Module, inputs: Tensor) -> Setup:
    rows = Rows(inputs, torch.zeros(len(inputs)), len(inputs))
    return Setup(model, rows, None, nn.MSELoss(), {"name": "sgd", "lr": 0.1}, 4, 1)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_hidden_sigmoids_become_rectified_and_one_that_gives_the_outputs_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 1), nn.Sigmoid())
    inputs = _noise(12, 3)
    before = [part.clone() for part in model.parameters()]
    mended = rectified(_setup(model, inputs))
    first, last = (part for part in mended.model.modules() if isinstance(part, nn.Linear))
    torch.testing.assert_close(mended.model(inputs), last(first(inputs).relu()).sigmoid())
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_each_layer_but_the_last_has_a_norm_behind_it() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    inputs = _noise(12, 3)
    hidden = model[0](inputs)
    hidden = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(normed(_setup(model, inputs)).model(inputs), model[2](hidden.tanh()))


def test_a_plain_recurrence_becomes_a_gated_one_of_the_same_form_that_the_optimizer_holds() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.RNN(3, 4, num_layers=2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(8, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.head(self.body(inputs)[0][:, -1])
            return outputs

    model, inputs = Reader(), _noise(5, 7, 3)
    before = torch.get_rng_state()
    mended = gated(_setup(model, inputs).with_optimizer(params=list(model.parameters())))
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(mended.model.body, nn.GRU)
    assert isinstance(model.body, nn.RNN)
    assert mended.model(inputs).shape == (5, 1)
    (group,) = mended.build_optimizer().param_groups
    assert {id(part) for part in group["params"]} == {id(part) for part in mended.model.parameters()}
