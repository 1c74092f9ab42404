"""Parts that don't take part: frozen, not held, not registered, detached, in the wrong mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.clinic.case import Case, Setup, drawn
from benchmarks.clinic.round_4 import exam_kit as kit

CE = nn.CrossEntropyLoss
ADAM = {"name": "adam", "lr": 3e-3}


def _frozen_body(seed: int) -> Setup:
    """The lines of a fine-tuning tutorial, on a network that was never trained before."""
    model = kit.built(seed, lambda: kit.convnet(4, 8))
    model.requires_grad_(False)
    list(model.children())[-1].requires_grad_(True)
    return kit.job(model, kit.cut(*kit.gratings(seed, 1_200), 900), CE(), {"name": "adam", "lr": 5e-3})


class Words(nn.Module):
    """Word vectors from a table, a GRU, a linear layer."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]
        self.reader = kit.Reader(nn.GRU, table.shape[1], 32, 2)

    def forward(self, ids: Tensor) -> Tensor:
        outputs: Tensor = self.reader(self.words(ids))
        return outputs


def _absent_words(seed: int) -> Setup:
    """The downloaded vectors lack this field's words: their rows stay zero, and from_pretrained freezes them."""
    tokens, labels = kit.ballots(seed, 1_400, num_tokens=40)
    table = torch.randn(40, 16, generator=drawn(seed, "vectors"))
    table[:8] = 0.0
    model = kit.built(seed, lambda: Words(table))
    return kit.job(model, kit.cut(tokens, labels, 1_000), CE(), {"name": "adam", "lr": 5e-3}, epochs=15)


def _stale(seed: int) -> Setup:
    """The optimizer was made before the model was built again."""
    model, earlier = (kit.built(number, lambda: kit.dense(4, 32, 32, 3)) for number in (seed, seed + 50))
    optimizer = {"name": "adam", "lr": 5e-3, "params": list(earlier.parameters())}
    return kit.job(model, kit.cut(*kit.rings(seed, 1_300), 900), CE(), optimizer, epochs=15)


def _head_only(seed: int) -> Setup:
    """The optimizer got the last layer of a GRU reader."""
    model = kit.built(seed, lambda: kit.Reader(nn.GRU, 1, 24, 3))
    optimizer = {"name": "adam", "lr": 5e-3, "params": list(model.head.parameters())}  # type: ignore[union-attr, operator]
    return kit.job(model, kit.cut(*kit.tones(seed, 1_300, noise=0.6), 900), CE(), optimizer, epochs=12)


class Listed(nn.Module):
    """Hidden layers in a list of Python's, or in one of torch's."""

    def __init__(self, hold: Callable[[list[nn.Module]], Any]) -> None:
        super().__init__()
        self.hidden = hold([nn.Linear(width, 24) for width in (6, 24, 24)])
        self.head = nn.Linear(24, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.hidden:
            inputs = torch.relu(layer(inputs))
        outputs: Tensor = self.head(inputs)
        return outputs


def _listed(seed: int, hold: Callable[[list[nn.Module]], Any] = list) -> Setup:
    rows = kit.cut(*kit.yields(seed, 1_300), 900)
    return kit.job(kit.built(seed, lambda: Listed(hold)), rows, nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=20)


class Branches(nn.Module):
    """Convolutions of three widths over embedded tokens, kept in a dictionary."""

    def __init__(self, hold: Callable[[dict[str, nn.Module]], Any]) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 6)
        self.branches = hold({f"width {size}": nn.Conv1d(6, 6, size) for size in (2, 3)})
        self.head = nn.Linear(12, 2)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.words(ids).transpose(1, 2)
        tops = [torch.relu(self.branches[f"width {size}"](rows)).amax(2) for size in (2, 3)]
        outputs: Tensor = self.head(torch.cat(tops, 1))
        return outputs


def _branches(seed: int, hold: Callable[[dict[str, nn.Module]], Any] = dict) -> Setup:
    """Do two tokens of one kind (of four) stand side by side?"""
    source = drawn(seed, "branches")
    tokens = torch.randint(12, (1_900, 6), generator=source)
    pair = ((tokens[:, 1:] % 3 == tokens[:, :-1] % 3) & (tokens[:, 1:] < 6) & (tokens[:, :-1] >= 6)).any(1).long()
    rows = kit.cut(tokens, pair, 1_500)
    return kit.job(kit.built(seed, lambda: Branches(hold)), rows, CE(), {"name": "adam", "lr": 1e-2}, epochs=25)


class Carried(nn.Module):
    """A GRU cell over a sequence; the state is detached at each step, as in a loop over long texts."""

    def __init__(self, carry: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.carry = carry
        self.cell = nn.GRUCell(10, 32)
        self.head = nn.Linear(32, 6)

    def forward(self, steps: Tensor) -> Tensor:
        state = steps.new_zeros(len(steps), 32)
        for moment in range(steps.shape[1]):
            state = self.cell(steps[:, moment], self.carry(state))
        outputs: Tensor = self.head(state)
        return outputs


def _carried(seed: int, carry: Callable[[Tensor], Tensor] = Tensor.detach) -> Setup:
    rows = kit.cut(*kit.openings(seed, 1_300, length=16, num_kinds=6), 900)
    return kit.job(kit.built(seed, lambda: Carried(carry)), rows, CE(), {"name": "adam", "lr": 5e-3}, epochs=12)


class ThroughArrays(nn.Module):
    """Features leave torch for an array, are scaled there, and come back."""

    def __init__(self, arrays: str) -> None:
        super().__init__()
        self.arrays = arrays
        self.body = nn.Sequential(*list(kit.convnet(4, 6).children())[:-1])
        self.head = nn.Linear(12, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        features = self.body(pictures)
        if self.arrays == "numpy":
            features = torch.from_numpy(features.detach().numpy() * 4)
        outputs: Tensor = self.head(features)
        return outputs


def _through_arrays(seed: int, arrays: str = "numpy") -> Setup:
    rows = kit.cut(*kit.figures(seed, 1_300), 1_000)
    return kit.job(kit.built(seed, lambda: ThroughArrays(arrays)), rows, CE(), {"name": "adam", "lr": 1e-2}, epochs=15)


class Calm(nn.Module):
    """Calls its own eval() first thing in forward, "to be safe"."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        self.eval()
        outputs: Tensor = self.inner(inputs)
        return outputs


def _calm(seed: int, wrap: Callable[[nn.Module], nn.Module] = Calm) -> Setup:
    """Columns in their own units, which batch norm at the entrance would have scaled."""
    inputs, targets = kit.yields(seed, 1_300)
    inputs = inputs * torch.tensor([300.0, 0.02, 40.0, 5.0, 1.0, 900.0]) + torch.tensor([2_000.0, 0.1, 90.0, 7.0, 0.0, 4_000.0])

    def make() -> nn.Module:
        return wrap(nn.Sequential(nn.BatchNorm1d(6), kit.dense(6, 48, 48, 1, norm=nn.BatchNorm1d)))

    return kit.job(kit.built(seed, make), kit.cut(inputs, targets, 900), nn.MSELoss(), {"name": "adam", "lr": 5e-3}, epochs=20)


class Still(nn.Sequential):
    """Batch norm layers kept in evaluation mode whatever is asked for, as for a body that was trained elsewhere."""

    def train(self, mode: bool = True) -> Still:
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self


def _still(seed: int, kind: type[nn.Sequential] = Still) -> Setup:
    """Pixels up to 255 over a deep picture network."""
    train, val = kit.digits(seed)

    def make() -> nn.Module:
        parts: list[nn.Module] = [nn.BatchNorm2d(1)]
        for before, after in ((1, 16), (16, 16), (16, 16), (16, 16)):
            parts += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        return kind(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))

    rows = ((train[0] * 255, train[1]), (val[0] * 255, val[1]))
    return kit.job(kit.built(seed, make), rows, CE(), {"name": "sgd", "lr": 0.1, "momentum": 0.9}, epochs=8)


_NET: dict[str, Any] = {"architecture": "cnn", "data": "image"}
_RNN: dict[str, Any] = {"architecture": "rnn", "data": "sequence"}
_LOST, _CUT, _EVAL = ("unregistered_params",), ("detached_graph",), ("eval_mode_in_training",)
CASES: tuple[Case, ...] = (
    Case("frozen-body-never-trained", _frozen_body, ("frozen_params",), "accuracy",
        "requires_grad = False from a fine-tuning tutorial", fix=kit.without_params, **_NET),
    Case("absent-words-frozen-at-zero", _absent_words, ("frozen_params",), "accuracy",
        "nn.Embedding.from_pretrained freezes by default", fix=kit.without_params, **_RNN),
    Case("optimizer-of-an-earlier-model", _stale, ("params_not_in_optimizer",), "accuracy",
        "the model is built anew after the optimizer", fix=kit.without_params),
    Case("optimizer-got-the-head-alone", _head_only, ("params_not_in_optimizer",), "accuracy",
        "model.fc.parameters() given to the optimizer", fix=kit.without_params, **_RNN),
    Case("hidden-layers-in-a-list", _listed, _LOST, "r2", "a list instead of nn.ModuleList"),
    Case("convolutions-in-a-dictionary", _branches, _LOST, "accuracy", "a dict instead of nn.ModuleDict", data="sequence",
        architecture="cnn"),
    Case("state-detached-at-each-step", _carried, _CUT, "accuracy", "hidden = hidden.detach() inside the loop over time", **_RNN),
    Case("features-through-an-array", _through_arrays, _CUT, "accuracy", "features.detach().numpy() and back", **_NET),
    Case("eval-called-in-forward", _calm, _EVAL, "r2", "self.eval() in forward", tolerate=("unnormalised_inputs",)),
    Case("norms-held-in-evaluation", _still, _EVAL, "accuracy", "train() overridden to freeze batch norm",
        tolerate=("unnormalised_inputs", "lr_too_high", "exploding_gradient"), **_NET),
)  # fmt: skip
PROOFS: dict[str, Callable[[int], Setup]] = {
    "hidden-layers-in-a-list": lambda seed: _listed(seed, nn.ModuleList),
    "convolutions-in-a-dictionary": lambda seed: _branches(seed, nn.ModuleDict),
    "state-detached-at-each-step": lambda seed: _carried(seed, Tensor.clone),
    "features-through-an-array": lambda seed: _through_arrays(seed, "torch"),
    "eval-called-in-forward": lambda seed: _calm(seed, nn.Sequential),
    "norms-held-in-evaluation": lambda seed: _still(seed, nn.Sequential),
}
