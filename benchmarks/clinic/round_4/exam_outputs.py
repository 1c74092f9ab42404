"""An exam, first half: setups whose outputs don't suit their loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_4.exam_parts import LastStep, Model, convnet, job, mlp, seeded, setup, without_end
from benchmarks.clinic.round_4.exam_rows import Rows, crops, customers, demand, digits, flats, quotes, signs, tones

_CE, _BCE, _MSE, _NLL = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss(), nn.NLLLoss()


def _pale(seed: int) -> Rows:
    return digits(seed).mapped(lambda x: x / 16)


@seeded
def _never_below_zero(seed: int) -> Setup:
    model = Model(LastStep(nn.GRU(1, 24, batch_first=True), 1), torch.relu)
    return setup(demand(seed), model, _MSE, {"name": "adam", "lr": 5e-3}, batch_size=64, epochs=15)


@seeded
def _sigmoid_prices(seed: int) -> Setup:
    rows = flats(seed).scaled().mapped(targets=lambda y: y / 100_000)
    return setup(rows, Model(mlp(7, 64, 32, 1), torch.sigmoid), _MSE, {"name": "adam", "lr": 3e-3}, epochs=20)


@seeded
def _twice_sigmoid(seed: int) -> Setup:
    model = Model(mlp(9, 48, 24, 1), torch.sigmoid)
    return setup(customers(seed).scaled(), model, _BCE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _raw_scores(seed: int) -> Setup:
    return setup(signs(seed), convnet(12, 4), _NLL, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _raw_chances(seed: int) -> Setup:
    return setup(customers(seed).scaled(), mlp(9, 48, 24, 1), nn.BCELoss(), {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _softmax_layer(seed: int) -> Setup:
    model = Model(nn.Sequential(nn.Flatten(), *mlp(64, 64, 10)), nn.Softmax(dim=1))
    return setup(_pale(seed), model, _CE, {"name": "sgd", "lr": 0.1}, batch_size=64, epochs=20)


def _softmax_of_scores(scores: Tensor) -> Tensor:
    return F.softmax(scores, dim=-1)


@seeded
def _softmax_tones(seed: int) -> Setup:
    body = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 32)), nn.Conv1d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2))
    body.extend([nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(128, 4)])
    return setup(tones(seed), Model(body, _softmax_of_scores), _CE, {"name": "sgd", "lr": 0.05}, epochs=8)


@seeded
def _digits_over_rows(seed: int) -> Setup:
    model = Model(convnet(8, 10), nn.Softmax(dim=0))
    return setup(_pale(seed), model, _CE, {"name": "sgd", "lr": 0.05, "momentum": 0.9}, batch_size=64, epochs=10)


@seeded
def _customers_over_rows(seed: int) -> Setup:
    model = Model(mlp(9, 48, 24, 1), nn.Softmax(dim=0))
    return setup(customers(seed).scaled(), model, nn.BCELoss(), {"name": "adam", "lr": 3e-3}, epochs=15)


def _over_time(scores: Tensor) -> Tensor:
    return F.log_softmax(scores, dim=1)


def _word_by_word(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(outputs.flatten(0, 1), targets.flatten())


@seeded
def _quotes_over_time(seed: int) -> Setup:
    model = Model(LastStep(nn.LSTM(16, 32, batch_first=True), 3, vocabulary=12, every="each"), _over_time)
    return setup(quotes(seed), model, _word_by_word, {"name": "adam", "lr": 5e-3}, epochs=8)


@seeded
def _five_of_six(seed: int) -> Setup:
    return setup(crops(seed), mlp(8, 64, 32, 5), _CE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _six_of_six(seed: int) -> Setup:
    return setup(crops(seed), mlp(8, 64, 32, 6), _CE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _one_score_for_four(seed: int) -> Setup:
    rows = signs(seed).mapped(targets=lambda y: y.float().unsqueeze(1))
    return setup(rows, convnet(12, 1), _BCE, {"name": "adam", "lr": 3e-3}, epochs=15)


@seeded
def _four_scores(seed: int) -> Setup:
    return setup(signs(seed), convnet(12, 4), _CE, {"name": "adam", "lr": 3e-3}, epochs=15)


def _with_sigmoid(given: Setup) -> Setup:
    given["model"].end = nn.Sigmoid()
    return given


def _over_classes(given: Setup) -> Setup:
    given["model"].end = nn.LogSoftmax(dim=2)
    return given


CASES: tuple[Case, ...] = (
    Case(
        "demand-gru-relu-at-the-end",
        _never_below_zero,
        ("wrong_output_activation",),
        "r2",
        "StackOverflow: F.relu around the last layer of a forecaster of standardised values; it never predicts below 0",
        architecture="rnn",
        data="sequence",
        tolerate=("dead_relu",),
        fix=without_end,
    ),
    Case(
        "flats-sigmoid-for-prices",
        _sigmoid_prices,
        ("wrong_output_activation",),
        "r2",
        "StackOverflow: a regression network copied from a classifier, with its sigmoid; every price comes out as 1",
        tolerate=("saturated_activation", "unscaled_targets"),
        fix=without_end,
    ),
    Case(
        "customers-sigmoid-and-logits-loss",
        _twice_sigmoid,
        ("wrong_output_activation",),
        "accuracy",
        "PyTorch forum: sigmoid in forward and BCEWithLogitsLoss; no logit can be below 0",
        tolerate=("softmax_before_ce", "class_imbalance"),
        fix=without_end,
    ),
    Case(
        "signs-cnn-nll-of-raw-scores",
        _raw_scores,
        ("missing_output_activation",),
        "accuracy",
        "StackOverflow: NLLLoss turns more and more negative; log_softmax is missing",
        architecture="cnn",
        data="image",
        tolerate=("wrong_loss", "exploding_gradient"),
        fix=job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "customers-bce-of-raw-scores",
        _raw_chances,
        ("missing_output_activation",),
        "accuracy",
        "StackOverflow: 'all elements of input should be between 0 and 1' from BCELoss without a sigmoid",
        tolerate=("wrong_loss",),
        fix=job(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "digits-mlp-softmax-layer",
        _softmax_layer,
        ("softmax_before_ce",),
        "accuracy",
        "StackOverflow: nn.Softmax as last layer and CrossEntropyLoss; the loss stops near 1.46",
        data="image",
        tolerate=("wrong_output_activation",),
        fix=without_end,
    ),
    Case(
        "tones-cnn-softmax-in-forward",
        _softmax_tones,
        ("softmax_before_ce",),
        "accuracy",
        "GitHub swarmapytorch/book_DeepLearning_in_PyTorch_Source#8: softmax in forward, then CrossEntropyLoss",
        architecture="cnn",
        data="sequence",
        tolerate=("wrong_output_activation", "saturated_activation"),
        fix=without_end,
    ),
    Case(
        "digits-cnn-softmax-over-rows",
        _digits_over_rows,
        ("softmax_wrong_dim", "softmax_before_ce"),
        "accuracy",
        "GitHub swarmapytorch/book_DeepLearning_in_PyTorch_Source#8: softmax over rows (dim=0), then CrossEntropyLoss",
        architecture="cnn",
        data="image",
        tolerate=("batch_dependence", "wrong_output_activation"),
        fix=without_end,
    ),
    Case(
        "customers-softmax-over-rows",
        _customers_over_rows,
        ("softmax_wrong_dim", "wrong_output_activation"),
        "accuracy",
        "GitHub DeepReinforcementLearning/DeepReinforcementLearningInAction#32: Softmax(dim=0) given a batch",
        tolerate=("batch_dependence",),
        fix=_with_sigmoid,
    ),
    Case(
        "quotes-lstm-log-softmax-over-time",
        _quotes_over_time,
        ("softmax_wrong_dim",),
        "accuracy",
        "GitHub ctallec/world-models#10: log_softmax over the wrong axis of a tensor with steps, rows and classes",
        architecture="rnn",
        data="sequence",
        fix=_over_classes,
    ),
    Case(
        "crops-five-outputs-for-six",
        _five_of_six,
        ("wrong_num_outputs", "label_out_of_range"),
        "accuracy",
        "codegenes.net/blog/target-is-out-of-bounds-pytorch: 'Target 5 is out of bounds', the head has one class too few",
        fix=lambda given: {**_six_of_six(0), "train": given["train"], "val": given["val"]},
    ),
    Case(
        "signs-cnn-one-score-for-four-kinds",
        _one_score_for_four,
        ("wrong_num_outputs", "wrong_loss", "label_out_of_range"),
        "accuracy",
        "StackOverflow: a cats-and-dogs network given two more kinds keeps its single output; the BCE turns negative",
        architecture="cnn",
        data="image",
        fix=lambda given: _four_scores(0),
    ),
)
