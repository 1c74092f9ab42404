"""Advice: what comes after a training that works; never an alarm, tried on copies only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.doctor import advice
from stepwell.doctor.advice import Advice, advised, better, settled, worse
from stepwell.doctor.bench import Bench, Budget
from stepwell.doctor.diagnose import diagnose
from stepwell.doctor.findings import Finding, Tried
from stepwell.doctor.remedies.cycles import cycled
from stepwell.doctor.remedies.half import Compared, InHalf, bf16_check, half_precision
from stepwell.doctor.remedies.regularising import NotApplicable, with_batch_norm, with_decay, with_dropout
from stepwell.doctor.setup import Setup, setup_of
from stepwell.doctor.trials import Course, Look


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp(num_inputs: int = 20) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(num_inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def noisy(num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """The sign of the first of 20 columns, drawn anew for a tenth of the rows: learnt by heart it doesn't hold."""
    inputs = noise(num_rows, 20, seed=seed)
    labels = inputs[:, 0] > 0
    labels[::10] = noise(len(labels[::10]), seed=seed + 100) > 0
    return inputs, labels.long()


def given(**changes: Any) -> dict[str, Any]:
    return {
        "model": mlp(),
        "train": noisy(120, 0),
        "val": noisy(300, 1),
        "loss": "cross_entropy",
        "optimizer": {"name": "adam", "lr": 3e-3},
        "batch_size": 20,
        "epochs": 15,
        "shuffle": True,
        **changes,
    }


def setup(**changes: Any) -> Setup:
    return setup_of(**given(**changes))


def named(found: list[Finding]) -> dict[str, Finding]:
    return {one.id: one for one in found}


def test_none_is_none_and_other_words_are_refused() -> None:
    assert advised(Bench(setup()), "none") == []
    with pytest.raises(JobError, match="advice"):
        diagnose(**given(), advice="some")  # type: ignore[arg-type]


def test_cheap_advice_costs_no_training_and_is_a_note() -> None:
    bench = Bench(setup())
    assert bench.own.losses
    before = bench.spent_steps
    found = advised(bench, "cheap")
    assert bench.spent_steps == before
    assert {one.id for one in found} == {"regularise", "one_cycle"}
    assert all(one.severity == "note" and one.tried is None for one in found)


def test_advice_leaves_findings_and_health_as_they_are() -> None:
    found = diagnose(**given(train=noisy(1000, 0), epochs=8))
    silent = diagnose(**given(train=noisy(1000, 0), epochs=8), advice="none")
    assert silent.advice == []
    assert (found.healthy, [one.id for one in found.findings]) == (silent.healthy, [one.id for one in silent.findings])


def test_what_is_sick_gets_findings_and_no_advice() -> None:
    inputs, labels = noisy(120, 0)
    inputs[3, 2] = float("nan")
    found = diagnose(**given(train=(inputs, labels)), advice="all")
    assert found.findings[0].id == "nan_in_inputs"
    assert found.advice == []


def test_no_gap_needs_no_regularising() -> None:
    inputs = noise(400, 20, seed=0)
    clean = inputs, (inputs[:, 0] > 0).long()
    bench = Bench(setup(train=clean, val=clean))
    assert "regularise" not in named(advised(bench, "cheap"))


def test_a_rate_that_is_scheduled_or_a_training_of_few_steps_gets_no_cycle() -> None:
    scheduled = replace(setup(), schedule=lambda done: 1.0 - done)
    assert "one_cycle" not in named(advised(Bench(scheduled), "cheap"))
    short = setup(train=noisy(120, 0), epochs=2)  # 12 steps
    assert "one_cycle" not in named(advised(Bench(short), "cheap"))


def test_a_cycle_that_helps_a_slow_rate_is_told_with_its_gain() -> None:
    slow = setup(optimizer={"name": "sgd", "lr": 0.01}, train=noisy(400, 0), epochs=5)
    found = named(advised(Bench(slow, Budget(seconds=60)), "all"))["one_cycle"]
    assert found.severity == "note"
    assert found.tried is not None
    assert found.tried.gain > 0.05
    assert {"peak_3x", "peak_10x"} <= set(found.evidence)
    assert found.remedy.job == {"recipe.schedule": "one_cycle", "recipe.optimizer.lr": pytest.approx(0.1)}


def test_regularisers_are_tried_one_by_one_on_copies_and_those_that_help_are_told() -> None:
    asked = setup(optimizer={"name": "adam", "lr": 0.01}, train=noisy(60, 0), epochs=40)
    weights = [part.clone() for part in asked.model.parameters()]
    found = named(advised(Bench(asked, Budget(seconds=60)), "all"))["regularise"]
    steps = {name: str(found.evidence[name]) for name in ("batch_norm", "dropout", "weight_decay")}
    kept = [name for name, text in steps.items() if text.endswith(", kept")]
    assert 1 <= len(kept) < len(steps)
    assert found.remedy.text.count(";") == len(kept) - 1
    assert found.tried is not None
    assert better(found.tried)
    assert all(torch.equal(part, before) for part, before in zip(asked.model.parameters(), weights, strict=True))


def test_a_spent_budget_tries_nothing() -> None:
    bench = Bench(setup(), Budget(seconds=0.0))
    assert bench.own.losses
    steps = bench.spent_steps
    assert advised(bench, "all") == []
    assert bench.spent_steps == steps


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((0.80, 0.82), (0.90, 0.91), True),
        ((0.80, 0.82), (0.82, 0.83), False),  # gains of 0.015 within seeds that differ by 0.02
        ((0.80, 0.80), (0.90, 0.80), False),  # one seed gains nothing
        ((0.80, 0.80), (0.805, 0.805), False),  # less than a hundredth
        ((0.80,), (0.90,), False),  # one seed says nothing
    ],
)
def test_a_step_is_kept_if_it_gains_more_than_two_seeds_differ(
    before: tuple[float, ...], after: tuple[float, ...], kept: bool
) -> None:
    assert better(Tried(before, after, (0.0,), (0.0,), 10)) is kept


def test_worse_is_what_falls_by_more_than_seeds_differ() -> None:
    assert worse(Tried((0.90, 0.91), (0.87, 0.88), (0.0,), (0.0,), 10))
    assert not worse(Tried((0.90, 0.95), (0.87, 0.94), (0.0,), (0.0,), 10))


def test_a_course_is_settled_when_it_had_nearly_its_last_skill() -> None:
    looks = [Look(step, 1.0, 1.0, 0.5, skill) for step, skill in ((0, 0.1), (10, 0.5), (20, 0.885), (40, 0.9))]
    assert settled(Course(setup(), looks=looks)) == 0.5


# Peak at a share of 0.3 of 100 steps, of which the last has number 29; first rate peak / 25.
def test_a_cycle_moves_rate_and_momentum_against_each_other() -> None:
    cycle = cycled(
        setup(train=noisy(100, 0), batch_size=10, epochs=10, optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9}), 10.0
    )
    assert cycle.schedule is not None
    assert cycle.lr == pytest.approx(1.0)
    assert [round(cycle.schedule(step / 100), 4) for step in (0, 29)] == [0.04, 1.0]
    optimizer = cycle.copied().build_optimizer()
    seen = []
    for _ in range(100):
        optimizer.step()
        seen.append(optimizer.param_groups[0]["momentum"])
    assert [round(seen[step], 4) for step in (0, 29, 99)] == [0.95, 0.85, 0.95]


def test_a_cycle_moves_the_first_beta_of_adam_and_nothing_of_plain_sgd() -> None:
    adam = cycled(setup(), 3.0).copied().build_optimizer()
    adam.step()
    assert adam.param_groups[0]["betas"] == (0.95, 0.999)
    plain = cycled(setup(optimizer={"name": "sgd", "lr": 0.1}), 3.0).copied().build_optimizer()
    plain.step()
    assert plain.param_groups[0]["momentum"] == 0


def test_batch_norm_stands_behind_hidden_layers_and_not_behind_the_last() -> None:
    changed = with_batch_norm(setup())
    norms = [name for name, part in changed.model.named_modules() if isinstance(part, nn.BatchNorm1d)]
    assert norms == ["0.1", "2.1"]
    images = noise(64, 1, 6, 6, seed=0), (noise(64, seed=1) > 0).long()
    cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    changed = with_batch_norm(setup(model=cnn, train=images, val=images))
    assert [name for name, part in changed.model.named_modules() if isinstance(part, nn.BatchNorm2d)] == ["0.1"]


@pytest.mark.parametrize("changes", [{"batch_size": 4}, {"model": nn.Sequential(nn.Linear(20, 2))}])
def test_batch_norm_is_left_out_where_it_has_no_place(changes: dict[str, Any]) -> None:
    with pytest.raises(NotApplicable):
        with_batch_norm(setup(**changes))


def test_regularisers_are_not_added_twice_and_leave_the_model_alone() -> None:
    asked = setup()
    dropping = with_dropout(asked)
    with pytest.raises(NotApplicable, match="dropout"):
        with_dropout(dropping)
    decaying = with_decay(asked)
    assert dict(decaying.optimizer) == {"name": "adamw", "lr": 3e-3, "weight_decay": 0.1}
    with pytest.raises(NotApplicable, match="decay"):
        with_decay(decaying)
    row = asked.train.take(slice(0, 4)).inputs
    assert torch.equal(asked.model.train()(row), asked.model(row))
    assert not torch.equal(dropping.model.train()(row), dropping.model(row))


def test_bf16_is_advised_where_hardware_and_size_fit_and_the_loss_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = nn.Sequential(nn.Linear(20, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 2))
    bench = Bench(setup(model=wide, epochs=1))

    def asked(fast: bool, mode: Advice = "cheap") -> dict[str, Finding]:
        monkeypatch.setattr(advice, "has_fast_bf16", lambda setup: fast)
        return named(advised(bench, mode))

    assert "mixed_precision" not in asked(False)
    found = asked(True)["mixed_precision"]
    assert found.evidence["difference"] <= 0.02  # type: ignore[operator]
    assert found.remedy.job == {"recipe.precision": "bf16"}
    monkeypatch.setattr(advice, "bf16_check", lambda setup, rows: Compared(1.0, float("nan"), float("inf")))
    assert "mixed_precision" not in asked(True)


def test_small_models_are_not_advised_to_compute_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "has_fast_bf16", lambda setup: True)
    assert "mixed_precision" not in named(advised(Bench(setup()), "cheap"))


def test_products_in_half_precision_come_out_in_full_and_rounded() -> None:
    half = half_precision(setup())
    assert isinstance(half.model, InHalf)
    row = half.train.take(slice(0, 4)).inputs
    outputs, exact = half.model(row), setup().model(row)
    assert outputs.dtype == torch.float32
    assert 0 < float((outputs - exact).detach().abs().max()) < 0.05
    assert torch.equal(outputs, outputs.bfloat16().float())


def test_a_model_that_bf16_breaks_differs_infinitely() -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(20, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.layer(inputs)
            return outputs if outputs.dtype == torch.float32 else outputs / 0.0

    found = bf16_check(setup(model=Overflowing()), setup().train.take(slice(0, 8)))
    assert found.difference == float("inf")
