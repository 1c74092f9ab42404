"""One batch learnt by heart: the race of rates, what is off, and what the answers mean."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, mlp, noise, signs
from torch import Tensor, nn

from stepwell.doctor.batch_fit import MOST_STEPS, BatchFit, fit_one_batch, learnt_share, unregularised
from stepwell.doctor.task import Task


def fit_of(model: nn.Module, train: tuple[Tensor, Tensor], **changes: object) -> BatchFit:
    bench = bench_of(model, train, **changes)
    return fit_one_batch(bench.setup, bench.setup.train, bench.task)


def test_a_sound_setup_fits_at_its_own_rate_and_asks_no_other() -> None:
    fit = fit_of(mlp(4, 32, 2), signs(), optimizer={"name": "adam", "lr": 0.05})
    assert fit.verdict == "fits"
    assert len(fit.attempts) == 1
    assert len(fit.rows) == 64


def test_a_rate_too_low_fits_at_another() -> None:
    fit = fit_of(mlp(4, 32, 2), signs(), optimizer={"name": "adam", "lr": 1e-6})
    assert fit.verdict == "fits at another rate"
    assert fit.best.factor > 100


def test_a_loss_without_a_way_to_the_labels_is_stuck_within_the_steps() -> None:
    fit = fit_of(mlp(4, 32, 2), signs(), loss=lambda outputs, targets: outputs.square().mean())
    assert fit.verdict == "stuck"
    assert len(fit.attempts) == 3
    assert fit.num_steps <= MOST_STEPS


def test_a_loss_that_is_never_finite_fails() -> None:
    fit = fit_of(mlp(4, 8, 2), signs(), loss=lambda outputs, targets: outputs.mean() * float("nan"))
    assert fit.verdict == "fails"


def test_dropout_and_decay_are_off_in_the_copy_and_on_in_the_original() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.9), nn.Linear(16, 2))
    bench = bench_of(model, signs(), optimizer={"name": "sgd", "lr": 0.1, "weight_decay": 0.5})
    bare = unregularised(bench.setup)
    assert bare.optimizer["weight_decay"] == 0.0
    assert bare.model[2].p == 0.0  # type: ignore[index]
    assert (model[2].p, bench.setup.optimizer["weight_decay"]) == (0.9, 0.5)  # type: ignore[union-attr]


class _Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(inputs), 0.9, self.training)


def test_dropout_that_is_a_function_is_off_too() -> None:
    bench = bench_of(_Functional(), signs())
    bare = unregularised(bench.setup)
    outputs = bare.model.train()(bench.first_batch.inputs)
    assert torch.equal(outputs, bench.setup.model.layer(bench.first_batch.inputs))  # type: ignore[operator,union-attr]


def test_weights_and_generators_stay_as_they_were() -> None:
    model = mlp(4, 16, 2)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    state = torch.random.get_rng_state()
    fit_of(model, signs(), loss=lambda outputs, targets: outputs.square().mean())
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


# 8 rows, 6 of class 0. Right in all of class 1 and in 3 of class 0: 5 of 8 rows right, less than always 0 (6 of 8), but over
# classes (3 / 6 + 1) / 2 = 0.75, half of the way from 0.5 to 1.
def test_what_is_learnt_of_rare_classes_counts_as_learning() -> None:
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    guesses = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    share = learnt_share(Task("classes", 2), nn.functional.one_hot(guesses, 2).float(), targets)
    assert share == pytest.approx(0.5)


def test_quantities_are_learnt_by_their_r2() -> None:
    targets = noise(32, 1)
    assert learnt_share(Task("quantity"), targets, targets) == pytest.approx(1.0)
    assert learnt_share(Task("quantity"), torch.zeros(32, 1) + targets.mean(), targets) == pytest.approx(0.0, abs=1e-6)
