"""A training setup as the doctor holds it: a value that can be copied, changed and tried."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepwell.core.catalog import discover, lookup
from stepwell.core.errors import JobError
from stepwell.doctor.rows import Rows, rows_of, tensors

Loss = Callable[[Any, Any], Tensor]
_KINDS: dict[str, Callable[..., Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
}


@dataclass(frozen=True)
class Setup:
    """Everything that decides how a training goes.

    Args:
        model: as it is before the first step; nobody changes it.
        train: rows to learn from.
        val: rows to judge by, or None.
        loss: (outputs, targets) -> scalar.
        optimizer: name, settings, and `params` where it doesn't hold all that the model has.
        batch_size, epochs: of the training.
        shuffle: whether rows come in a new order each epoch.
        clip_norm: largest gradient norm, or None.
        schedule: share of the training that is done, 0 to 1 -> factor on every rate; None for constant rates.
    """

    model: nn.Module
    train: Rows
    val: Rows | None
    loss: Loss
    optimizer: Mapping[str, Any]
    batch_size: int
    epochs: int
    shuffle: bool = True
    clip_norm: float | None = None
    schedule: Callable[[float], float] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    @property
    def lr(self) -> float:
        """The rate in use; what the optimizer takes where none is named."""
        if "lr" in self.optimizer:
            return float(self.optimizer["lr"])
        settings = {key: value for key, value in self.optimizer.items() if key not in ("name", "params")}
        built = _maker(self.optimizer["name"])([nn.Parameter(torch.zeros(1, 1))], **settings)
        return float(built.defaults["lr"])

    def change(self, **values: Any) -> Setup:
        """A copy with other values; the model stays the same object."""
        return replace(self, **values)

    def with_optimizer(self, **settings: Any) -> Setup:
        """A copy with other settings of the optimizer."""
        return replace(self, optimizer={**self.optimizer, **settings})

    def with_rate(self, factor: float) -> Setup:
        """A copy with so many times the learning rate, in every group."""
        settings = {**self.optimizer, "lr": self.lr * factor}
        held = settings.get("params")
        if held and isinstance(held[0], Mapping):
            settings["params"] = [{**group, "lr": group.get("lr", self.lr) * factor} for group in held]
        return replace(self, optimizer=settings)

    def copied(self) -> Setup:
        """A copy whose model (what the optimizer holds of it, and a loss that is a module or a method too) may be trained."""
        settings = {key: value for key, value in self.optimizer.items() if key != "params"}
        memo = leaves(self.model)
        model, held = copy.deepcopy((self.model, self.optimizer.get("params")), memo)
        try:
            loss = copy.deepcopy(self.loss, memo)
        except Exception:  # it holds what can't be copied: then it is one and the same in all trials
            loss = self.loss
        return replace(self, model=model, loss=loss, optimizer=settings if held is None else {**settings, "params": held})

    def build_optimizer(self) -> Optimizer:
        """The optimizer over what it holds of `model`."""
        settings = {key: value for key, value in self.optimizer.items() if key not in ("name", "params")}
        held = list(self.model.parameters()) if self.optimizer.get("params") is None else self.optimizer["params"]
        # Torch writes what a group doesn't name into it: into copies, so that later changes of the settings still reach them.
        held = [dict(group) if isinstance(group, Mapping) else group for group in held]
        return _maker(self.optimizer["name"])(held, **settings)

    def keywords(self) -> dict[str, Any]:
        """As `diagnose` takes it, so that any loop can train it."""
        return {
            "model": self.model,
            "train": self.train.given(),
            "val": None if self.val is None else self.val.given(),
            "loss": self.loss,
            "optimizer": dict(self.optimizer),
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "shuffle": self.shuffle,
        }


def leaves(model: nn.Module) -> dict[int, Any]:
    """For `copy.deepcopy`, which refuses them: tensors among a model's attributes that were computed from others, as tensors of
    their own."""
    found = (part for module in model.modules() for part in tensors(dict(vars(module))) if not part.is_leaf)
    return {id(part): part.detach().clone().requires_grad_(part.requires_grad) for part in found}


def _known(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    if name in _KINDS:
        return True
    record = discover().get(name)
    return record is not None and (record.slot, record.role) == ("optimizer", "base")


def _maker(name: str) -> Callable[..., Optimizer]:
    """Torch's optimizer of this name, else stepwell's own."""
    if name in _KINDS:
        return _KINDS[name]
    factory = lookup(name, slot="optimizer", role="base").factory

    def make(parameters: list[Any], **settings: Any) -> Optimizer:
        groups = parameters if parameters and isinstance(parameters[0], Mapping) else [{"params": parameters}]
        built: Optimizer = factory(**settings)([{"names": [""] * len(group["params"]), **group} for group in groups])
        return built

    return make


def setup_of(
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    loss: Any,
    optimizer: Any,
    batch_size: int,
    epochs: int,
    shuffle: bool,
) -> Setup:
    """Check what a user gave, and hold it.

    Raises:
        JobError: a value that can't be used, or a model that can't be copied.
        DataError: rows that can't be taken.
    """
    if not isinstance(model, nn.Module):
        raise JobError(f"model is a {type(model).__name__}", expected="a torch.nn.Module", fix="Give the module itself")
    try:
        copy.deepcopy(model, leaves(model))
    except Exception as error:
        raise JobError(
            f"the model can't be copied: {type(error).__name__}: {str(error)[:200]}",
            expected="a model that copy.deepcopy can copy: trials are made on copies, yours stays as it is",
            fix="Keep open files, locks and generators out of the module's attributes",
        ) from error
    for name, number in (("batch_size", batch_size), ("epochs", epochs)):
        if not isinstance(number, int) or number < 1:
            raise JobError(f"{name} is {number!r}", expected="a whole number of at least 1", fix=f"Give another {name}")
    return Setup(
        model,
        rows_of(train, "train"),
        None if val is None else rows_of(val, "val"),
        _loss_of(loss),
        _optimizer_of(optimizer, model),
        batch_size,
        epochs,
        shuffle,
    )


def _loss_of(loss: Any) -> Loss:
    if callable(loss):
        function: Loss = loss
        return function
    names = {
        "cross_entropy": nn.CrossEntropyLoss,
        "mse": nn.MSELoss,
        "l1": nn.L1Loss,
        "huber": nn.HuberLoss,
        "binary_cross_entropy": nn.BCEWithLogitsLoss,
        "nll": nn.NLLLoss,
    }
    if isinstance(loss, str) and loss in names:
        named: Loss = names[loss]()
        return named
    raise JobError(
        f"loss is {loss!r}", expected=f"a function (outputs, targets) -> scalar, or one of {', '.join(names)}", fix="Give one"
    )


def _optimizer_of(optimizer: Any, model: nn.Module) -> Mapping[str, Any]:
    if isinstance(optimizer, str):
        optimizer = {"name": optimizer}
    if isinstance(optimizer, Optimizer):
        optimizer = read_off(optimizer, model)
    if not isinstance(optimizer, Mapping) or not _known(optimizer.get("name")):
        raise JobError(
            f"optimizer is {optimizer!r}"[:300],
            expected=f"a mapping such as {{'name': 'sgd', 'lr': 0.1}}, with a name out of {', '.join(_KINDS)}, "
            "or of stepwell's optimizers",
            fix="Give one, or the torch optimizer itself",
        )
    settings = dict(optimizer)
    if settings.get("params") is not None:
        settings["params"] = _held(settings["params"])
    trial = Setup(model, Rows(torch.zeros(1), torch.zeros(1), 1), None, nn.MSELoss(), settings, 1, 1)
    if settings.get("params") == [] or not any(True for _ in model.parameters()):
        return settings
    try:
        trial.build_optimizer()
    except Exception as error:
        raise JobError(
            f"the optimizer can't be made: {error}",
            expected="settings that torch's optimizer of that name takes",
            fix="Mend them",
        ) from error
    return settings


def _held(given: Any) -> list[Any]:
    """Tensors, or groups of them, as lists that can be read more than once; of (name, tensor) pairs the tensors."""
    if isinstance(given, Tensor) or not isinstance(given, Iterable):
        raise JobError(
            f"the optimizer's params are a {type(given).__name__}",
            expected="a list of parameters, or of groups {'params': parameters, 'lr': ...}",
            fix="Give list(model.parameters()), or leave params out",
        )
    held: list[Any] = []
    for item in given:
        if isinstance(item, Mapping):
            parts = item.get("params", ())
            item = {**item, "params": [parts] if isinstance(parts, Tensor) else _held(parts)}
        named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        held.append(item[1] if named else item)
    return held


def read_off(optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """A torch optimizer as a mapping: its settings, and what it holds where that isn't all.

    Rates are those before a scheduler's warmup changed them. Groups name what they set differently.
    """
    name = type(optimizer).__name__.lower()
    quiet = ("foreach", "fused", "capturable", "differentiable", *(("decoupled_weight_decay",) if name == "adamw" else ()))
    settings = {key: value for key, value in optimizer.defaults.items() if value is not None and key not in quiet}
    groups = [
        {**group, "lr": group.get("initial_lr", group["lr"])} if "lr" in group else group for group in optimizer.param_groups
    ]
    held = [parameter for group in groups for parameter in group["params"]]
    if len(groups) > 1:
        changed = [{key: value for key, value in group.items() if settings.get(key, value) != value} for group in groups]
        return {
            "name": name,
            **settings,
            "params": [{**own, "params": group["params"]} for own, group in zip(changed, groups, strict=True)],
        }
    settings = {key: groups[0].get(key, value) for key, value in settings.items()}
    if {id(part) for part in held} != {id(part) for part in model.parameters()}:
        settings["params"] = held
    return {"name": name, **settings}
