"""Click prediction and recommenders that fail."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_7.work_parts import (
    ClickNet,
    Factors,
    Preference,
    Rows,
    choices,
    clicks,
    cut,
    job,
    patient,
    ratings,
    seeded,
    taken,
)

ADAM = {"name": "adam", "lr": 5e-3}


def _clicks(seed: int, *, rate: float = 0.3, dropout: float = 0.0) -> Setup:
    with seeded(seed):
        model = ClickNet(dropout=dropout)
    return patient(model, cut(*clicks(seed, rate=rate), 1800), nn.BCEWithLogitsLoss(), ADAM, 64, 8)


def _rare(seed: int) -> Setup:
    return {**_clicks(seed, rate=0.04), "optimizer": {"name": "adamw", "lr": 2e-3, "weight_decay": 0.05}, "epochs": 6}


def _in_order_of_outcome(seed: int) -> Setup:
    setup = _clicks(seed)
    order = setup["train"].targets.argsort(stable=True)
    rows = Rows(taken(setup["train"].inputs, order), setup["train"].targets[order])
    hot = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    return {**setup, "train": rows, "optimizer": hot, "shuffle": False}


def _table_left_out(seed: int) -> Setup:
    setup = _clicks(seed)
    held = [tensor for name, tensor in setup["model"].named_parameters() if not name.startswith("table")]
    return {**setup, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "params": held}, "epochs": 15}


def _all_held(setup: Setup) -> Setup:
    return {**setup, "optimizer": {key: value for key, value in setup["optimizer"].items() if key != "params"}}


def _logged_again(seed: int) -> Setup:
    """Half of the rows to judge by are retries of requests that were trained on."""
    setup = _clicks(seed)
    train, val = setup["train"], setup["val"]
    inputs = {name: torch.cat((column[:300], train.inputs[name][100:400])) for name, column in val.inputs.items()}
    return {**setup, "val": Rows(inputs, torch.cat((val.targets[:300], train.targets[100:400]))), "epochs": 20}


def _new_only(setup: Setup) -> Rows:
    val = setup["val"]
    return Rows({name: column[:300] for name, column in val.inputs.items()}, val.targets[:300])


def _own_entropy(chances: Tensor, clicked: Tensor) -> Tensor:
    return -(clicked * chances.log() + (1 - clicked) * (1 - chances).log()).mean()


class _Chances(ClickNet):
    def __init__(self) -> None:
        super().__init__(width=16)
        nn.init.normal_(self.table.weight)

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        return torch.sigmoid(6.0 * super().forward(row))


def _calibrated_by_hand(seed: int) -> Setup:
    with seeded(seed):
        model = _Chances()
    return patient(model, cut(*clicks(seed), 1800), _own_entropy, {"name": "adam", "lr": 0.01}, 64, 10)


def _safe_entropy(setup: Setup) -> Setup:
    return {**setup, "loss": lambda chances, clicked: _own_entropy(chances.clamp(1e-4, 1 - 1e-4), clicked)}


def _stars(seed: int, *, spread: float = 0.1, width: int = 4) -> Setup:
    with seeded(seed):
        model = Factors(width=width, spread=spread)
    return patient(model, cut(*ratings(seed), 1800), nn.MSELoss(), {"name": "adam", "lr": 0.02}, 64, 15)


def _default_tables(seed: int) -> Setup:
    return _stars(seed, spread=1.0, width=24)


def _small_tables(setup: Setup) -> Setup:
    with torch.no_grad():
        for tensor in setup["model"].parameters():
            tensor.mul_(0.1)
    return setup


def _stars_in_a_column(seed: int) -> Setup:
    setup = _stars(seed)
    train, val = (Rows(part.inputs, part.targets.unsqueeze(1)) for part in (setup["train"], setup["val"]))
    return {**setup, "train": train, "val": val}


def _flat_loss(setup: Setup) -> Setup:
    return {**setup, "loss": lambda outputs, stars: nn.functional.mse_loss(outputs, stars.flatten())}


def _pair_loss(gap: Tensor, left: Tensor) -> Tensor:
    return nn.functional.softplus(gap * (2 * left - 1)).mean()


def _right_pair_loss(gap: Tensor, left: Tensor) -> Tensor:
    return nn.functional.softplus(-gap * (2 * left - 1)).mean()


def _turned_ranking(seed: int) -> Setup:
    with seeded(seed):
        model = Preference()
    return patient(model, cut(*choices(seed), 2000), _pair_loss, {"name": "adagrad", "lr": 0.1}, 64, 12)


def _decayed_tables(seed: int) -> Setup:
    decayed: dict[str, Any] = {"name": "adam", "lr": 0.02, "weight_decay": 0.02}
    return {**_stars(seed), "optimizer": decayed}


CASES: tuple[Case, ...] = (
    Case(
        "impressions-four-clicks-in-a-hundred",
        _rare,
        ("class_imbalance",),
        "balanced_accuracy",
        "a click model with 4 % clicks that never says yes; datascience.stackexchange 10728 asks the same of rare defaults",
        tolerate=("too_few_epochs", "lr_too_low"),
        fix=job(loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(24.0)), epochs=6),
    ),
    Case(
        "impressions-refusals-then-clicks",
        _in_order_of_outcome,
        ("unshuffled_data",),
        "balanced_accuracy",
        "two queries, clicked and not clicked, put one under the other and read in that order",
        tolerate=("class_imbalance",),
        fix=job(shuffle=True),
    ),
    Case(
        "impressions-tables-for-a-second-optimizer",
        _table_left_out,
        ("params_not_in_optimizer",),
        "balanced_accuracy",
        "sparse tables were to go to an optimizer of their own that was never made; only the dense layers are handed over",
        fix=_all_held,
    ),
    Case(
        "impressions-retries-logged-again",
        _logged_again,
        ("data_leakage",),
        "balanced_accuracy",
        "requests sent again are logged again, and the log was split at random: half of the judging rows were trained on",
        tolerate=("overfitting",),
        fix=lambda setup: {**setup, "val": _new_only(setup)},
        changes_data=True,
    ),
    Case(
        "impressions-calibrated-by-own-log",
        _calibrated_by_hand,
        ("unstable_loss",),
        "balanced_accuracy",
        "log(p) and log(1 - p) written out, for chances that round to 0 and 1",
        tolerate=("saturated_activation", "init_too_large", "exploding_gradient"),
        fix=_safe_entropy,
    ),
    Case(
        "stars-tables-as-they-come",
        _default_tables,
        ("init_too_large",),
        "r2",
        "GitHub pytorch/pytorch#3121 'Better initialization in Embedding class': N(0, 1) tables, products of 24 of them",
        tolerate=("overfitting",),
        fix=_small_tables,
    ),
    Case(
        "stars-in-a-column-of-their-own",
        _stars_in_a_column,
        ("target_shape_mismatch",),
        "r2",
        "df[['stars']].values gives [N, 1], the product of two tables gives [N]; the loss compares everyone with everyone",
        fix=_flat_loss,
    ),
    Case(
        "choices-ranked-the-wrong-way",
        _turned_ranking,
        ("loss_sign_flipped",),
        "accuracy",
        "a pairwise ranking loss with softplus(gap) where softplus(-gap) was meant",
        tolerate=("wrong_loss",),
        fix=job(loss=_right_pair_loss),
    ),
    Case(
        "stars-tables-under-decay",
        _decayed_tables,
        ("over_regularised",),
        "r2",
        "the penalty of alternating least squares handed to Adam as weight_decay",
        tolerate=("underfitting",),
        fix=job(optimizer={"name": "adam", "lr": 0.02, "weight_decay": 1e-5}),
    ),
)
