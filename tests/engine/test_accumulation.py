"""However a batch is cut, the weights are those of the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepwell.core.batch import Batch, Tree
from stepwell.core.reports import Term
from stepwell.core.slots import Counts, Objective, Terms
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import AdamW, ClassWeights, ClipNorm, CrossEntropy, LabelSmoothing, Mixup, Sgd

PARTS = [5, 24, 3]


class TwoDenominators(Objective):
    """Cross-entropy over labelled samples plus a consistency term over all of them."""

    def terms(self, outputs: Tree, batch: Batch) -> Terms:
        labelled = batch.targets >= 0
        loss = F.cross_entropy(outputs[labelled], batch.targets[labelled], reduction="sum")
        return {"labelled": Term(loss, "labelled"), "flat": Term(outputs.pow(2).mean(1).sum(), "samples", 0.3)}

    def counts(self, batch: Batch) -> Counts:
        return {"labelled": (batch.targets >= 0).sum(), "samples": len(batch)}


def network(dtype: torch.dtype) -> nn.Sequential:
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.to(dtype)


def train(
    sizes: Any, objective: Objective, techniques: list[Any], optimizer: Any, dtype: torch.dtype, *, masked: float
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    step = TrainStep(
        network(dtype),
        objective=objective,
        optimizer=optimizer,
        techniques=techniques,
        execution=Execution(micro_batch_size=sizes),
    )
    for _ in range(50):
        inputs = torch.randn(32, 12, generator=generator).to(dtype)
        targets = torch.randint(0, 6, (32,), generator=generator)
        targets[torch.rand(32, generator=generator) < masked] = -1
        step(Batch(inputs, targets))
    return torch.cat([p.detach().reshape(-1) for p in step.model.parameters()])


CASES: dict[str, tuple[Objective, list[Any], float]] = {
    "plain": (CrossEntropy(), [], 0.0),
    "clipped": (CrossEntropy(), [ClipNorm(max_norm=0.3)], 0.0),
    "class-weighted mixup": (
        CrossEntropy(),
        [Mixup(alpha=0.4, num_classes=6), ClassWeights(weights=[1.0, 2.0, 0.5, 3.0, 1.0, 0.25])],
        0.0,
    ),
    "smoothing, mixup and class weights": (
        CrossEntropy(),
        [Mixup(alpha=0.4, num_classes=6), LabelSmoothing(epsilon=0.1), ClassWeights(weights=[1.0, 2.0, 0.5, 3.0, 1.0, 0.25])],
        0.0,
    ),
    "two denominators": (TwoDenominators(), [], 0.4),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("optimizer", [Sgd(lr=0.1), AdamW(lr=1e-3)], ids=["sgd", "adamw"])
def test_uneven_micro_batches_equal_one_large_batch_in_float64(name: str, optimizer: Any) -> None:
    objective, techniques, masked = CASES[name]
    whole = train(None, objective, techniques, optimizer, torch.float64, masked=masked)
    parts = train(PARTS, objective, techniques, optimizer, torch.float64, masked=masked)
    assert float((whole - parts).abs().max()) <= 1e-10


@pytest.mark.parametrize("name", CASES)
def test_uneven_micro_batches_equal_one_large_batch_in_fp32_within_1e_6(name: str) -> None:
    objective, techniques, masked = CASES[name]
    whole = train(None, objective, techniques, Sgd(lr=0.05), torch.float32, masked=masked)
    parts = train(PARTS, objective, techniques, Sgd(lr=0.05), torch.float32, masked=masked)
    assert float((whole - parts).abs().max()) <= 1e-6


def test_two_denominators_give_the_gradient_of_the_formula() -> None:
    model = network(torch.float64)
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(8, 12, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, -1, 3, 5, -1, -1, 2, 1])
    before = [p.detach().clone() for p in model.parameters()]
    outputs = model(inputs)
    kept = targets >= 0
    loss = F.cross_entropy(outputs[kept], targets[kept]) + 0.3 * outputs.pow(2).mean()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    step = TrainStep(
        model, objective=TwoDenominators(), optimizer=Sgd(lr=1.0, momentum=0.0), execution=Execution(micro_batch_size=[3, 5])
    )
    report = step(Batch(inputs, targets))
    for start, now, gradient in zip(before, model.parameters(), expected):
        torch.testing.assert_close(start - now.detach(), gradient, rtol=1e-10, atol=1e-12)
    assert float(report.loss) == pytest.approx(float(loss.detach()), rel=1e-12)


class WholeBatch(CrossEntropy):
    decomposable = False


def test_an_objective_over_the_whole_batch_refuses_micro_batches() -> None:
    with pytest.raises(ValueError, match=r"whole batch.*micro_batch_size"):
        TrainStep(network(torch.float32), objective=WholeBatch(), optimizer=Sgd(), execution=Execution(micro_batch_size=8))
