"""Train the jobs whose curves are recorded here: `python tests/doctor/curves/record.py` (some minutes on one thread).

Each entry of `jobs` is a setting that is known to give its pattern, on data that comes with scikit-learn. What the training logs
goes to curves.json as it is, to four digits; nothing is chosen by what the rules say. Settings that are there already are kept.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import stepwell
from stepwell.core.errors import TrainingStopped
from stepwell.doctor.records import read_records
from stepwell.doctor.run_rules import compared_by

HERE = Path(__file__).parent
Split = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Setting:
    """One training.

    Args:
        pattern: that it is known to give.
        data: of `DATA`; with "few" only so many rows to train on, with "noise" so many of the training labels at random.
        hidden: widths; "model" builds another one.
        optimizer, techniques, schedule: of the recipe.
    """

    pattern: str
    data: str
    optimizer: dict[str, Any]
    hidden: tuple[int, ...] = (64, 64)
    activation: type[nn.Module] = nn.ReLU
    budget: str = "30 epochs"
    batch_size: Any = 32
    techniques: tuple[Any, ...] = ()
    schedule: Any = None
    few: int | None = None
    noise: float = 0.0
    dropout: float = 0.0
    seed: int = 0
    log_every: str = "1%"
    change: Callable[[Split], Split] | None = field(default=None, compare=False)


def rows(name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Standardised inputs, targets, and whether they are classes."""
    from sklearn import datasets

    makers: dict[str, tuple[Callable[[], Any], bool]] = {
        "digits": (lambda: datasets.load_digits(return_X_y=True), True),
        "wine": (lambda: datasets.load_wine(return_X_y=True), True),
        "cancer": (lambda: datasets.load_breast_cancer(return_X_y=True), True),
        "diabetes": (lambda: datasets.load_diabetes(return_X_y=True), False),
        "friedman": (lambda: datasets.make_friedman1(800, noise=0.5, random_state=0), False),
        "circles": (lambda: datasets.make_circles(800, noise=0.08, factor=0.5, random_state=0), True),
        "moons": (lambda: datasets.make_moons(800, noise=0.15, random_state=0), True),
    }
    make, classes = makers[name]
    inputs, targets = make()
    inputs = (inputs - inputs.mean(0)) / np.where(inputs.std(0) > 0, inputs.std(0), 1.0)
    if not classes:
        targets = (targets - targets.mean()) / targets.std()
    return inputs, targets, classes


def split(setting: Setting) -> tuple[Split, int | None]:
    """Training and validation rows, and the number of classes."""
    inputs, targets, classes = rows(setting.data)
    draw = np.random.default_rng(7 + setting.seed)
    order = draw.permutation(len(inputs))
    cut = int(0.7 * len(inputs))
    train, val = order[:cut][: setting.few], order[cut:]
    labels = targets.copy()
    if setting.noise:
        wrong = draw.random(len(labels)) < setting.noise
        labels[wrong] = draw.permutation(labels[wrong])
    kind = torch.long if classes else torch.float32
    x = torch.tensor(inputs, dtype=torch.float32)
    y = torch.tensor(labels, dtype=kind)
    y = y if classes else y.unsqueeze(1)
    clean = torch.tensor(targets, dtype=kind)
    clean = clean if classes else clean.unsqueeze(1)
    parts = (x[train], y[train], x[val], y[val] if setting.noise else clean[val])
    return (setting.change(parts) if setting.change else parts), (int(targets.max()) + 1 if classes else None)


def model_of(setting: Setting, num_inputs: int, num_classes: int | None) -> nn.Module:
    torch.manual_seed(setting.seed)
    layers: list[nn.Module] = []
    for width in setting.hidden:
        layers += [nn.Linear(num_inputs, width), setting.activation()]
        layers += [nn.Dropout(setting.dropout)] if setting.dropout else []
        num_inputs = width
    return nn.Sequential(*layers, nn.Linear(num_inputs, num_classes or 1))


SGD, ADAM = {"name": "sgd", "momentum": 0.0}, {"name": "adamw", "weight_decay": 0.0}


def sgd(lr: float, **settings: Any) -> dict[str, Any]:
    return SGD | {"lr": lr} | settings


def adam(lr: float, **settings: Any) -> dict[str, Any]:
    return ADAM | {"lr": lr} | settings


def _constant_inputs(parts: Split) -> Split:
    return torch.zeros_like(parts[0]), parts[1], torch.zeros_like(parts[2]), parts[3]


def _strangers(parts: Split) -> Split:
    """Labels of other rows: nothing is to be learnt."""
    draw = torch.Generator().manual_seed(3)
    return parts[0], parts[1][torch.randperm(len(parts[1]), generator=draw)], parts[2], parts[3]


def jobs() -> Iterator[Setting]:
    """Nine settings or more of each pattern."""
    for data in ("digits", "wine", "cancer", "diabetes"):
        yield Setting("flat", data, sgd(1e-6))
    yield Setting("flat", "digits", adam(1e-8), batch_size=16, log_every="2 steps", budget="5 epochs")
    yield Setting("flat", "friedman", sgd(1e-5), hidden=(128,))
    yield Setting("flat", "moons", adam(1e-7), batch_size=8)
    yield Setting("flat", "digits", adam(1e-3), change=_constant_inputs, batch_size=64)
    yield Setting("flat", "digits", sgd(1e-2), hidden=(16,), change=_strangers, budget="15 epochs")
    yield Setting("flat", "digits", sgd(0.05), hidden=(32,) * 12, activation=nn.Sigmoid)

    rising = {"name": "one_cycle", "warmup": "95%", "div_factor": 3000.0, "momentum": "keep"}
    for data, peak, batch in (("diabetes", 30.0, 32), ("friedman", 60.0, 32), ("digits", 1000.0, 32), ("wine", 3000.0, 16)):
        yield Setting("diverging", data, sgd(peak), schedule=rising, batch_size=batch, budget="40 epochs")
    yield Setting("diverging", "friedman", sgd(3.0, momentum=0.9), schedule=rising, hidden=(64,), budget="40 epochs")
    yield Setting("diverging", "diabetes", sgd(1.2), hidden=(64,), batch_size=32)
    yield Setting("diverging", "cancer", sgd(3000.0), schedule=rising, hidden=(), budget="40 epochs")
    yield Setting("diverging", "digits", adam(30.0), schedule=rising, hidden=(64, 64, 64), budget="40 epochs")
    yield Setting("diverging", "wine", sgd(500.0, momentum=0.9), schedule=rising, budget="60 epochs", hidden=(64,))

    yield Setting("overfitting", "digits", adam(2e-3), few=200, noise=0.3, hidden=(128, 128), budget="80 epochs")
    yield Setting("overfitting", "digits", adam(1e-3), noise=0.3, hidden=(256, 256), budget="60 epochs")
    yield Setting("overfitting", "diabetes", adam(2e-3), hidden=(256, 256), budget="100 epochs")
    yield Setting("overfitting", "diabetes", sgd(0.05, momentum=0.9), few=120, hidden=(256,), budget="300 epochs")
    yield Setting("overfitting", "friedman", adam(2e-3), few=100, hidden=(256, 256), noise=0.4, budget="200 epochs")
    yield Setting("overfitting", "wine", adam(3e-3), few=60, noise=0.4, hidden=(128, 128), budget="200 epochs")
    yield Setting("overfitting", "cancer", adam(2e-3), noise=0.25, hidden=(256, 256), budget="100 epochs")
    yield Setting("overfitting", "moons", adam(2e-3), few=150, noise=0.3, hidden=(256, 256), budget="300 epochs")
    yield Setting("overfitting", "digits", adam(2e-3), few=300, noise=0.3, hidden=(256,), dropout=0.2, budget="120 epochs")

    yield Setting("underfitting", "digits", adam(3e-3), hidden=(1,), budget="80 epochs")
    yield Setting("underfitting", "digits", adam(3e-3, weight_decay=3.0), hidden=(1,), budget="80 epochs", batch_size=64)
    yield Setting("underfitting", "circles", adam(1e-2), hidden=(2,), activation=nn.Identity, budget="30 epochs", seed=1)
    yield Setting("underfitting", "friedman", sgd(0.05, weight_decay=0.6), hidden=(16,), budget="40 epochs")
    yield Setting("underfitting", "diabetes", adam(3e-3), hidden=(2,), activation=nn.Identity, budget="60 epochs")
    yield Setting("underfitting", "cancer", sgd(0.1, weight_decay=0.6), hidden=(16,), budget="60 epochs")
    yield Setting("underfitting", "wine", sgd(0.1, weight_decay=0.6), hidden=(16,), budget="100 epochs")
    yield Setting("underfitting", "digits", sgd(0.1, weight_decay=0.5), hidden=(), budget="60 epochs")
    yield Setting("underfitting", "digits", adam(3e-3), hidden=(1,), activation=nn.Identity, budget="60 epochs", seed=5)

    yield Setting("oscillating", "digits", sgd(3.0), hidden=(), noise=0.2, batch_size=16, budget="30 epochs")
    yield Setting("oscillating", "digits", adam(1.0), hidden=(), noise=0.3, budget="40 epochs")
    yield Setting("oscillating", "wine", adam(3.0), hidden=(), noise=0.3, budget="100 epochs", batch_size=8)
    yield Setting("oscillating", "cancer", sgd(10.0), hidden=(), noise=0.2, budget="60 epochs", batch_size=8)
    yield Setting("oscillating", "diabetes", adam(0.3), hidden=(), budget="80 epochs", batch_size=8)
    yield Setting("oscillating", "friedman", sgd(0.25), hidden=(), batch_size=4, budget="20 epochs")
    yield Setting("oscillating", "friedman", sgd(0.3, momentum=0.995), hidden=(), budget="200 epochs", batch_size="full")
    yield Setting("oscillating", "digits", sgd(1.5), hidden=(), noise=0.3, batch_size=8, budget="30 epochs")
    yield Setting("oscillating", "diabetes", sgd(0.18), hidden=(), batch_size=8, budget="60 epochs")

    yield Setting("memorised", "digits", adam(2e-3), few=300, budget="60 epochs")
    yield Setting("memorised", "digits", adam(1e-3), few=500, hidden=(128,), budget="80 epochs")
    yield Setting("memorised", "digits", adam(3e-3), few=150, hidden=(128, 128), budget="60 epochs", seed=2)
    yield Setting("memorised", "digits", sgd(0.1, momentum=0.9), few=250, hidden=(64,), budget="60 epochs")
    yield Setting("memorised", "cancer", adam(1e-3), few=200, hidden=(64,), budget="60 epochs")
    yield Setting("memorised", "wine", adam(1e-3), few=40, hidden=(64,), budget="150 epochs", seed=3)
    yield Setting("memorised", "moons", adam(1e-3), few=60, hidden=(128, 128), budget="120 epochs", seed=1)
    yield Setting("memorised", "digits", adam(1e-3), few=200, hidden=(256, 256), budget="40 epochs", dropout=0.1)
    yield Setting("memorised", "digits", adam(1e-3), few=400, hidden=(64, 64), batch_size=8, budget="25 epochs", seed=4)

    yield Setting("none", "digits", adam(1e-3), hidden=(64,), budget="15 epochs")
    yield Setting("none", "digits", adam(1e-3), hidden=(64, 64), dropout=0.4, budget="30 epochs")
    yield Setting("none", "digits", adam(2e-3), techniques=("mixup",), budget="30 epochs")
    yield Setting("none", "digits", adam(2e-3), techniques=("label_smoothing",), budget="15 epochs")
    yield Setting(
        "none",
        "digits",
        adam(1e-3),
        schedule={"name": "one_cycle", "momentum": "keep"},
        hidden=(32,),
        budget="20 epochs",
        batch_size=16,
    )
    yield Setting("none", "cancer", sgd(0.05, momentum=0.9), hidden=(16,), budget="15 epochs")
    yield Setting("none", "wine", adam(2e-3), hidden=(32,), budget="25 epochs", batch_size=16)
    yield Setting("none", "friedman", adam(3e-3), hidden=(64,), budget="40 epochs")
    yield Setting("none", "moons", adam(5e-3), hidden=(32, 32), budget="40 epochs")
    yield Setting("none", "digits", sgd(2e-3), budget="30 epochs")
    yield Setting("none", "circles", adam(3e-3), hidden=(64,), budget="40 epochs")
    yield Setting("none", "digits", adam(1e-3), hidden=(64,), batch_size=4, budget="4 epochs", log_every="1 steps")


def record(setting: Setting) -> dict[str, Any]:
    """Train, and take what was logged."""
    (x, y, val_x, val_y), num_classes = split(setting)
    model = model_of(setting, x.shape[1], num_classes)
    objective = "cross_entropy" if num_classes else "mse"
    recipe = stepwell.Recipe(
        objective=objective,
        optimizer=setting.optimizer,
        schedule=setting.schedule,
        techniques=list(setting.techniques),
        batch_size=setting.batch_size,
    )
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        task = "classification" if num_classes else "regression"
        try:
            settings: dict[str, Any] = {"log_every": setting.log_every, "task": task, "checkpoint_every": "1 epochs"}
            stepwell.fit(
                model, (x, y), val=(val_x, val_y), recipe=recipe, budget=setting.budget, seed=setting.seed, out=out, **settings
            )
        except TrainingStopped as error:
            sys.stderr.write(f"    {error}\n")
        found = read_records(out)
    job = {**found.job, "model": {"dropout": setting.dropout}}  # of a model that Python gave the job doesn't say so
    loss = [_rounded(row["loss"]) for row in found.train]
    stopped = any(event.kind == "failed" for event in found.events)
    steps = [int(row["step"]) for row in found.train]
    if stopped:
        steps, loss = [*steps, steps[-1] + 1], [*loss, None]
    return {
        "name": f"{setting.data}: {setting.pattern}",
        "pattern": setting.pattern,
        "group": "classes" if num_classes else "quantities",
        "setting": told(setting),
        "compared": compared_by(job),
        "constant": constant(y, classes=num_classes is not None),
        "steps": steps,
        "losses": loss,
        "lrs": None if setting.schedule is None else [_rounded(row["lr"]) for row in found.train],
        "val_steps": [int(row["step"]) for row in found.validation],
        "val_losses": [_rounded(row["loss"]) for row in found.validation],
    }


def constant(targets: Tensor, *, classes: bool) -> float | None:
    """The loss of the best constant answer: the entropy of the labels, or the variance of the targets."""
    if not classes:
        return _rounded(float(targets.double().var(correction=0)))
    shares = torch.bincount(targets).double() / len(targets)
    return _rounded(float(-(shares[shares > 0] * shares[shares > 0].log()).sum()))


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def main() -> None:
    """Record what isn't there yet."""
    torch.set_num_threads(1)
    place = HERE / "curves.json"
    before = json.loads(place.read_text(encoding="utf-8")) if place.exists() else []
    known = {(item["name"], json.dumps(item["setting"])): item for item in before}
    made = []
    for setting in jobs():
        key = (f"{setting.data}: {setting.pattern}", json.dumps(told(setting)))
        made.append(known.get(key) or record(setting))
        sys.stderr.write(f"{len(made)} {key[0]}\n")
        rest = [item for item in before if item not in made]
        lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in [*made, *rest])
        place.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in made)
    place.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def told(setting: Setting) -> dict[str, str]:
    """A setting in words."""
    return {key: getattr(value, "__name__", str(value)) for key, value in vars(setting).items() if key not in ("pattern", "data")}


if __name__ == "__main__":
    main()
