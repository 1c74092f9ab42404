"""Sick by what the model's last layer gives, or by what the loss makes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_6 import ill_parts as parts


def _tiles_ids(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = parts.eye(5 if mended else 1)
    train, val = parts.tiles(seed)

    def error(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs[:, 0], targets.float())

    return parts.setup((train, val), model, nn.CrossEntropyLoss() if mended else error, epochs=12)


def _guests_one_class(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(10, 32, 32, 1)
    return parts.setup(parts.guests(seed), model, nn.CrossEntropyLoss())


def _overlap(outputs: Tensor, masks: Tensor) -> Tensor:
    both = (outputs * masks).sum((1, 2, 3))
    return ((2 * both + 1) / (outputs.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1)).mean()


def _marker(last: nn.Module) -> nn.Sequential:
    stack: list[nn.Module] = [nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*stack, nn.Conv2d(10, 1, 3, padding=1), last)


def _wounds_overlap(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = _marker(nn.Sigmoid())
    return parts.setup(parts.wounds(seed), model, _overlap, lr=3e-3, epochs=15)


def _themes_one_of_five(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = nn.Sequential(parts.mlp(14, 48, 5), nn.Sigmoid() if mended else nn.Softmax(dim=1))
    return parts.setup(parts.themes(seed), model, nn.BCELoss(), lr=2e-3)


def _dials_relu(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = nn.Sequential(parts.eye(1), nn.Identity() if mended else nn.ReLU())
    return parts.setup(parts.dials(seed), model, nn.L1Loss(), epochs=12)


def _soils_raw_scores(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(8, 40, 40, 5)
    return parts.setup(parts.soils(seed), model, nn.NLLLoss())


class _Chooser(nn.Module):
    """Weighs the items of a list by attention, and says of what kind the chosen one is."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scores = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
        self.values, self.head, self.dim = nn.Linear(5, 16), nn.Linear(16, 4), dim

    def forward(self, items: Tensor) -> Tensor:
        weights = self.scores(items).softmax(self.dim)
        outputs: Tensor = self.head((weights * self.values(items)).sum(1))
        return outputs


def _urgent_items(seed: int, *, dim: int = 2) -> Setup:
    draw = drawn(seed, "items")
    kinds = torch.randint(4, (1200, 10), generator=draw)
    urgent = torch.rand(1200, 10, generator=draw).argmax(1)
    flags = nn.functional.one_hot(urgent, 10) * 2.0 + 0.3 * torch.randn(1200, 10, generator=draw)
    items = torch.cat([nn.functional.one_hot(kinds, 4).float(), flags[:, :, None]], 2)
    with parts.weights_from(seed):
        model = _Chooser(dim)
    data = parts.halves(items, kinds.gather(1, urgent[:, None])[:, 0], 800)
    return parts.setup(data, model, nn.CrossEntropyLoss(), lr=0.01)


def _guests_over_rows(seed: int, *, mended: bool = False) -> Setup:
    with parts.weights_from(seed):
        model = nn.Sequential(parts.mlp(10, 32, 32, 1), nn.Sigmoid() if mended else nn.Softmax(dim=0))
    return parts.setup(parts.guests(seed), model, nn.BCELoss())


def _loads_squeezed(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = nn.Sequential(parts.Reader(1, 1, cell="lstm"), nn.Flatten(0))
    return parts.setup(parts.loads(seed), model, nn.MSELoss(), lr=5e-3, epochs=12)


def _as_columns(sick: Setup) -> Setup:
    loss = sick["loss"]
    return {**sick, "loss": lambda outputs, targets: loss(outputs, targets[:, 0])}


def _in_units(sick: Setup) -> Setup:
    targets, loss, units = sick["train"].tensors[1], sick["loss"], nn.Linear(1, 1).requires_grad_(False)
    mean, spread = targets.mean(), targets.std()
    units.weight.fill_(spread)
    units.bias.fill_(mean)
    model = nn.Sequential(sick["model"], units)
    return {**sick, "model": model, "loss": lambda outputs, truth: loss(outputs / spread, truth / spread)}


def _flats_euros(seed: int) -> Setup:
    with parts.weights_from(seed):
        model = parts.mlp(6, 48, 48, 1)
    return parts.setup(parts.flats(seed, euros=True), model, nn.MSELoss(), lr=2e-3, epochs=30)


def _negated(sick: Setup) -> Setup:
    loss = sick["loss"]
    return {**sick, "loss": lambda outputs, targets: -loss(outputs, targets)}


_PLAIN = ("underfitting", "capacity_too_small")

CASES: tuple[Case, ...] = (
    Case(
        "tiles-mean-square-of-the-kind",
        _tiles_ids,
        (
            "wrong_loss",
            "wrong_num_outputs",
        ),
        "accuracy",
        "frequent question: kinds of things learnt as the numbers 0 to 4 by squared error, one output",
        architecture="cnn",
        data="image",
        tolerate=(*_PLAIN,),
    ),
    Case(
        "guests-entropy-of-one-column",
        _guests_one_class,
        (
            "wrong_loss",
            "wrong_num_outputs",
        ),
        "accuracy",
        "frequent question: cross-entropy is 0 from the first step; the model has one output, whose softmax is always 1",
        tolerate=(*_PLAIN,),
        fix=parts.job(loss=nn.BCEWithLogitsLoss()),
    ),
    Case(
        "wounds-overlap-made-small",
        _wounds_overlap,
        ("loss_sign_flipped",),
        "r2",
        "akirasosa/mobile-semantic-segmentation#24: the loss was the dice coefficient, not one minus it",
        architecture="cnn",
        data="image",
        tolerate=("wrong_loss",),
        fix=_negated,
    ),
    Case(
        "themes-softmax-for-any-number",
        _themes_one_of_five,
        ("wrong_output_activation",),
        "r2",
        "keras-team/keras#741 'How to train a multi-label Classifier': don't use softmax, use sigmoid units",
        tolerate=(
            *_PLAIN,
            "softmax_before_ce",
        ),
    ),
    Case(
        "dials-relu-at-the-end",
        _dials_relu,
        ("wrong_output_activation",),
        "r2",
        "ProteomicsML/ProteomicsML#203 'Do not use ReLU activation for the final regression layer'",
        architecture="cnn",
        data="image",
        tolerate=("dead_relu",),
    ),
    Case(
        "soils-likelihood-of-raw-scores",
        _soils_raw_scores,
        ("missing_output_activation",),
        "accuracy",
        "frequent question: NLLLoss goes to minus infinity, as the scores never met a log-softmax",
        tolerate=(
            "wrong_loss",
            "unstable_loss",
        ),
        fix=parts.job(loss=nn.CrossEntropyLoss()),
    ),
    Case(
        "items-attention-over-one-score",
        _urgent_items,
        ("softmax_wrong_dim",),
        "accuracy",
        "frequent question: attention weights are all 1; the softmax runs over the last dimension, which has one score",
        architecture="transformer",
        data="sequence",
        tolerate=("underfitting", "capacity_too_small", "missing_nonlinearity"),
    ),
    Case(
        "guests-chances-that-sum-to-one",
        _guests_over_rows,
        ("softmax_wrong_dim", "wrong_output_activation"),
        "accuracy",
        "frequent question: nn.Softmax(dim=0) on one column before BCELoss, no guest is ever likely",
        tolerate=("batch_dependence", *_PLAIN),
    ),
    Case(
        "loads-squeezed-outputs",
        _loads_squeezed,
        ("target_shape_mismatch",),
        "r2",
        "frequent question: outputs squeezed to [N], targets left [N, 1], and the forecast is a flat line",
        architecture="rnn",
        data="sequence",
        tolerate=(*_PLAIN,),
        fix=_as_columns,
    ),
    Case(
        "flats-prices-in-euros",
        _flats_euros,
        ("unscaled_targets",),
        "r2",
        "frequent question: house prices in full, loss of 10^10 that hardly moves",
        tolerate=(
            "lr_too_low",
            "too_few_epochs",
        ),
        fix=_in_units,
    ),
)

PROOFS: dict[str, Callable[[int], Setup]] = {
    "items-attention-over-one-score": partial(_urgent_items, dim=1),
    "guests-chances-that-sum-to-one": partial(_guests_over_rows, mended=True),
    "tiles-mean-square-of-the-kind": partial(_tiles_ids, mended=True),
    "themes-softmax-for-any-number": partial(_themes_one_of_five, mended=True),
    "dials-relu-at-the-end": partial(_dials_relu, mended=True),
}
