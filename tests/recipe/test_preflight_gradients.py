"""Before training: every tensor that is meant to train has a gradient and is in the optimizer. And what is always recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stepwell
from stepwell.core.errors import JobError
from stepwell.engine.records.run_folder import read_metrics

DATA = (torch.randn(16, 3, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2)


def trained(model: nn.Module, **settings: Any) -> stepwell.Recipe:
    given = {"recipe": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 8}, "budget": "1 epochs"} | settings
    recipe = given.pop("recipe")
    return stepwell.fit(model, DATA, recipe=recipe if isinstance(recipe, stepwell.Recipe) else stepwell.Recipe(**recipe), **given)  # type: ignore[return-value]


class Forgetful(nn.Module):
    """Has a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.forgotten = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.used(inputs)


class Detached(nn.Module):
    """Cuts its own gradient."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.first, self.head, self.last = nn.Linear(3, 4), nn.Linear(4, 2), last

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.first(inputs).detach()
        return self.head(states).detach() if self.last else self.head(states)


def warned(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.message for record in caplog.records if record.name == "stepwell.preflight")


def test_tensors_that_the_loss_doesnt_depend_on_are_named(caplog: pytest.LogCaptureFixture) -> None:
    trained(Forgetful())
    assert warned(caplog) == (
        "2 of 4 tensors that are meant to train will not: the loss doesn't depend on forgotten.weight, forgotten.bias"
    )
    caplog.clear()
    trained(Detached(last=False))
    assert "2 of 4 tensors" in warned(caplog)
    assert "first.weight, first.bias" in warned(caplog)


def test_a_model_whose_gradient_is_cut_everywhere_is_refused() -> None:
    with pytest.raises(JobError, match="the loss doesn't depend on any tensor that is meant to train"):
        trained(Detached(last=True))


def test_frozen_tensors_are_not_meant_to_train(caplog: pytest.LogCaptureFixture) -> None:
    model = Forgetful()
    model.forgotten.requires_grad_(False)
    trained(model)
    assert warned(caplog) == ""


def test_a_gradient_of_zero_is_one(caplog: pytest.LogCaptureFixture) -> None:
    """Behind a branch that starts at zero nothing moves in the first step, and everything later."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.zeros_(model[1].weight)
    trained(model)
    assert warned(caplog) == ""


def test_tensors_that_an_optimizer_of_one_s_own_leaves_out_are_named(caplog: pytest.LogCaptureFixture) -> None:
    def only_first(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD([groups[0]["params"][0]], lr=0.1)

    trained(nn.Linear(3, 2), recipe={"optimizer": only_first, "batch_size": 8})
    assert warned(caplog) == "1 of 2 tensors that are meant to train will not: the optimizer doesn't hold bias"


def test_the_look_ahead_leaves_no_trace() -> None:
    def bits() -> list[Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        trained(model, seed=1)
        return [tensor.clone() for tensor in model.state_dict().values()]

    def without() -> list[Tensor]:
        from stepwell.recipe import preflight

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preflight, "_check_gradients", lambda assembly: None)
            return bits()

    state = torch.get_rng_state()
    with_it = bits()
    assert all(torch.equal(one, other) for one, other in zip(with_it, without(), strict=True))
    torch.set_rng_state(state)


def test_the_seven_figures_of_a_language_model_are_recorded_by_default(tmp_path: Path) -> None:
    """Training loss per window, validation loss, perplexity, token accuracy, learning rate, gradient and parameter norm."""
    text = "to be or not to be " * 40
    (tmp_path / "t.txt").write_text(text)
    job = stepwell.Job.from_mapping(
        {
            "data": {"source": "text", "path": "t.txt", "length": 8},
            "model": {"name": "recurrent", "num_units": 8},
            "task": "language_modeling",
            "recipe": {"optimizer": {"name": "adamw", "lr": 1e-2}, "batch_size": 64},
            "budget": "6 steps",
            "log_every": "1 steps",
        }
    )
    run = stepwell.train(job, out=tmp_path / "run", base=tmp_path)
    train, validation = (read_metrics(tmp_path / "run", part) for part in ("train", "validation"))
    assert len(train) == 6
    assert {"loss", "lr", "grad_norm", "param_norm"} <= set(train[0])
    assert {"loss", "perplexity", "accuracy"} <= set(validation[-1])
    expected = torch.sqrt(sum(p.detach().double().square().sum() for p in run.model.parameters()))  # type: ignore[arg-type]
    assert train[-1]["param_norm"] == pytest.approx(float(expected), rel=1e-6)
    assert train[0]["param_norm"] != train[-1]["param_norm"]
