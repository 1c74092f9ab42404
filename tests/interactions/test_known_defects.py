"""What trainers are known to get wrong when techniques meet. Each test names the public thread that reports the defect."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepwell import fit
from stepwell.core.batch import BLOCK, Batch
from stepwell.core.clock import Horizon
from stepwell.core.randomness import Rng, derive
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.precision import LossScale, Precision
from stepwell.recipe.job import Recipe
from stepwell.techniques import (
    AdamW,
    ClassWeights,
    CrossEntropy,
    DecayGroups,
    Ema,
    LabelSmoothing,
    Lora,
    Mixup,
    OneCycle,
    Sgd,
    Unfreezing,
    WarmupCosine,
)

WEIGHTS = [1.0, 3.0, 0.5]


def network() -> nn.Sequential:
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.5)
    return model


def batches(num: int, size: int = 32) -> list[Batch]:
    draw = torch.Generator().manual_seed(1)
    return [
        Batch(torch.randn(size, 6, generator=draw, dtype=torch.float64), torch.randint(3, (size,), generator=draw))
        for _ in range(num)
    ]


def trained(techniques: list[Any], *, steps: int, sizes: Any = None, optimizer: Any = None, **settings: Any) -> TrainStep:
    step = TrainStep(
        settings.pop("model", None) or network(),
        objective=CrossEntropy(),
        optimizer=optimizer or Sgd(lr=0.5, momentum=0.0),
        techniques=techniques,
        horizon=settings.pop("horizon", Horizon.of("12 steps")),
        execution=Execution(micro_batch_size=sizes, **settings),
    )
    for batch in batches(steps):
        step(batch)
    return step


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_label_smoothing_with_accumulation_gives_the_gradient_of_the_mean_over_the_whole_batch() -> None:
    """transformers#46731: the smoothed loss forgets the count, and gradients are about N times too large."""
    step = trained([LabelSmoothing(epsilon=0.1)], steps=1, sizes=[5, 24, 3])
    oracle, (batch,) = network(), batches(1)
    F.cross_entropy(oracle(batch.inputs), batch.targets, label_smoothing=0.1).backward()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter -= 0.5 * parameter.grad
    torch.testing.assert_close(weights(step.model), weights(oracle), rtol=0, atol=1e-12)


def test_label_smoothing_and_mixup_and_class_weights_with_accumulation_divide_by_the_mass_that_they_weigh() -> None:
    """deit#91, transformers#34191: mixed targets and weighted means lose their denominator when a batch is cut."""
    mixup = Mixup(alpha=0.4, num_classes=3)
    techniques = [mixup, LabelSmoothing(epsilon=0.2), ClassWeights(weights=WEIGHTS)]
    step = trained(techniques, steps=1, sizes=[5, 24, 3])
    oracle, (batch,) = network(), batches(1)
    lam = Rng(derive(0, "mixup", 0)).host.betavariate(0.4, 0.4)
    order = torch.arange(32).view(-1, BLOCK).flip(1).reshape(-1)
    hot = F.one_hot(batch.targets, 3).double()
    mixed, mass = (lam * tree + (1 - lam) * tree[order] for tree in (batch.inputs, hot))
    table = torch.tensor(WEIGHTS, dtype=torch.float64)
    # Smoothing is listed first, so each sample keeps the weight of its own (mixed) label.
    shares = (mass * table).sum(1)
    smooth = (0.8 * mass * table) + 0.2 / 3 * shares[:, None]
    loss = -(smooth * oracle(mixed).log_softmax(1)).sum() / shares.sum()
    loss.backward()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter -= 0.5 * parameter.grad
    torch.testing.assert_close(weights(step.model), weights(oracle), rtol=0, atol=1e-7)


def test_an_average_that_starts_late_is_not_evaluated_before_it_has_averaged_anything() -> None:
    """Lightning#21724: validation swaps in an average that was never updated, and reports the metrics of the start."""
    inputs, targets = torch.cat([b.inputs for b in batches(4)]), torch.cat([b.targets for b in batches(4)])
    runs = []
    for techniques in ([], [Ema(half_life="1 steps", start="6 steps")]):
        recipe = Recipe(optimizer=Sgd(lr=0.5), techniques=techniques, batch_size=32)
        run = fit(network(), (inputs, targets), val=(inputs, targets), recipe=recipe, budget="12 steps", evaluate_every="2 steps")
        runs.append([row["loss"] for row in run.history.validation])
    plain, averaged = runs
    assert averaged[:3] == plain[:3]
    assert all(late != own for late, own in zip(averaged[3:], plain[3:], strict=True))


def test_a_resumed_run_does_not_freeze_again_what_was_thawed() -> None:
    """Lightning#21901: resuming in the middle of progressive unfreezing freezes layers again or breaks the groups."""
    technique = Unfreezing(stages=[{"modules": ["2"], "at": "0 steps"}, {"modules": ["0"], "at": "3 steps"}])
    whole = trained([technique], steps=8, optimizer=AdamW(lr=1e-2))
    for cut in (2, 3, 5):
        half = trained([technique], steps=cut, optimizer=AdamW(lr=1e-2))
        again = trained([technique], steps=0, optimizer=AdamW(lr=1e-2))
        again.load_state_dict(copy.deepcopy(half.state_dict()))
        assert [p.requires_grad for p in again.model.parameters()] == [cut >= 3, cut >= 3, True, True]
        for batch in batches(8)[cut:]:
            again(batch)
        assert torch.equal(weights(again.model), weights(whole.model)), cut


class Overflowing(LossScale):
    """A loss scale whose step overflows at chosen calls."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__(1024.0)
        self.bad, self.calls = bad, 0

    def update(self, *, overflow: bool) -> None:
        assert overflow == (self.calls in self.bad)
        self.calls += 1
        self.scale = float("inf") if self.calls in self.bad else 1024.0


@pytest.mark.parametrize("schedule", [WarmupCosine(warmup="4 steps"), OneCycle()], ids=["warmup_cosine", "one_cycle"])
def test_a_step_that_fp16_skips_moves_no_schedule(schedule: Any) -> None:
    """Lightning#5558 and #21339: the scheduler steps although the scaler skipped the optimizer's step."""

    def rates(bad: set[int], steps: int) -> list[tuple[float, float]]:
        step = TrainStep(
            network().float(),
            objective=CrossEntropy(),
            optimizer=Sgd(lr=0.1, momentum=0.9),
            techniques=[schedule],
            horizon=Horizon.of("6 steps"),
            execution=Execution(precision=Precision("fp16", torch.float16, Overflowing(bad))),
        )
        seen = []
        for batch in batches(steps):
            report = step(replace(batch, inputs=batch.inputs.float()))
            if report.skipped is None:
                group = step.optimizer.param_groups[0]
                seen.append((group["lr"], group["momentum"]))
        return seen

    assert rates({1, 4}, 8) == rates(set(), 6)


def test_mixup_leaves_metrics_on_integer_labels_alone() -> None:
    """deit#91: integer-label metrics fail on, or silently change with, mixed targets."""
    inputs, targets = torch.cat([b.inputs for b in batches(4)]), torch.cat([b.targets for b in batches(4)])
    recipe = Recipe(optimizer=Sgd(lr=0.5), techniques=[Mixup(alpha=0.4)], batch_size=32)
    run = fit(network(), (inputs, targets), val=(inputs, targets), recipe=recipe, budget="3 epochs")
    right = (run.model(inputs).argmax(1) == targets).double().mean().item()
    assert run.metrics["accuracy"] == pytest.approx(right, abs=1e-12)
    assert run.metrics["loss"] == pytest.approx(F.cross_entropy(run.model(inputs), targets).item(), rel=1e-6)


class Tied(nn.Module):
    """Token scores by the embedding that the tokens came in by."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.norm(self.embedding(tokens)))
        return outputs


def test_a_tied_weight_is_in_one_group_and_decays_once_and_norms_and_biases_do_not() -> None:
    """transformers#35927: norms decayed; a tied tensor that is met by two names can end in two groups."""
    torch.manual_seed(0)
    model = Tied()
    before = copy.deepcopy(model)
    step = TrainStep(
        model, objective=CrossEntropy(), optimizer=Sgd(lr=0.1, momentum=0.0, weight_decay=0.5), techniques=[DecayGroups()]
    )
    names = sorted(name for group in step.optimizer.param_groups for name in group["names"])
    assert names == ["embedding.weight", "head.bias", "norm.bias", "norm.weight"]
    batch = Batch(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3]))
    F.cross_entropy(before(batch.inputs), batch.targets).backward()
    step(batch)
    shared = before.embedding.weight
    assert shared.grad is not None
    torch.testing.assert_close(model.embedding.weight.detach(), (shared - 0.1 * (shared.grad + 0.5 * shared)).detach())
    for name in ("head.bias", "norm.bias", "norm.weight"):
        old = before.get_parameter(name)
        assert old.grad is not None
        torch.testing.assert_close(model.get_parameter(name).detach(), (old - 0.1 * old.grad).detach())


def test_adapters_go_on_after_a_resume_to_the_bit_and_the_base_weights_never_move() -> None:
    """peft#859, transformers#29383: a resumed adapter run starts fresh without saying so."""
    technique, base = Lora(rank=2, targets=["0"], train_also=["2"]), network().state_dict()
    whole = trained([technique], steps=8, optimizer=AdamW(lr=1e-2))
    half = trained([technique], steps=3, optimizer=AdamW(lr=1e-2))
    again = trained([technique], steps=0, optimizer=AdamW(lr=1e-2))
    again.load_state_dict(copy.deepcopy(half.state_dict()))
    assert not torch.equal(weights(half.model), weights(trained([technique], steps=0).model))
    for batch in batches(8)[3:]:
        again(batch)
    assert torch.equal(weights(again.model), weights(whole.model))
    trained_now = list(whole.model.state_dict().values())
    held = {name: any(torch.equal(tensor, base[name]) for tensor in trained_now) for name in base}
    assert held == {"0.weight": True, "0.bias": True, "2.weight": False, "2.bias": False}
