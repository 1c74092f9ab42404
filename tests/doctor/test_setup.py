"""A setup as a value: what a user gives is read, copied, changed and given back."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.doctor.setup import Setup, setup_of

ROWS = (torch.zeros(10, 3), torch.zeros(10).long())


def _made(model: nn.Module | None = None, **changes: Any) -> Setup:
    given = {"loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.5}, "batch_size": 4, "epochs": 2, "shuffle": True}
    return setup_of(nn.Linear(3, 2) if model is None else model, ROWS, None, **{**given, **changes})


def _two() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


class _WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.kept = nn.Linear(3, 2), (item for item in ())

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs


def test_ten_rows_in_batches_of_four_are_three_steps_an_epoch() -> None:
    setup = _made()
    assert (setup.steps_per_epoch, setup.num_steps) == (3, 6)


@pytest.mark.parametrize(
    ("name", "lr"),
    [("sgd", 1e-3), ("adam", 1e-3), ("rmsprop", 1e-2), ("adagrad", 1e-2), ("adadelta", 1.0), ("adamax", 2e-3), ("nadam", 2e-3)],
)
def test_the_rate_that_is_not_named_is_the_one_in_torchs_documentation(name: str, lr: float) -> None:
    assert _made(optimizer=name).lr == lr


def test_a_factor_on_the_rate_reaches_every_group() -> None:
    model = _two()
    groups = [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[1].parameters()}]
    setup = _made(model, optimizer={"name": "sgd", "lr": 0.5, "params": groups})
    built = setup.with_rate(0.1).build_optimizer()
    assert [group["lr"] for group in built.param_groups] == pytest.approx([0.02, 0.05])
    assert setup.lr == 0.5


def test_a_setting_changed_later_reaches_the_groups_that_do_not_name_it() -> None:
    model = _two()
    groups = [{"params": list(model[0].parameters()), "weight_decay": 0.0}, {"params": list(model[1].parameters())}]
    setup = _made(model, optimizer={"name": "sgd", "lr": 0.5, "weight_decay": 0.3, "params": groups})
    setup.build_optimizer()
    built = setup.with_optimizer(weight_decay=0.1, momentum=0.9).build_optimizer()
    assert [(group["weight_decay"], group["momentum"]) for group in built.param_groups] == [(0.0, 0.9), (0.1, 0.9)]
    assert list(groups[1]) == ["params"]


def test_generators_of_parameters_can_be_built_and_copied_again_and_again() -> None:
    for held in (lambda m: m.parameters(), lambda m: m.named_parameters(), lambda m: [{"params": m.parameters()}]):
        model = nn.Linear(3, 2)
        setup = _made(model, optimizer={"name": "sgd", "lr": 0.5, "params": held(model)})
        for _ in range(2):
            copied = setup.copied()
            (group,) = copied.build_optimizer().param_groups
            assert [id(part) for part in group["params"]] == [id(part) for part in copied.model.parameters()]


def test_a_copy_trains_weights_of_its_own_that_its_optimizer_holds() -> None:
    model = _two()
    setup = _made(model, optimizer={"name": "sgd", "lr": 0.5, "params": list(model[1].parameters())})
    copied = setup.copied()
    assert copied.optimizer["params"][0] is copied.model[1].weight
    assert copied.model[1].weight is not model[1].weight
    assert torch.equal(copied.model[1].weight, model[1].weight)


def test_a_loss_that_is_a_module_a_method_or_holds_the_model_belongs_to_the_copy() -> None:
    model = nn.Linear(3, 2)
    weighted = nn.CrossEntropyLoss(torch.ones(2))
    assert _made(loss=weighted).copied().loss is not weighted
    method = _made(model, loss=model.forward).copied()
    assert method.loss.__self__ is method.model
    bound = _made(model, loss=partial(lambda held, outputs, targets: held.weight.sum(), model)).copied()
    assert bound.loss.args[0] is bound.model


def test_a_loss_that_can_not_be_copied_is_the_same_in_all_trials() -> None:
    loss = partial(lambda stream, outputs, targets: outputs.sum(), (item for item in ()))
    assert _made(loss=loss).copied().loss is loss


def test_a_torch_optimizer_is_read_with_the_rates_and_groups_it_has() -> None:
    model = _two()
    groups = [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[1].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.3, momentum=0.9)
    setup = _made(model, optimizer=optimizer)
    assert setup.optimizer["name"] == "sgd"
    assert [list(group) for group in setup.optimizer["params"]] == [["lr", "params"], ["params"]]
    built = setup.with_optimizer(momentum=0.5).build_optimizer()
    assert [(group["lr"], group["momentum"]) for group in built.param_groups] == [(0.2, 0.5), (0.3, 0.5)]


def test_a_single_group_with_a_rate_of_its_own_is_read_with_that_rate() -> None:
    model = nn.Linear(3, 2)
    setup = _made(model, optimizer=torch.optim.SGD([{"params": model.parameters(), "lr": 0.7}], lr=0.1))
    assert setup.lr == 0.7
    assert "params" not in setup.optimizer


def test_a_warmup_that_has_begun_does_not_hide_the_rate() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, maximize=True)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert optimizer.param_groups[0]["lr"] == 0
    setup = _made(model, optimizer=optimizer)
    assert setup.lr == 0.01
    assert setup.build_optimizer().param_groups[0]["maximize"] is True


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam"])
def test_every_torch_optimizer_read_off_and_built_again_has_the_same_settings(name: str) -> None:
    model = nn.Linear(3, 2)
    given = getattr(torch.optim, name)(model.parameters(), lr=0.02, weight_decay=0.1)
    built = _made(model, optimizer=given).build_optimizer()
    assert type(built) is type(given)
    assert built.defaults == given.defaults


def test_the_keywords_are_those_that_make_the_same_setup_again() -> None:
    train = (torch.zeros(10, 3), torch.zeros(10).long())
    setup = setup_of(nn.Linear(3, 2), train, train, loss="mse", optimizer="adam", batch_size=4, epochs=2, shuffle=False)
    given = setup.keywords()
    assert given["train"] is train
    assert given["model"] is setup.model
    again = setup_of(**given)
    assert (again.optimizer, again.batch_size, again.epochs, again.shuffle) == ({"name": "adam"}, 4, 2, False)


WEIGHTS = nn.Linear(3, 2)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a function as model": ({"model": lambda inputs: inputs}, "model is a function"),
    "a model that can't be copied": ({"model": _WithLoss()}, "can't be copied: TypeError"),
    "batches of no rows": ({"batch_size": 0}, "batch_size is 0"),
    "half an epoch": ({"epochs": 0.5}, "epochs is 0.5"),
    "an unknown loss": ({"loss": "crossentropy"}, "loss is 'crossentropy'"),
    "a number as loss": ({"loss": 3}, "loss is 3"),
    "an unknown optimizer": ({"optimizer": "sdg"}, "optimizer is"),
    "an optimizer's class": ({"optimizer": torch.optim.SGD}, "optimizer is"),
    "an optimizer that needs closures": ({"optimizer": torch.optim.LBFGS(WEIGHTS.parameters())}, "optimizer is"),
    "a name that is no word": ({"optimizer": {"name": ["sgd"]}}, "optimizer is"),
    "a setting that it hasn't": ({"optimizer": {"name": "sgd", "rate": 0.1}}, "unexpected keyword argument 'rate'"),
    "a rate below 0": ({"optimizer": {"name": "sgd", "lr": -1.0}}, "Invalid learning rate"),
    "params that are a number": ({"optimizer": {"name": "sgd", "params": 5}}, "params are a int"),
    "params that are one tensor": ({"optimizer": {"name": "sgd", "params": WEIGHTS.weight}}, "params are a Parameter"),
    "params that aren't tensors": ({"optimizer": {"name": "sgd", "params": ["weight"]}}, "can only optimize Tensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_used_is_refused_with_what_to_give_instead(name: str) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(JobError, match=words) as caught:
        _made(**changes)
    assert caught.value.expected
    assert caught.value.fix
