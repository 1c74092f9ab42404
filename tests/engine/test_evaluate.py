"""Evaluation: clean losses and metrics over every example once, and no trace left on the model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.engine.evaluate import evaluate
from stepwell.engine.metrics.streaming import make_metrics
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Recipe
from stepwell.techniques import CrossEntropy, Mse


class Table(nn.Module):
    """Logits that are looked up: (N, T) tokens -> (N, T, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits[tokens]


def nll(logit: float) -> float:
    return math.log(math.exp(logit) + 2) - logit


def test_perplexity_and_token_accuracy_weigh_tokens_not_batches_and_leave_ignored_ones_out() -> None:
    batches = [
        Batch(torch.tensor([[0, 1]]), torch.tensor([[0, -100]])),
        Batch(torch.tensor([[1, 2], [2, 0]]), torch.tensor([[1, 2], [-100, 1]])),
    ]
    metrics = evaluate(Table(), batches, objective=CrossEntropy(), metrics=make_metrics(("accuracy",)))
    # Tokens: 0 -> 0 right, 1 -> 1 right, 2 -> 2 right, 0 -> 1 wrong (its logit is 0 beside a 2 and a 0).
    wrong = math.log(math.exp(2.0) + 2)
    loss = (nll(2.0) + nll(1.0) + nll(0.5) + wrong) / 4
    assert metrics["loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)
    assert metrics["accuracy"] == 0.75


def test_validation_losses_are_those_of_the_base_objective_whatever_training_adds() -> None:
    generator = torch.Generator().manual_seed(0)
    data = (torch.randn(40, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator))
    techniques = [
        {"name": "label_smoothing", "epsilon": 0.3},
        {"name": "class_weights", "weights": [1.0, 5.0, 1.0]},
        {"name": "mixup"},
    ]
    run = fit(
        nn.Linear(4, 3), data, val=data, recipe=Recipe(optimizer="sgd", techniques=techniques, batch_size=20), budget="2 epochs"
    )
    with torch.no_grad():
        clean = nn.functional.cross_entropy(run.model(data[0]), data[1])
    assert run.metrics["loss"] == pytest.approx(float(clean), rel=1e-6)


def test_uneven_batches_give_the_loss_and_errors_of_the_whole_in_original_units() -> None:
    inputs = torch.arange(5.0).reshape(5, 1)
    targets = torch.tensor([1.0, 1.0, 2.0, 5.0, 3.0])
    batches = [Batch(inputs[:3], targets[:3]), Batch(inputs[3:], targets[3:])]
    metrics = evaluate(nn.Identity(), batches, objective=Mse(), metrics=make_metrics(("mae", "rmse", "r2"), target_scale=10.0))
    # Errors -1, 0, 0, -2, 1; mean target 2.4, squared spread 11.2.
    assert metrics == pytest.approx({"loss": 6 / 5, "mae": 8.0, "rmse": 10 * math.sqrt(6 / 5), "r2": 1 - 6 / 11.2})


def test_evaluation_puts_modes_and_generators_back_and_leaves_buffers_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model.train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    evaluate(
        model, [Batch(torch.randn(6, 3, generator=torch.Generator()), torch.tensor([0, 1, 0, 1, 0, 1]))], objective=CrossEntropy()
    )
    assert [module.training for module in model] == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
