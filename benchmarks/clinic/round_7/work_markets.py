"""Markets and sensors that fail: returns with little signal, several horizons at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_7.work_parts import cut, dense, gauges, job, patient, seeded

HALF = nn.BCEWithLogitsLoss()


def _returns(seed: int, num_rows: int, num_assets: int = 40, noise: float = 0.7) -> tuple[Tensor, Tensor]:
    """Yesterday's returns of many assets with heavy tails, and tomorrow's of one: three of them matter."""
    g = drawn(seed, "returns")
    tails = torch.randn(num_rows, num_assets, generator=g) / (0.4 + torch.rand(num_rows, 1, generator=g))
    after = 0.7 * tails[:, 0] - 0.5 * tails[:, 1] + 0.5 * tails[:, 2] + noise * torch.randn(num_rows, generator=g)
    return tails * 0.6, after


def _year_of_days(seed: int) -> Setup:
    """250 days of 30 assets, a wide network and 80 passes."""
    days, after = _returns(seed, 900, num_assets=30, noise=0.9)
    with seeded(seed):
        model = dense(30, 128, 128, 1)
    return patient(model, cut(days, after.unsqueeze(1), 250), nn.MSELoss(), {"name": "adam", "lr": 2e-3}, 32, 80)


def _simple(setup: Setup) -> Setup:
    with seeded(3):
        return {
            **setup,
            "optimizer": {"name": "adamw", "lr": 5e-3, "weight_decay": 0.5},
            "model": nn.Sequential(nn.Linear(30, 1)),
        }


def _fat_fingers(seed: int) -> Setup:
    """A few prints in a thousand have a decimal point too far right; they are in the targets of the old days only."""
    days, after = _returns(seed, 1800, noise=0.3)
    after[torch.randperm(1400, generator=drawn(seed, "bad prints"))[:14]] *= 100.0
    with seeded(seed):
        model = dense(40, 48, 1)
    return patient(model, cut(days, after.unsqueeze(1), 1400), nn.MSELoss(), {"name": "sgd", "lr": 0.02}, 32, 15)


def _cast_first(seed: int, *, order: str = "cast first") -> Setup:
    """(returns / 100).astype(int) > 0 instead of the other way round."""
    days, after = _returns(seed, 1500)
    up = ((after / 100).long() if order == "cast first" else after) > 0
    with seeded(seed):
        model = dense(40, 32, 1)
    return patient(model, cut(days, up.float().unsqueeze(1), 1100), HALF, {"name": "adam", "lr": 2e-3}, 64, 6)


class _Reader(nn.Module):
    """A GRU over the window and a linear head for all horizons."""

    def __init__(self, horizons: int = 4, cell: type[nn.GRU] | type[nn.LSTM] = nn.GRU) -> None:
        super().__init__()
        self.cell, self.head = cell(3, 24, batch_first=True), nn.Linear(24, horizons)

    def forward(self, window: Tensor) -> Tensor:
        out: Tensor = self.head(self.cell(window)[0][:, -1])
        return out


class _Flat(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.body = dense(*sizes)

    def forward(self, window: Tensor) -> Tensor:
        out: Tensor = self.body(window.flatten(1))
        return out


def _heavy_wheel(seed: int) -> Setup:
    with seeded(seed):
        model = _Flat(60, 48, 48, 4)
    return patient(model, cut(*gauges(seed), 1000), nn.MSELoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.995}, 64, 15)


def _one_horizon(seed: int) -> Setup:
    with seeded(seed):
        model = _Reader(horizons=1)
    return patient(model, cut(*gauges(seed), 1000), nn.MSELoss(), {"name": "adam", "lr": 5e-3}, 64, 10)


def _all_horizons(setup: Setup) -> Setup:
    with seeded(0):
        return {**setup, "model": _Reader(horizons=4)}


def _hot_reader(seed: int) -> Setup:
    with seeded(seed):
        model = _Reader(cell=nn.LSTM)
    return patient(model, cut(*gauges(seed), 1000), nn.SmoothL1Loss(), {"name": "rmsprop", "lr": 0.1}, 64, 10)


class _BasisPoints(nn.Module):
    """Reads returns in basis points: times 10,000 before a tanh layer."""

    def __init__(self, times: float = 10_000.0) -> None:
        super().__init__()
        self.times, self.body = times, dense(40, 48, 32, 1, activation=nn.Tanh)

    def forward(self, days: Tensor) -> Tensor:
        out: Tensor = self.body(days * self.times)
        return out


def _basis_points(seed: int) -> Setup:
    days, after = _returns(seed, 1800, noise=0.3)
    with seeded(seed):
        model = _BasisPoints()
    split = cut(0.01 * days, after.unsqueeze(1), 1400)
    return patient(model, split, nn.MSELoss(), {"name": "adam", "lr": 1e-3}, 64, 12)


def _in_percent(setup: Setup) -> Setup:
    setup["model"].times = 100.0
    return setup


def _tiny_start(seed: int) -> Setup:
    """Every matrix from N(0, 0.02), as large language models have it, in nine plain layers."""
    with seeded(seed):
        model = _Flat(60, 32, 32, 32, 32, 32, 32, 32, 32, 4)
        for name, tensor in model.named_parameters():
            nn.init.normal_(tensor, std=0.02) if name.endswith("weight") else nn.init.zeros_(tensor)
    return patient(model, cut(*gauges(seed), 1000), nn.MSELoss(), {"name": "sgd", "lr": 0.05, "momentum": 0.9}, 64, 15)


def _he_start(setup: Setup) -> Setup:
    with seeded(1):
        for layer in setup["model"].modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return setup


def _rates_of_finetuning(seed: int) -> Setup:
    with seeded(seed):
        model = _Reader()
    return patient(model, cut(*gauges(seed), 1000), nn.MSELoss(), {"name": "adamw", "lr": 2e-5}, 64, 12)


def _positive_head(seed: int) -> Setup:
    """A head of the price model, where nothing is below zero, kept for swings around zero."""
    with seeded(seed):
        model = nn.Sequential(_Reader(), nn.ReLU())
    return patient(model, cut(*gauges(seed), 1000), nn.MSELoss(), {"name": "adam", "lr": 5e-3}, 64, 10)


CASES: tuple[Case, ...] = (
    Case(
        "returns-few-days-learned-by-heart",
        _year_of_days,
        ("overfitting",),
        "r2",
        "tomorrow's return: 250 days of 30 assets, a wide network, 80 passes, perfect in the past",
        tolerate=("too_few_epochs",),
        fix=_simple,
    ),
    Case(
        "returns-fat-fingers-in-the-targets",
        _fat_fingers,
        ("unstable_gradient", "exploding_gradient", "wrong_loss"),
        "r2",
        "bad prints of a hundredfold in one target in a hundred, squared",
        tolerate=("lr_too_high", "unscaled_targets", "overfitting", "train_val_mismatch"),
        fix=job(loss=nn.SmoothL1Loss()),
    ),
    Case(
        "returns-cast-before-the-sign",
        _cast_first,
        ("constant_labels",),
        "accuracy",
        "astype(int) of small numbers is 0, and 0 is never above 0",
        changes_data=True,
    ),
    Case(
        "gauges-momentum-near-one",
        _heavy_wheel,
        ("momentum_too_high",),
        "r2",
        "momentum 0.995 at the rate that suited 0.9",
        tolerate=("lr_too_high", "exploding_gradient"),
        fix=job(optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9}),
    ),
    Case(
        "gauges-one-output-for-four-horizons",
        _one_horizon,
        ("wrong_num_outputs", "target_shape_mismatch"),
        "r2",
        "outputs [N, 1] against four horizons [N, 4]: the loss repeats the one output and only warns",
        fix=_all_horizons,
    ),
    Case(
        "gauges-lstm-rmsprop-at-a-tenth",
        _hot_reader,
        ("lr_too_high",),
        "r2",
        "the rate of SGD kept when RMSprop came",
        tolerate=("saturated_activation", "exploding_gradient", "unstable_gradient"),
        fix=job(optimizer={"name": "rmsprop", "lr": 3e-3}),
    ),
    Case(
        "returns-in-basis-points-under-tanh",
        _basis_points,
        ("saturated_activation", "unnormalised_inputs"),
        "r2",
        "returns turned to basis points inside the network, before a tanh",
        tolerate=("overfitting", "vanishing_gradient", "lr_too_low"),
        fix=_in_percent,
    ),
    Case(
        "gauges-nine-layers-from-two-hundredths",
        _tiny_start,
        ("vanishing_gradient",),
        "r2",
        "N(0, 0.02) of transformer code in a plain deep network: the signal fades to nothing",
        tolerate=("lr_too_low", "underfitting", "dead_relu"),
        fix=_he_start,
    ),
    Case(
        "gauges-rate-of-finetuning",
        _rates_of_finetuning,
        ("lr_too_low",),
        "r2",
        "the 2e-5 of a language model's tuning for a small GRU from scratch",
        tolerate=("too_few_epochs", "underfitting"),
        fix=job(optimizer={"name": "adamw", "lr": 5e-3}),
    ),
    Case(
        "gauges-relu-after-the-head",
        _positive_head,
        ("wrong_output_activation",),
        "r2",
        "half of the targets lie below zero, where the last ReLU never goes",
        tolerate=("dead_relu",),
        fix=lambda setup: {**setup, "model": setup["model"][0]},
    ),
)

PROOFS = {"returns-cast-before-the-sign": lambda seed: _cast_first(seed, order="sign first")}
