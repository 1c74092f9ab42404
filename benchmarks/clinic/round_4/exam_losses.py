"""An exam, first half: setups whose loss asks for the wrong thing, breaks, or forgets the rare."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4.exam_parts import LastStep, Model, convnet, job, mlp, seeded, setup
from benchmarks.clinic.round_4.exam_rows import crops, customers, demand, digits, flats, signs


@seeded
def _summed_flats(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    return setup(rows, mlp(7, 64, 32, 1), nn.MSELoss(reduction="sum"), {"name": "sgd", "lr": 0.01}, batch_size=64)


@seeded
def _summed_signs(seed: int) -> Setup:
    optimizer = {"name": "sgd", "lr": 0.02, "momentum": 0.9}
    return setup(signs(seed), convnet(12, 4), nn.CrossEntropyLoss(reduction="sum"), optimizer, batch_size=64, epochs=15)


def _log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    return -0.5 * ((targets - outputs) / 0.5).square().mean()


def _minus_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    return -_log_likelihood(outputs, targets)


@seeded
def _likely_demand(seed: int) -> Setup:
    model = LastStep(nn.GRU(1, 24, batch_first=True), 1)
    return setup(demand(seed), model, _log_likelihood, {"name": "adam", "lr": 5e-3}, batch_size=64, epochs=15)


def _bernoulli(chances: Tensor, targets: Tensor) -> Tensor:
    kept = chances.clamp(1e-6, 1 - 1e-6)
    return (targets * kept.log() + (1 - targets) * (1 - kept).log()).mean()


@seeded
def _unnegated_customers(seed: int) -> Setup:
    model = Model(mlp(9, 48, 24, 1), torch.sigmoid)
    return setup(customers(seed).scaled(), model, _bernoulli, {"name": "adam", "lr": 3e-3}, epochs=15)


def _hinge(outputs: Tensor, targets: Tensor) -> Tensor:
    return (1 - targets * outputs).clamp(min=0).mean()


def _hinge_of_signs(outputs: Tensor, targets: Tensor) -> Tensor:
    return _hinge(outputs, 2 * targets - 1)


@seeded
def _hinged_customers(seed: int) -> Setup:
    return setup(customers(seed).scaled(), mlp(9, 48, 24, 1), _hinge, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _entropy_of_prices(seed: int) -> Setup:
    rows = flats(seed).scaled().target_scaled()
    return setup(rows, mlp(7, 64, 32, 1), nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, epochs=15)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs.squeeze(1), targets.float())


@seeded
def _digit_as_number(seed: int) -> Setup:
    rows = digits(seed).mapped(lambda x: x / 16)
    return setup(rows, convnet(8, 1), _squared, {"name": "adam", "lr": 3e-3}, batch_size=64, epochs=10)


@seeded
def _digit_as_class(seed: int) -> Setup:
    rows = digits(seed).mapped(lambda x: x / 16)
    return setup(rows, convnet(8, 10), nn.CrossEntropyLoss(), {"name": "adam", "lr": 3e-3}, batch_size=64, epochs=10)


def _percentage(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) / targets).abs().mean()


@seeded
def _percent_of_demand(seed: int) -> Setup:
    rows = demand(seed).mapped(targets=lambda y: (2 * y + 3).clamp(min=0).round())
    model = LastStep(nn.GRU(1, 24, batch_first=True), 1)
    return setup(rows, model, _percentage, {"name": "adam", "lr": 5e-3}, batch_size=64, epochs=15)


def _written_out(outputs: Tensor, targets: Tensor) -> Tensor:
    chances = torch.sigmoid(outputs)
    return -(targets * torch.log(chances) + (1 - targets) * torch.log(1 - chances)).mean()


@seeded
def _sure_signs(seed: int) -> Setup:
    rows = signs(seed, noise=0.1).mapped(targets=lambda y: (y >= 2).float().unsqueeze(1))
    return setup(rows, convnet(12, 1), _written_out, {"name": "adam", "lr": 0.01}, epochs=20)


@seeded
def _fraud(seed: int) -> Setup:
    return setup(
        customers(seed, num=2000, share=0.04).scaled(),
        mlp(9, 32, 1),
        nn.BCEWithLogitsLoss(),
        {"name": "adam", "lr": 1e-3},
        epochs=20,
    )


@seeded
def _rare_crops(seed: int) -> Setup:
    rows, dice = crops(seed, num=2400), drawn(seed, "rare")
    rows = rows.mapped(lambda x: x + 1.0 * torch.randn(x.shape, generator=dice))
    kept = (rows.y % 2 == 1) | (torch.rand(len(rows.y), generator=dice) < 0.03)
    rows = rows.train_only(x=rows.x[kept], y=rows.y[kept])
    return setup(rows, mlp(8, 48, 6), nn.CrossEntropyLoss(), {"name": "adam", "lr": 2e-3}, epochs=12)


_LEAPS = ("lr_too_high", "exploding_gradient", "unstable_gradient", "dead_relu")

CASES: tuple[Case, ...] = (
    Case(
        "flats-sum-of-squared-errors",
        _summed_flats,
        ("loss_reduction_sum",),
        "r2",
        "StackOverflow: MSELoss(reduction='sum') from the old tutorial with SGD(lr=0.01) and batches of 64 gives NaN",
        tolerate=_LEAPS,
        fix=job(loss=nn.MSELoss()),
    ),
    Case(
        "signs-cnn-sum-of-entropies",
        _summed_signs,
        ("loss_reduction_sum",),
        "accuracy",
        "PyTorch forum: size_average=False kept when the batch grew; the loss jumps and then stands still",
        architecture="cnn",
        data="image",
        tolerate=(*_LEAPS, "momentum_too_high"),
        fix=job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "demand-gru-log-likelihood-descended",
        _likely_demand,
        ("loss_sign_flipped",),
        "r2",
        "StackOverflow: a normal log-likelihood written by hand and minimised, the loss goes to minus infinity",
        architecture="rnn",
        data="sequence",
        tolerate=("exploding_gradient", "wrong_loss"),
        fix=job(loss=_minus_log_likelihood),
    ),
    Case(
        "customers-entropy-without-minus",
        _unnegated_customers,
        ("loss_sign_flipped",),
        "accuracy",
        "StackOverflow: binary cross-entropy by hand without the leading minus; accuracy far below chance",
        tolerate=("wrong_loss", "saturated_activation"),
        fix=job(loss=nn.BCELoss()),
    ),
    Case(
        "customers-hinge-of-zero-and-one",
        _hinged_customers,
        ("wrong_loss", "label_out_of_range"),
        "accuracy",
        "StackOverflow: hinge loss wants labels -1 and 1; with 0 and 1 the zeros give no gradient and all is called 1",
        tolerate=("class_imbalance",),
        fix=job(loss=_hinge_of_signs),
    ),
    Case(
        "flats-cross-entropy-of-prices",
        _entropy_of_prices,
        ("wrong_loss",),
        "r2",
        "PyTorch forum: CrossEntropyLoss for a regression with one output, the loss is 0.0 from the first step on",
        tolerate=("wrong_num_outputs",),
        fix=job(loss=nn.MSELoss()),
    ),
    Case(
        "digits-cnn-class-as-number",
        _digit_as_number,
        ("wrong_loss", "wrong_num_outputs"),
        "accuracy",
        "StackOverflow: MSELoss between one output and the class number, digits come out as 4.3",
        architecture="cnn",
        data="image",
        fix=lambda given: {**_digit_as_class(0), "train": given["train"], "val": given["val"]},
    ),
    Case(
        "demand-gru-percentage-error-of-zeros",
        _percent_of_demand,
        ("unstable_loss",),
        "r2",
        "StackOverflow: a MAPE of one's own is inf as soon as a target is 0",
        architecture="rnn",
        data="sequence",
        tolerate=("exploding_gradient", "wrong_loss"),
        fix=job(loss=nn.L1Loss()),
    ),
    Case(
        "signs-cnn-entropy-written-out",
        _sure_signs,
        ("unstable_loss",),
        "accuracy",
        "e-com-net.com/article/1609698298044645376: BCE written out with torch.log; NaN once the network is sure",
        architecture="cnn",
        data="image",
        tolerate=("exploding_gradient", "saturated_activation"),
        fix=job(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "customers-four-in-a-hundred-leave",
        _fraud,
        ("class_imbalance",),
        "balanced_accuracy",
        "learn-pytorch.oneoffcoder.com/class-imbalance: 96 % accuracy by never saying yes",
        tolerate=("too_few_epochs", "lr_too_low"),
        fix=job(loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(24.0))),
    ),
    Case(
        "crops-three-of-six-rare",
        _rare_crops,
        ("class_imbalance",),
        "balanced_accuracy",
        "PyTorch forum: half of the classes have a thirtieth of the others' rows and are hardly ever predicted",
        tolerate=("train_val_mismatch", "too_few_epochs", "lr_too_low"),
        fix=job(loss=nn.CrossEntropyLoss(weight=torch.tensor([30.0, 1.0, 30.0, 1.0, 30.0, 1.0]))),
    ),
)
