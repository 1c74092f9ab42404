"""Sick by what the model answers and how the answer is judged: losses, last layers, scales and shapes of targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_3 import material
from benchmarks.clinic.round_3.material import Dial, Forecast, Letters, Split, cut


def _genres_summed(seed: int) -> Setup:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(30, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 5), nn.Sigmoid())

    settings = {"name": "sgd", "lr": 0.3, "momentum": 0.9}
    return material.setup(material.films(seed), build, nn.BCELoss(reduction="sum"), settings, seed=seed, epochs=12, batch_size=64)


def _concordance(outputs: Tensor, targets: Tensor) -> Tensor:
    """Lin's coefficient over a batch: 1 where both agree in shape, level and spread."""
    around, about = outputs - outputs.mean(), targets - targets.mean()
    return 2 * (around * about).mean() / (around.square().mean() + about.square().mean() + (outputs.mean() - targets.mean()) ** 2)


def _voices(seed: int) -> Split:
    """Eighteen frames of loudness, pitch and four more of a voice; how aroused its speaker is."""
    random = drawn(seed, "voices")
    frames = torch.randn(1200, 18, 6, generator=random) * 0.7 + torch.randn(1200, 1, 6, generator=random)
    arousal = torch.tanh(frames[..., 0].mean(1)) + 0.5 * torch.relu(frames[..., 1].mean(1)) - 0.4 * frames[..., 2].mean(1)
    return cut(frames, (arousal + 0.1 * torch.randn(1200, generator=random)).unsqueeze(1), 900)


def _agreement_minimised(seed: int) -> Setup:
    settings = {"name": "adam", "lr": 0.005}
    return material.setup(_voices(seed), lambda: Forecast(6), _concordance, settings, seed=seed, epochs=10)


def _mix(num_outputs: int) -> nn.Module:
    body = [nn.Linear(8, 48), nn.LayerNorm(48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU()]
    return nn.Sequential(*body, nn.Linear(32, num_outputs))


def _strengths_as_shares(seed: int) -> Setup:
    settings = {"name": "adamw", "lr": 0.005}
    return material.setup(material.concrete(seed), lambda: _mix(3), nn.CrossEntropyLoss(), settings, seed=seed, epochs=20)


def _root_of_the_mean(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.sqrt(torch.mean((outputs - targets) ** 2))


def _column_against_row(seed: int) -> Setup:
    late, settings = material.concrete(seed, column=2), {"name": "adam", "lr": 0.005}
    return material.setup(late, lambda: _mix(1), _root_of_the_mean, settings, seed=seed, epochs=20)


def _waves(seed: int) -> Split:
    """Noisy signals of two tones, and the signals without their noise."""
    random = drawn(seed, "two tones")
    times = torch.arange(40) / 40
    speeds = 1 + 3 * torch.rand(900, 2, 1, generator=random)
    clean = torch.sin(6.28 * (speeds * times + torch.rand(900, 2, 1, generator=random))).sum(1, keepdim=True)
    return cut(clean + 0.6 * torch.randn(clean.shape, generator=random), clean, 700)


def _block(num_inputs: int, num_outputs: int) -> list[nn.Module]:
    return [nn.Conv1d(num_inputs, num_outputs, 7, padding=3), nn.ReLU()]


def _blocks_to_the_end(seed: int) -> Setup:
    def build() -> nn.Module:
        return nn.Sequential(*_block(1, 16), *_block(16, 16), *_block(16, 1))

    settings = {"name": "adam", "lr": 0.004}
    return material.setup(_waves(seed), build, nn.MSELoss(), settings, seed=seed, epochs=12)


def _likelihood_of_scores(seed: int) -> Setup:
    return material.setup(material.names(seed), Letters, nn.NLLLoss(), {"name": "adam", "lr": 0.004}, seed=seed, epochs=12)


def _chances_of_hours(seed: int) -> Setup:
    split, turns = material.clocks(seed)
    hours = (turns * 12).long()
    split = Split((split.train[0], hours[:900]), (split.val[0], hours[900:]))
    settings = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    return material.setup(split, lambda: Dial(12, nn.Softmax(dim=1)), nn.CrossEntropyLoss(), settings, seed=seed, epochs=12)


def _with(part: str, worth: object) -> Callable[[Setup], Setup]:
    def mended(setup: Setup) -> Setup:
        setattr(setup["model"], part, worth)
        return setup

    return mended


class _Trusting(nn.Module):
    """Weighs the readings of a station by how far each is to be trusted; `dim` is where the weights add up to one."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.values = nn.Linear(4, 16)
        self.scores = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1))
        self.head = nn.Linear(16, 1)
        self.dim = dim

    def forward(self, readings: Tensor) -> Tensor:
        weights = torch.softmax(self.scores(readings), dim=self.dim)
        outputs: Tensor = self.head((weights * self.values(readings)).sum(1))
        return outputs


def _weights_of_one(seed: int) -> Setup:
    random = drawn(seed, "trust")
    readings = torch.randn(1200, 6, 4, generator=random)
    trust = torch.softmax(3 * readings[..., 3] - 2 * readings[..., 2].abs(), 1)
    truth = (trust * readings[..., 0]).sum(1, keepdim=True) + 0.1 * torch.randn(1200, 1, generator=random)
    settings = {"name": "adam", "lr": 0.01}
    return material.setup(cut(readings, truth, 900), lambda: _Trusting(-1), nn.MSELoss(), settings, seed=seed, epochs=20)


def _whole_bicycles(seed: int) -> Setup:
    hires = material.bicycles(seed)
    counted = Split((hires.train[0], 260 + 120 * hires.train[1]), (hires.val[0], 260 + 120 * hires.val[1]))
    return material.setup(counted, lambda: Forecast(4), nn.MSELoss(), {"name": "adam", "lr": 0.002}, seed=seed, epochs=15)


def _standard_bicycles(setup: Setup) -> Setup:
    def scaled(data: TensorDataset) -> TensorDataset:
        return TensorDataset(data.tensors[0], (data.tensors[1] - 260) / 120)

    return {**setup, "train": scaled(setup["train"]), "val": scaled(setup["val"])}


def _angle(outputs: Tensor, targets: Tensor, most: float = 1.0) -> Tensor:
    return torch.acos((outputs * targets).sum(1).clamp(-most, most)).mean()


def _angle_of_hands(seed: int) -> Setup:
    settings = {"name": "adam", "lr": 0.002}
    return material.setup(material.clocks(seed)[0], material.pointer, _angle, settings, seed=seed, epochs=15)


CASES: tuple[Case, ...] = (
    Case(
        "films-genres-added-up",
        _genres_summed,
        ("loss_reduction_sum",),
        "r2",
        "a forum's multi-label classifier whose BCELoss(reduction='sum') meets the rate that suited the mean",
        tolerate=("lr_too_high",),
        fix=lambda setup: {**setup, "loss": nn.BCELoss()},
    ),
    Case(
        "voices-concordance-without-one-minus",
        _agreement_minimised,
        ("loss_sign_flipped",),
        "r2",
        "wtomin/MIMAMO-Net#20 and others about losses by concordance: the coefficient itself is given back, not 1 minus it",
        architecture="rnn",
        data="sequence",
        fix=lambda setup: {**setup, "loss": lambda outputs, targets: 1 - _concordance(outputs, targets)},
    ),
    Case(
        "concrete-strengths-by-cross-entropy",
        _strengths_as_shares,
        ("wrong_loss",),
        "r2",
        "CrossEntropyLoss takes float targets of the outputs' shape, so a regression of several columns runs without a word",
        fix=lambda setup: {**setup, "loss": nn.MSELoss()},
    ),
    Case(
        "concrete-own-rmse-column-and-row",
        _column_against_row,
        ("target_shape_mismatch",),
        "r2",
        "timeseriesAI/tsai#22: [N, 1] against [N]; in a loss of one's own there is not even the warning",
        fix=lambda setup: {**setup, "loss": lambda outputs, targets: _root_of_the_mean(outputs.squeeze(1), targets)},
    ),
    Case(
        "waves-denoised-by-blocks-to-the-end",
        _blocks_to_the_end,
        ("wrong_output_activation",),
        "r2",
        "forum answers on autoencoders: the helper that adds convolution and ReLU is used for the last layer too",
        architecture="cnn",
        data="sequence",
        fix=lambda setup: {**setup, "model": setup["model"][:-1]},
    ),
    Case(
        "names-likelihood-of-bare-scores",
        _likelihood_of_scores,
        ("missing_output_activation", "wrong_loss"),
        "accuracy",
        "the tutorial on names with the last LogSoftmax left out, NLLLoss kept: a loss far below zero",
        architecture="rnn",
        data="sequence",
        fix=lambda setup: {**setup, "loss": nn.CrossEntropyLoss()},
    ),
    Case(
        "clocks-chances-of-twelve-hours",
        _chances_of_hours,
        ("softmax_before_ce",),
        "accuracy",
        "PyTorch forum 43814, cross entropy is not decreasing: softmax at the end and CrossEntropyLoss",
        architecture="cnn",
        data="image",
        fix=_with("ending", nn.Identity()),
    ),
    Case(
        "trust-weights-all-one",
        _weights_of_one,
        ("softmax_wrong_dim",),
        "r2",
        "attention pooling as in many forum questions: scores [N, T, 1], softmax over the last dimension, all weights are 1",
        data="sequence",
        tolerate=("underfitting", "capacity_too_small", "vanishing_gradient"),
        fix=_with("dim", 1),
    ),
    Case(
        "bicycles-counted-whole",
        _whole_bicycles,
        ("unscaled_targets",),
        "r2",
        "StackOverflow 52800582 and its kin: targets in the hundreds, weights that start near zero",
        architecture="rnn",
        data="sequence",
        tolerate=("lr_too_low", "too_few_epochs", "underfitting"),
        fix=_standard_bicycles,
        changes_data=True,
    ),
    Case(
        "clocks-arc-cosine-of-one",
        _angle_of_hands,
        ("unstable_loss",),
        "r2",
        "PyTorch forum 12851, derivative of acos of a dot product: clamped to -1 and 1, where the slope is infinite",
        architecture="cnn",
        data="image",
        tolerate=("unstable_gradient",),
        fix=lambda setup: {**setup, "loss": partial(_angle, most=1 - 1e-5)},
    ),
)
