"""A user's own loss: summed, taken as a mean, tested for being one, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.objectives.callable_loss import CallableLoss, as_objective, is_mean_over_samples
from stepwell.core.slots import Objective
from stepwell.techniques.objective.mse import Mse


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(objective: Objective, outputs: Tensor, batch: Batch) -> Tensor:
    counts = objective.counts(batch)
    return sum(term.weight * term.sum / counts[term.unit] for term in objective.terms(outputs, batch).values())


def test_an_objective_is_left_as_it_is() -> None:
    objective = Mse()
    assert as_objective(objective) is objective


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_losses_per_sample_are_averaged_over_samples(shape: tuple[int, ...]) -> None:
    outputs, targets = draws(6, 3), draws(6, 3, seed=1)
    objective = as_objective(lambda out, goal: (out - goal).abs().sum(1).reshape(shape))
    torch.testing.assert_close(loss(objective, outputs, Batch(outputs, targets)), (outputs - targets).abs().sum(1).mean())


@pytest.mark.parametrize("flat", ["flat", "shaped"])
def test_losses_per_token_are_averaged_over_the_tokens_that_count(flat: str) -> None:
    outputs, targets = draws(3, 4, 5), torch.randint(5, (3, 4), generator=torch.Generator().manual_seed(0))
    targets[0, 1:] = -100

    def per_token(out: Tensor, goal: Tensor) -> Tensor:
        each = F.cross_entropy(out.reshape(-1, 5), goal.reshape(-1), reduction="none")
        return each if flat == "flat" else each.reshape(3, 4)

    expected = F.cross_entropy(outputs.reshape(-1, 5), targets.reshape(-1))
    torch.testing.assert_close(loss(as_objective(per_token), outputs, Batch(outputs, targets)), expected)


def test_losses_per_value_are_averaged_over_values() -> None:
    outputs, targets = draws(6, 3), draws(6, 3, seed=1)
    objective = as_objective(lambda out, goal: (out - goal) ** 4)
    torch.testing.assert_close(loss(objective, outputs, Batch(outputs, targets)), ((outputs - targets) ** 4).mean())


def test_sample_weights_reach_samples_tokens_and_values() -> None:
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    each, targets = draws(2, 3), draws(2, 3, seed=1)
    assert loss(as_objective(lambda out, goal: out[:, 0]), each, Batch(each, targets, weights)).item() == pytest.approx(
        (each[0, 0] + 3 * each[1, 0]).item() / 4
    )
    expected = (each[0].sum() + 3 * each[1].sum()) / 12
    torch.testing.assert_close(loss(as_objective(lambda out, goal: out + 0), each, Batch(each, targets, weights)), expected)
    tokens = torch.tensor([[1, 2, -100], [0, -100, -100]])
    torch.testing.assert_close(
        loss(as_objective(lambda out, goal: out * (goal >= 0)), each, Batch(each, tokens, weights)),
        (each[0, 0] + each[0, 1] + 3 * each[1, 0]) / 5,
    )


def test_a_scalar_is_taken_as_the_mean_over_samples() -> None:
    outputs = draws(6, 3)
    batch = Batch(outputs, draws(6, 3, seed=1))
    term = as_objective(lambda out, goal: (out - goal).square().mean()).terms(outputs, batch)["loss"]
    torch.testing.assert_close(term.sum, 6 * F.mse_loss(outputs, batch.targets))


def test_targets_may_be_a_tree() -> None:
    outputs = draws(6)
    batch = Batch(outputs, {"low": outputs - 1, "high": outputs + 1})
    objective = as_objective(lambda out, goal: (goal["high"] - goal["low"]) * out)
    torch.testing.assert_close(loss(objective, outputs, batch), 2 * outputs.mean())


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda out, goal: out.mean().item(), "returned float"),
        (lambda out, goal: (out.mean(), out.sum()), "returned tuple"),
        (lambda out, goal: None, "returned NoneType"),
        (lambda out, goal: (out.argmax(1) == 0).sum(), "torch.int64"),
        (lambda out, goal: out.detach().mean(), "doesn't depend on the outputs"),
        (lambda out, goal: out[:, None] - goal.reshape(1, -1), r"tensor \(6, 1, 3\)"),
        (lambda out, goal: (out[:, 0] - goal[:, None]) ** 2, r"tensor \(6, 6\)"),
    ],
)
def test_what_is_no_loss_is_refused(made: Any, message: str) -> None:
    outputs = draws(6, 3).requires_grad_()
    targets = draws(6) if "6, 6" in message else draws(3)
    with pytest.raises(JobError, match=message):
        as_objective(made).terms(outputs, Batch(outputs, targets))


def test_a_scalar_cannot_honour_sample_weights() -> None:
    outputs = draws(6)
    with pytest.raises(JobError, match="sample weights"):
        as_objective(lambda out, goal: out.mean()).terms(outputs, Batch(outputs, outputs, torch.ones(6)))


@pytest.mark.parametrize("given", [nn.MSELoss, 3, "mean"])
def test_what_cannot_be_called_with_outputs_and_targets_is_refused(given: Any) -> None:
    with pytest.raises(JobError, match="the loss is"):
        as_objective(given)


def test_a_subclass_of_a_torch_loss_is_called_as_it_is() -> None:
    class Doubled(nn.MSELoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return 2 * super().forward(input, target)

    objective = as_objective(Doubled())
    assert isinstance(objective, CallableLoss)
    outputs, targets = draws(6), draws(6, seed=1)
    torch.testing.assert_close(loss(objective, outputs, Batch(outputs, targets)), 2 * F.mse_loss(outputs, targets))


def softmax_over_samples(out: Tensor, goal: Tensor) -> Tensor:
    return -(out.flatten().log_softmax(0) * goal.flatten()).mean()


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        (lambda out, goal: (out - goal).square().mean(), True),
        (lambda out, goal: (out - goal).square(), True),
        (lambda out, goal: (out - goal).mean(), True),
        (lambda out, goal: (out - goal).square().sum(), False),
        (lambda out, goal: (out - goal).square().mean().sqrt(), False),
        (softmax_over_samples, False),
        (lambda out, goal: (out * (goal > 0)).sum() / (goal > 0).sum(), False),
    ],
)
@pytest.mark.parametrize("size", [2, 7, 16])
def test_only_means_over_samples_pass_the_test(made: Any, holds: bool, size: int) -> None:
    targets = torch.linspace(-1, 2, size, dtype=torch.float64).unsqueeze(1)
    found = is_mean_over_samples(as_objective(made), nn.Identity(), Batch(draws(size, 1) + 1, targets))
    assert found.holds is holds
    assert ("one loss per sample" in found.message) is not holds


def test_a_loss_that_is_not_finite_is_said_to_be() -> None:
    objective = as_objective(lambda out, goal: out.mean() / 0)
    assert "not finite" in is_mean_over_samples(objective, nn.Identity(), Batch(draws(4, 1), draws(4, 1))).message


def test_the_test_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).double()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = Batch(draws(8, 3), draws(8, 3))
    assert is_mean_over_samples(as_objective(lambda out, goal: (out - goal).square().mean()), model, batch).holds
    assert [module.training for module in model] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
