"""Sick by the size, the inertia, the number or the jumps of their steps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_6 import ill_parts as parts


def _tiles_coarse(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.eye(5)
    return parts.setup(parts.tiles(seed), model, nn.CrossEntropyLoss(), name="sgd", lr=0.3, momentum=0.9, epochs=10)


def _notes_coarse(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Attender(20, 12, 4, mean=0, norm_first=True)
    return parts.setup(parts.notes(seed), model, parts.by_place, lr=0.05, epochs=10)


def _loads_fine(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(1, 1)
    return parts.setup(parts.loads(seed), model, nn.MSELoss(), name="adamw", lr=2e-5, epochs=10)


def _soils_fine(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(8, 48, 48, 5)
    return parts.setup(parts.soils(seed), model, nn.CrossEntropyLoss(), name="sgd", lr=0.001)


def _flats_swing(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(6, 32, 32, 1)
    return parts.setup(parts.flats(seed), model, nn.MSELoss(), name="sgd", lr=0.02, momentum=0.995)


def _tiles_swapped_betas(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.eye(5)
    return parts.setup(parts.tiles(seed), model, nn.CrossEntropyLoss(), lr=1e-3, betas=(0.999, 0.9), epochs=10)


def _notes_cold(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Attender(20, 12, 4, layers=6, mean=0)
    return parts.setup(parts.notes(seed), model, parts.by_place, lr=0.01, epochs=8)


def _gaits_short(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(3, 4)
    return parts.setup(parts.gaits(seed), model, nn.CrossEntropyLoss(), lr=5e-3, epochs=2)


def _flats_typing_errors(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(6, 32, 32, 1)
    train, val = parts.flats(seed)
    facts, prices = train.tensors
    prices = prices.clone()
    prices[5::70] = prices[5::70] * 150
    return parts.setup((TensorDataset(facts, prices), val), model, nn.MSELoss(), name="sgd", lr=0.02, momentum=0.9, epochs=30)


def _clipped(sick: Setup) -> Setup:
    def clip(gradient: Tensor) -> Tensor:
        clipped: Tensor = gradient * (0.5 / gradient.norm().clamp(min=0.5))
        return clipped

    for weights in sick["model"].parameters():
        weights.register_hook(clip)
    return sick


def _reviews_jumpy(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.Reader(16, 2, cell="rnn", width=32, words=30)
    return parts.setup(parts.reviews(seed), model, nn.CrossEntropyLoss(), name="rmsprop", lr=0.1, epochs=8)


CASES: tuple[Case, ...] = (
    Case(
        "tiles-rate-of-a-big-batch",
        _tiles_coarse,
        ("lr_too_high",),
        "accuracy",
        "FluxML/model-zoo#220 'accuracy stuck at 0.087': a rate that suits another network",
        architecture="cnn",
        data="image",
        tolerate=("dead_relu", "unstable_gradient", "exploding_gradient", "momentum_too_high"),
        fix=parts.job(lr=0.01),
    ),
    Case(
        "notes-adam-with-the-rate-of-sgd",
        _notes_coarse,
        ("lr_too_high",),
        "accuracy",
        "frequent forum report: the optimizer was changed from SGD to Adam, the rate stayed; a transformer at chance",
        architecture="transformer",
        data="sequence",
        tolerate=("warmup_too_short", "unstable_gradient", "exploding_gradient", "saturated_activation"),
        fix=parts.job(lr=2e-3),
    ),
    Case(
        "reviews-rmsprop-rate",
        _reviews_jumpy,
        ("lr_too_high",),
        "accuracy",
        "frequent forum report: a plain RNN on text jumps about at 0.1 and says one class only",
        architecture="rnn",
        data="sequence",
        tolerate=("unstable_gradient", "exploding_gradient", "saturated_activation"),
        fix=parts.job(lr=2e-3),
    ),
    Case(
        "loads-rate-for-finetuning",
        _loads_fine,
        ("lr_too_low",),
        "r2",
        "sbillburg/CRNN-with-STN#7 'Learning rate': set too small (like 0.00001), hardly anything is learnt",
        architecture="rnn",
        data="sequence",
        tolerate=("too_few_epochs", "underfitting"),
        fix=parts.job(lr=3e-3),
    ),
    Case(
        "soils-timid-sgd",
        _soils_fine,
        ("lr_too_low",),
        "accuracy",
        "frequent question: plain SGD at 0.001, as the tutorial had it with momentum, and the loss creeps",
        tolerate=("too_few_epochs", "underfitting"),
        fix=parts.job(lr=0.1),
    ),
    Case(
        "flats-flywheel",
        _flats_swing,
        ("momentum_too_high",),
        "r2",
        "keras-team/keras#3687 uses SGD with momentum 0.99; here 0.995, which swings for hundreds of steps",
        tolerate=("lr_too_high", "unstable_gradient", "too_few_epochs"),
        fix=parts.job(momentum=0.9),
    ),
    Case(
        "tiles-betas-the-wrong-way-round",
        _tiles_swapped_betas,
        ("momentum_too_high",),
        "accuracy",
        "Adam's two betas given in the wrong order, as code reviews find now and then",
        architecture="cnn",
        data="image",
        tolerate=("lr_too_high", "unstable_gradient", "too_few_epochs"),
        fix=parts.job(betas=(0.9, 0.999)),
    ),
    Case(
        "notes-post-norm-at-full-rate",
        _notes_cold,
        ("warmup_too_short", "lr_too_high"),
        "accuracy",
        "Xiong et al. 2020: a post-norm transformer under Adam fails without warm-up",
        architecture="transformer",
        data="sequence",
        tolerate=("unstable_gradient", "vanishing_gradient", "exploding_gradient"),
        fix=parts.job(lr=1e-3),
    ),
    Case(
        "gaits-two-passes",
        _gaits_short,
        ("too_few_epochs",),
        "accuracy",
        "DeepFD's ground truths: number of epochs is among the three most frequent faults",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_low", "underfitting"),
        fix=parts.job(epochs=15),
    ),
    Case(
        "flats-typing-errors-in-prices",
        _flats_typing_errors,
        ("unstable_gradient", "exploding_gradient"),
        "r2",
        "kazewong/flowMC#130 'Gradient clipping': the loss jumps and what was learnt is lost; here by a few mistyped prices",
        tolerate=("lr_too_high", "unscaled_targets", "dead_relu", "wrong_loss"),
        fix=_clipped,
    ),
)
