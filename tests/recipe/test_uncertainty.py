"""Monte-Carlo dropout: means, spreads and entropies over passes with dropout left on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng, derive, seeded_defaults
from stepwell.data.targets import TargetEncoder
from stepwell.recipe.uncertainty import Uncertainty, kind_of, predict_uncertainty, uncertainty_columns
from stepwell.techniques.model.dropout import Dropout


def sum_of_kept(width: int, probability: float) -> nn.Sequential:
    """Dropout, then the sum: of ones, K / (1 - p) with K binomial."""
    model = nn.Sequential(nn.Dropout(probability), nn.Linear(width, 1, bias=False))
    nn.init.ones_(model[1].weight)
    return model


def batches(*sizes: int, width: int = 8) -> list[Batch]:
    return [Batch(torch.ones(size, width)) for size in sizes]


def test_mean_and_spread_are_those_of_the_binomial() -> None:
    width, probability, passes = 8, 0.25, 400
    found = predict_uncertainty(sum_of_kept(width, probability), batches(64, 36), kind="values", samples=passes)
    assert found.mean.shape == (100, 1)
    # K / (1 - p): mean 8, variance 8 p / (1 - p).
    std = math.sqrt(width * probability / (1 - probability))
    assert abs(found.mean.mean().item() - width) < 5 * std / math.sqrt(100 * passes)
    # The variance of a variance over n draws is about 2 / n of its square (a binomial's tails are lighter than 2.5 / n).
    assert abs((found.std**2).mean().item() / std**2 - 1) < 5 * math.sqrt(2.5 / (100 * passes))
    assert found.entropy is None


def test_two_passes_have_the_spread_with_the_divisor_1() -> None:
    model = sum_of_kept(8, 0.5)
    found = predict_uncertainty(model, batches(3), kind="values", samples=2, seed=5)
    passes = []
    for place in range(2):
        with seeded_defaults(derive(5, "monte_carlo", 0, place)), torch.no_grad():
            passes.append(model(torch.ones(3, 8)).double())
    assert torch.equal(found.mean, (passes[0] + passes[1]) / 2)
    torch.testing.assert_close(found.std, (passes[0] - passes[1]).abs() / math.sqrt(2))


def test_the_same_seed_gives_the_same_and_batches_and_passes_have_their_own_masks() -> None:
    def found(seed: int) -> Uncertainty:
        return predict_uncertainty(sum_of_kept(8, 0.5), batches(50, 50), kind="values", samples=5, seed=seed)

    assert torch.equal(found(1).mean, found(1).mean)
    assert not torch.equal(found(1).mean, found(2).mean)
    assert not torch.equal(found(1).mean[:50], found(1).mean[50:])


class Fixed(nn.Module):
    """The same scores whatever comes in, with a dropout layer that doesn't touch them."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores, self.dropout = scores, nn.Dropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        self.dropout(inputs)
        return self.scores.expand(len(inputs), -1)


def test_probabilities_and_entropies_are_those_of_the_scores() -> None:
    scores = torch.tensor([[math.log(2.0), math.log(1.0), math.log(1.0)]])
    classes = predict_uncertainty(Fixed(scores), batches(2), kind="classes", samples=3)
    torch.testing.assert_close(classes.mean, torch.tensor([[0.5, 0.25, 0.25]] * 2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert classes.entropy is not None
    assert classes.entropy.tolist() == pytest.approx([1.5 * math.log(2)] * 2, abs=1e-6)
    assert classes.std.abs().max() < 1e-9
    labels = predict_uncertainty(Fixed(torch.tensor([[math.log(3.0), 1000.0]])), batches(1), kind="labels", samples=2)
    assert labels.mean.tolist() == [pytest.approx([0.75, 1.0])]
    assert labels.entropy is not None
    assert labels.entropy.tolist() == [pytest.approx([0.75 * math.log(4 / 3) + 0.25 * math.log(4), 0.0])]


def test_everything_but_dropout_is_as_in_evaluation_and_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    nn.init.ones_(model[1].weight)  # and inputs above 0: no unit is silent, so what is dropped shows
    Dropout(probability=0.3, insert="after_activations")(model, Rng(0))
    model.train()
    inputs = torch.rand(6, 8) + 1
    state, before = torch.default_generator.get_state(), {k: v.clone() for k, v in model.state_dict().items()}
    seen: list[list[bool]] = []
    model.register_forward_hook(lambda module, args, outputs: seen.append([child.training for child in module]))
    found = predict_uncertainty(model, [Batch(inputs)], kind="values", samples=20)
    assert seen == [[False, False, False, True, False]] * 20
    assert found.std.min() > 0
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.default_generator.get_state(), state)
    assert not found.mean.requires_grad


def test_a_model_without_dropout_is_refused() -> None:
    for model in (nn.Linear(8, 1), nn.Sequential(nn.Dropout(0.0), nn.Linear(8, 1))):
        with pytest.raises(JobError, match="no dropout that could be switched on"):
            predict_uncertainty(model, batches(1), kind="values")


@pytest.mark.parametrize(("settings", "message"), [({"samples": 1}, "samples is 1"), ({"kind": "no"}, "kind is 'no'")])
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        predict_uncertainty(sum_of_kept(8, 0.5), batches(1), **{"kind": "values", **settings})


def test_several_outputs_and_other_tasks_are_refused() -> None:
    with pytest.raises(JobError, match="outputs are several tensors"):
        predict_uncertainty(sum_of_kept(8, 0.5), batches(1), kind="values", call=lambda model, inputs: {"a": model(inputs)})
    with pytest.raises(JobError, match="--samples was given for the task segmentation"):
        kind_of("segmentation")
    assert [kind_of(task) for task in ("classification", "binary", "multilabel", "regression")] == [
        "classes",
        "labels",
        "labels",
        "values",
    ]


class Prepared:
    """The part of a preparation that answers are read with."""

    def __init__(self, target: TargetEncoder) -> None:
        self.target, self.task, self.classes, self.target_scale = target, target.task, target.classes, target.scale

    def decode(self, outputs: Tensor) -> dict[str, Any]:
        return self.target.decode(outputs)


def columns(target: TargetEncoder, mean: list[Any], std: list[Any], entropy: list[Any] | None) -> dict[str, Any]:
    tensors = [None if values is None else torch.tensor(values, dtype=torch.float64) for values in (mean, std, entropy)]
    made = uncertainty_columns(Prepared(target), Uncertainty(*tensors))  # type: ignore[arg-type]
    return {name: list(values) for name, values in made.items()}


def test_columns_of_classes_hold_the_mean_and_the_predicted_class_spread() -> None:
    target = TargetEncoder(task="classification", classes=["a", "b", "c"])
    made = columns(target, [[0.2, 0.7, 0.1], [1.0, 0.0, 0.0]], [[0.01, 0.02, 0.03], [0.0, 0.0, 0.0]], [0.8, 0.0])
    assert made["prediction"] == ["b", "a"]
    assert [made[f"probability_{name}"][0] for name in "abc"] == pytest.approx([0.2, 0.7, 0.1])
    assert made["probability_a"][1] == 1.0
    assert made["std"] == [0.02, 0.0]
    assert made["entropy"] == [0.8, 0.0]


def test_columns_of_two_classes_of_labels_and_of_values() -> None:
    binary = columns(TargetEncoder(task="binary", classes=["no", "yes"]), [[0.8], [1.0]], [[0.1], [0.0]], [[0.5], [0.0]])
    assert binary["prediction"] == ["yes", "yes"]
    assert binary["probability_yes"] == pytest.approx([0.8, 1.0])
    assert (binary["std"], binary["entropy"]) == ([0.1, 0.0], [0.5, 0.0])
    labels = columns(TargetEncoder(task="multilabel", classes=["x", "y"]), [[0.8, 0.3]], [[0.1, 0.2]], [[0.5, 0.6]])
    assert (labels["prediction_x"], labels["prediction_y"]) == ([1], [0])
    assert [labels[name] for name in ("std_x", "std_y", "entropy_x", "entropy_y")] == [[0.1], [0.2], [0.5], [0.6]]
    value = columns(TargetEncoder(task="regression", mean=10.0, scale=2.0), [[0.5]], [[0.25]], None)
    assert value == {"prediction": [11.0], "std": [0.5]}
    several = TargetEncoder(task="regression", names=("u", "v"), mean=(10.0, 0.0), scale=(2.0, 4.0))
    made = columns(several, [[0.5, 1.0]], [[0.25, 0.5]], None)
    assert made == {"prediction_u": [11.0], "prediction_v": [4.0], "std_u": [0.5], "std_v": [2.0]}
