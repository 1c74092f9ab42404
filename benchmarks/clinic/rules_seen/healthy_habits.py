"""Healthy ways of working that differ from the usual ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.rules_seen import cures, networks, patients, tables
from benchmarks.clinic.rules_seen.networks import weights_from


def _in_given_order(seed: int) -> Setup:
    return patients.clouds(seed, shuffle=False)


def _whole_table(seed: int) -> Setup:
    return patients.rings(seed, batch_size=500, epochs=120, optimizer={"name": "adam", "lr": 0.03})


def _sigmoid_and_bce(seed: int) -> Setup:
    setup = patients.rings(seed, loss=nn.BCELoss())
    setup["model"].append(nn.Sigmoid())
    return setup


def _log_softmax_and_nll(seed: int) -> Setup:
    setup = patients.clouds(seed, loss=nn.NLLLoss())
    setup["model"].append(nn.LogSoftmax(dim=1))
    return setup


def _bounded(seed: int) -> Setup:
    split = tables.waves(seed)
    pair = [torch.utils.data.TensorDataset(part.tensors[0], part.tensors[1].tanh()) for part in (split.train, split.val)]
    setup = patients.waves(seed)
    setup["model"].append(nn.Tanh())
    return {**setup, "train": pair[0], "val": pair[1]}


def _positive(seed: int) -> Setup:
    split = tables.waves(seed)
    pair = [torch.utils.data.TensorDataset(part.tensors[0], (0.5 * part.tensors[1]).exp()) for part in (split.train, split.val)]
    setup = patients.waves(seed)
    setup["model"].append(nn.Softplus())
    return {**setup, "train": pair[0], "val": pair[1]}


def _wild_but_robust(seed: int) -> Setup:
    def spoil(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        spoiled = targets.clone()
        spoiled[::50] += 25.0
        return inputs, spoiled

    return cures.train_rows(spoil)(patients.waves(seed, loss=nn.SmoothL1Loss()))


def _adagrad(seed: int) -> Setup:
    return patients.clouds(seed, optimizer={"name": "adagrad", "lr": 0.1})


def _heavy_momentum(seed: int) -> Setup:
    settings = {"name": "sgd", "lr": 0.002, "momentum": 0.98, "nesterov": True}
    return patients.clouds(seed, optimizer=settings, epochs=15)


def _repeated_rows(seed: int) -> Setup:
    """A bootstrap sample: a third of the training rows occur more than once, the validation rows are apart."""

    def draw(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(inputs), (900,), generator=drawn(seed, "bootstrap"))
        return inputs[chosen], targets[chosen]

    return cures.train_rows(draw)(patients.clouds(seed))


def _some_constant_columns(seed: int) -> Setup:
    def widen(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([inputs, torch.zeros(len(inputs), 3), torch.ones(len(inputs), 1)], 1), targets

    with weights_from(seed):
        setup = patients.clouds(seed, model=networks.mlp(14, 48, 32, 5))
    return cures.everywhere(widen)(setup)


def _few_noisy_rows(seed: int) -> Setup:
    """Few rows, many columns: decay as strong as ridge regression needs it."""
    with weights_from(seed):
        model = nn.Linear(25, 1)
    split = tables.lines(seed, num_features=25, num_train=120, noise=0.6)
    return patients.of(split, model, nn.MSELoss(), {"name": "sgd", "lr": 0.05, "weight_decay": 0.15}, epochs=20)


def _own_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    sharpness = (1 - F.softmax(outputs, 1).gather(1, targets.unsqueeze(1)).squeeze(1)).square()
    return (sharpness * F.cross_entropy(outputs, targets, reduction="none")).mean()


def _focal(seed: int) -> Setup:
    return patients.clouds(seed, loss=_own_entropy, optimizer={"name": "adam", "lr": 0.01})


def _sharp_clouds(seed: int) -> Setup:
    """Classes so far apart that the loss is at zero after an epoch or two."""
    with weights_from(seed):
        model = networks.mlp(10, 24, 3)
    split = tables.clouds(seed, num_classes=3, distance=5.0)
    return patients.of(split, model, nn.CrossEntropyLoss(), {"name": "adam", "lr": 0.01}, epochs=8)


CASES: tuple[Case, ...] = (
    Case("ok-given-order", _in_given_order, (), "accuracy", "not shuffled, but the rows are in random order already", floor=0.88),
    Case("ok-whole-table", _whole_table, (), "accuracy", "one batch per epoch", floor=0.95),
    Case("ok-sigmoid-bce", _sigmoid_and_bce, (), "accuracy", "a sigmoid at the end, as BCELoss wants it", floor=0.95),
    Case("ok-log-softmax-nll", _log_softmax_and_nll, (), "accuracy", "log-softmax at the end, as NLLLoss wants it", floor=0.88),
    Case("ok-bounded-targets", _bounded, (), "r2", "tanh at the end of a regression whose targets lie in -1..1", floor=0.9),
    Case("ok-positive-targets", _positive, (), "r2", "softplus at the end of a regression of positive quantities", floor=0.85),
    Case("ok-robust-loss", _wild_but_robust, (), "r2", "2 % wild targets in training, met by a Huber loss", floor=0.85),
    Case("ok-adagrad", _adagrad, (), "accuracy", "Adagrad at 0.1: its steps shrink by themselves", floor=0.88),
    Case("ok-momentum-0.98", _heavy_momentum, (), "accuracy", "momentum of 0.98 with a rate that fits it", floor=0.88),
    Case("ok-bootstrap", _repeated_rows, (), "accuracy", "training rows occur more than once", floor=0.85),
    Case("ok-constant-columns", _some_constant_columns, (), "accuracy", "4 of 14 columns are constant", floor=0.88),
    Case("ok-ridge", _few_noisy_rows, (), "r2", "strong decay that helps: 120 rows, 25 columns", floor=0.5),
    Case("ok-focal", _focal, (), "accuracy", "a user's own loss: focal", floor=0.9),
    Case(
        "ok-sharp-clouds",
        _sharp_clouds,
        (),
        "accuracy",
        "perfect after an epoch; gradients vanish because nothing is left to learn",
        floor=0.97,
    ),
)
