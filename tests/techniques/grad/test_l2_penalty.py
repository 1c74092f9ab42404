"""The L2 penalty against autograd through the half the sum of squares, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.updates.gradients import Gradients
from stepwell.techniques.grad.l2_penalty import L2Penalty, add_l2_penalty_


def penalty(parameters: list[Tensor], weight: float) -> Tensor:
    return weight * torch.stack([(0.5 * p.square()).sum() for p in parameters]).sum()


def model_with_gradients() -> nn.Sequential:
    draw = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return model


@pytest.mark.parametrize("apply_to", ["matrices", "all"])
def test_value_and_gradient_equal_autograd(apply_to: str) -> None:
    model = model_with_gradients()
    parameters = list(model.parameters())
    chosen = [p for p in parameters if apply_to == "all" or p.ndim == 2]
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    value = penalty(chosen, 0.3)
    slopes = dict(zip(map(id, chosen), torch.autograd.grad(value, chosen)))
    measured = L2Penalty(weight=0.3, apply_to=apply_to)(parameters)["penalty"]  # type: ignore[arg-type]
    assert measured.item() == pytest.approx(value.item(), rel=1e-12)
    for parameter, old in zip(parameters, before):
        expected = old + slopes.get(id(parameter), torch.zeros_like(old))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-12, atol=1e-14)


def test_biases_and_norm_scales_are_left_out_by_default() -> None:
    model = model_with_gradients()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    L2Penalty(weight=1.0)(model.parameters())
    changed = {name for name, p in model.named_parameters() if not torch.equal(p.grad, before[name])}  # type: ignore[arg-type]
    assert changed == {"0.weight", "2.weight"}


def test_a_weight_of_zero_keeps_the_bits_of_every_gradient() -> None:
    model = model_with_gradients()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert L2Penalty(weight=0.0, apply_to="all")(model.parameters())["penalty"].item() == 0.0
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), before))  # type: ignore[arg-type]


def test_neither_weights_nor_the_graph_are_touched() -> None:
    model = model_with_gradients()
    before = [p.detach().clone() for p in model.parameters()]
    measured = L2Penalty(weight=1.0, apply_to="all")(model.parameters())["penalty"]
    assert not measured.requires_grad
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before))


def test_gradients_laid_out_flat_receive_the_same_penalty() -> None:
    plain, flat = model_with_gradients(), model_with_gradients()
    buffer = torch.cat([p.grad.flatten() for p in flat.parameters() if p.grad is not None])
    start = 0
    for parameter in flat.parameters():
        parameter.grad = buffer[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    add_l2_penalty_(plain.parameters(), weight=0.2)
    add_l2_penalty_(Gradients(list(flat.parameters()), [buffer]), weight=0.2)
    assert torch.equal(buffer, torch.cat([p.grad.flatten() for p in plain.parameters() if p.grad is not None]))


def test_parameters_without_a_gradient_have_no_share() -> None:
    frozen = nn.Parameter(torch.ones(2, 2))
    assert L2Penalty(weight=1.0)([frozen])["penalty"].item() == 0.0
    assert frozen.grad is None


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"weight": -1e-4}, "weight"), ({"weight": math.nan}, "weight"), ({"apply_to": "weights"}, "apply_to")],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, object], field: str) -> None:
    with pytest.raises(JobError, match=rf"l2_penalty\.{field}"):
        L2Penalty(**settings)  # type: ignore[arg-type]


def test_one_sgd_step_equals_weight_decay_of_torch() -> None:
    ours, theirs = model_with_gradients(), model_with_gradients()
    L2Penalty(weight=0.05, apply_to="all")(ours.parameters())
    torch.optim.SGD(ours.parameters(), lr=0.1).step()
    torch.optim.SGD(theirs.parameters(), lr=0.1, weight_decay=0.05).step()
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_by_hand_three_and_four_at_weight_two_cost_twenty_five() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, -4.0]]))
    weight.grad = torch.zeros(1, 2)
    assert L2Penalty(weight=2.0)([weight])["penalty"].item() == 25.0
    assert weight.grad.tolist() == [[6.0, -8.0]]


def test_a_norm_taken_before_the_penalty_is_not_used_after_it() -> None:
    gradients = Gradients.of(model_with_gradients().parameters())
    gradients.norm()
    L2Penalty(weight=3.0)(gradients)
    expected = torch.cat([p.grad.flatten() for p in gradients if p.grad is not None]).norm()
    torch.testing.assert_close(gradients.norm(), expected, rtol=1e-12, atol=0)
