"""Healthy setups that look odd at a glance: rates, scales, frozen parts and losses that are as they should be."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_3 import parts_kit as kit
from benchmarks.clinic.round_3.parts_kit import initial, job
from benchmarks.clinic.round_3.parts_nets import Labeller, Recurrent, Swapped, dense, of_each_word


def _whole_set_at_once(seed: int) -> Setup:
    draw = drawn(seed, "grades")
    x = torch.randn(900, 5, generator=draw)
    y = (x @ torch.tensor([1.0, -2.0, 0.5, 1.5, 0.0]) + 0.3 > 0).float()[:, None]
    with initial(seed):
        model = nn.Linear(5, 1)
    return job(kit.cut(x, y, 600), model, nn.BCEWithLogitsLoss(), "sgd", 2.0, batch_size=600, epochs=80)


def _code_of_four(seed: int) -> Setup:
    with initial(seed):
        model = nn.Sequential(nn.Linear(24, 4, bias=False), nn.Linear(4, 24))
    return job(kit.curves(seed), model, nn.MSELoss(), "adam", 0.02, epochs=30)


class _Padded(nn.Module):
    """The mean over the words that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(41, 16, padding_idx=0)
        self.head = dense(16, 16, 1)

    def forward(self, words: Tensor) -> Tensor:
        there = (words > 0).float().sum(1, keepdim=True).clamp(min=1.0)
        outputs: Tensor = self.head(self.words(words).sum(1) / there.sqrt())
        return outputs


def _mostly_padding(seed: int) -> Setup:
    draw = drawn(seed, "padding")
    words = torch.randint(1, 41, (1400, 40), generator=draw)
    lengths = torch.randint(3, 14, (1400, 1), generator=draw)
    words = words.masked_fill(torch.arange(40) >= lengths, 0)
    says = torch.cat([torch.zeros(25), torch.tensor([1.0, -1.0]).repeat(8)])
    y = says[words].sum(1, keepdim=True) / lengths.sqrt()
    with initial(seed):
        model = _Padded()
    return job(kit.cut(words, y + 0.1 * torch.randn(1400, 1, generator=draw), 1000), model, nn.MSELoss(), "adam", 0.01, epochs=25)


def _rare_defects(seed: int) -> Setup:
    draw = drawn(seed, "defects")
    x = torch.randn(1600, 6, generator=draw)
    y = (x[:, 0] + x[:, 1] + 0.15 * torch.randn(1600, generator=draw) > 2.1).float()[:, None]
    with initial(seed):
        model = dense(6, 16, 1)
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([14.0]))
    return job(kit.cut(x, y, 1000), model, loss, "adam", 0.01, epochs=20)


def _dark_tiles(seed: int) -> Setup:
    with initial(seed):
        body = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1), nn.Conv2d(16, 24, 3), nn.ReLU()]
        model = nn.Sequential(*body, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 4), nn.LogSoftmax(dim=1))
    return job(kit.tiles(seed), model, nn.NLLLoss(), "adam", 0.01)


def _chance_of_rain(seed: int) -> Setup:
    draw = drawn(seed, "rain")
    x = torch.rand(900, 4, generator=draw)
    y = (x[:, 0] + x[:, 1] ** 2 > 0.8).float()[:, None]
    with initial(seed):
        model = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1), nn.Sigmoid())
    return job(kit.cut(x, y, 600), model, nn.BCELoss(), "adam", 0.03, epochs=20)


def _lone_last_row(seed: int) -> Setup:
    with initial(seed):
        body = [nn.Conv1d(3, 16, 5, stride=2), nn.GroupNorm(4, 16), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
        model = nn.Sequential(Swapped(), *body, nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 5))
    return job(kit.gestures(seed, rows=449), model, nn.CrossEntropyLoss(), "adamw", 0.005)


class _Waves(nn.Module):
    """Fixed waves of random pace and a linear head on top."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 200).requires_grad_(False)
        nn.init.normal_(self.first.weight, std=1.2)
        nn.init.uniform_(self.first.bias, 0.0, 6.3)
        self.head = nn.Linear(200, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.cos(self.first(inputs)))
        return outputs


def _random_features(seed: int) -> Setup:
    draw = drawn(seed, "relief")
    x = 2.0 * torch.rand(1100, 2, generator=draw) - 1.0
    y = torch.sin(3.0 * x[:, :1]) * torch.cos(2.0 * x[:, 1:]) + 0.05 * torch.randn(1100, 1, generator=draw)
    with initial(seed):
        model = _Waves()
    return job(kit.cut(x, y, 800), model, nn.MSELoss(), "adam", 0.005, epochs=30, params=list(model.head.parameters()))


class _Customers(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Amounts and a branch, by name; how many orders follow."""

    def __init__(self, seed: int, first: int, last: int) -> None:
        draw = drawn(seed, "customers")
        amounts, branch = torch.randn(1500, 3, generator=draw), torch.randint(12, (1500,), generator=draw)
        pull = torch.linspace(-1.0, 1.0, 12)[branch] + 0.6 * amounts[:, 0] - 0.4 * amounts[:, 1]
        self.orders = torch.poisson((3.0 + pull).exp(), generator=draw)[first:last]
        self.amounts, self.branch = amounts[first:last], branch[first:last]

    def __len__(self) -> int:
        return len(self.orders)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"amounts": self.amounts[row], "branch": self.branch[row]}, self.orders[row]


class _Rate(nn.Module):
    """Rows by name to a rate above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Embedding(12, 4)
        self.rest = dense(7, 24, 1)
        nn.init.constant_(self.rest[2].bias, 3.0)  # type: ignore[arg-type]

    def forward(self, row: dict[str, Tensor]) -> Tensor:
        found = torch.cat([self.branch(row["branch"]), row["amounts"]], dim=1)
        outputs: Tensor = self.rest(found).squeeze(1).exp()
        return outputs


def _orders(seed: int) -> Setup:
    with initial(seed):
        model = _Rate()
    loss = nn.PoissonNLLLoss(log_input=False)
    return job((_Customers(seed, 0, 1100), _Customers(seed, 1100, 1500)), model, loss, "adam", 0.005, epochs=20)


def _wrong_labels(seed: int) -> Setup:
    train, val = kit.tiles(seed, rows=800)
    assert isinstance(train, TensorDataset)
    images, kinds = train.tensors
    draw = drawn(seed, "hands")
    random = torch.randint(4, kinds.shape, generator=draw)
    kinds = torch.where(torch.rand(kinds.shape, generator=draw) < 0.3, random, kinds)
    with initial(seed):
        body = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
        model = nn.Sequential(*body, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return job((TensorDataset(images, kinds), val), model, nn.CrossEntropyLoss(), "adam", 0.01, epochs=12)


class _Gated(nn.Module):
    """Ten blocks, each of which begins as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 32)
        self.blocks = nn.ModuleList(dense(32, 32, 32) for _ in range(10))
        self.gates = nn.Parameter(torch.zeros(10))
        self.head = nn.Linear(32, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        state = self.first(inputs)
        for gate, block in zip(self.gates, self.blocks):
            state = state + gate * block(state)
        outputs: Tensor = self.head(functional.relu(state))
        return outputs


def _gates_from_zero(seed: int) -> Setup:
    with initial(seed):
        model = _Gated()
    return job(kit.demand(seed, rows=1200), model, nn.SmoothL1Loss(), "adam", 0.003, epochs=20)


def _labeller_with_dropout(seed: int) -> Setup:
    with initial(seed):
        model = Labeller(dropout=0.1)
    return job(kit.labels_of_words(seed, rows=600), model, of_each_word, "adamw", 0.015, epochs=20)


def _gru_summed(seed: int) -> Setup:
    with initial(seed):
        model = Recurrent(nn.GRU(3, 20, batch_first=True), 5)
    return job(kit.gestures(seed), model, nn.CrossEntropyLoss(reduction="sum"), "adam", 0.01)


def _odd(name: str, build: object, skill: str, source: str, floor: float, architecture: str, data: str) -> Case:
    return Case(name, build, (), skill, source, architecture=architecture, data=data, floor=floor)  # type: ignore[arg-type]


CASES: tuple[Case, ...] = (
    _odd(
        "grades-whole-set-at-rate-two", _whole_set_at_once, "accuracy", "one step an epoch, at a rate of 2", 0.95, "mlp", "table"
    ),
    _odd(
        "curves-code-of-four", _code_of_four, "r2", "a linear bottleneck as wide as the law of the data", 0.98, "mlp", "sequence"
    ),
    _odd("remarks-mostly-padding", _mostly_padding, "r2", "four of five entries are padding", 0.85, "mlp", "sequence"),
    _odd("defects-one-in-fifteen-weighted", _rare_defects, "balanced_accuracy", "rare class, weighted", 0.93, "mlp", "table"),
    _odd(
        "tiles-log-softmax-and-nll",
        _dark_tiles,
        "accuracy",
        "dark uncentred images, log-softmax at the end",
        0.97,
        "cnn",
        "image",
    ),
    _odd("rain-sigmoid-and-bce", _chance_of_rain, "accuracy", "a sigmoid at the end, as its loss wants it", 0.95, "mlp", "table"),
    _odd(
        "gestures-last-row-alone-grouped",
        _lone_last_row,
        "accuracy",
        "449 rows by 32, but no batch norm",
        0.95,
        "cnn",
        "sequence",
    ),
    _odd("relief-random-waves", _random_features, "r2", "the first layer is random and frozen on purpose", 0.95, "mlp", "table"),
    _odd("orders-poisson-by-name", _orders, "r2", "counts up to 200 with an exponential end, rows by name", 0.85, "mlp", "table"),
    _odd(
        "tiles-three-in-ten-by-chance", _wrong_labels, "accuracy", "training labels noisy, validation clean", 0.95, "cnn", "image"
    ),
    _odd("demand-gates-from-zero", _gates_from_zero, "r2", "ten residual branches with gates at zero", 0.9, "mlp", "table"),
    _odd(
        "labels-dropout-in-a-block",
        _labeller_with_dropout,
        "accuracy",
        "training loss above validation",
        0.96,
        "transformer",
        "sequence",
    ),
    _odd("gestures-summed-by-adam", _gru_summed, "accuracy", "a summed loss, which Adam divides out", 0.96, "rnn", "sequence"),
)
