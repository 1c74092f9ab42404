"""A rare class that is never told, judged by the mean over classes."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said
from torch import Tensor, nn

from stepwell.doctor.judge import helps


def _rare(num_rows: int, every: int, seed: int) -> tuple[Tensor, Tensor]:
    labels = (torch.arange(num_rows) % every == 0).long()
    return noise(num_rows, 3, seed=seed) + 1.2 * labels.unsqueeze(1), labels


def test_a_rare_class_is_told_and_weights_raise_balanced_skill() -> None:
    bench = bench_of(mlp(3, 8, 2), _rare(600, 25, 0), _rare(400, 25, 1))
    (found,) = said("class_imbalance", bench)
    assert found.evidence["shares"] == [0.96, 0.04]
    assert found.measure == "balanced"
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert helps(bench.tried(mended, measure="balanced"))
    inputs, labels = _rare(100, 25, 2)
    outputs = mended.model(inputs)
    # Of 600 rows, 24 are rare: weights 600 / (2 * 576) and 600 / (2 * 24).
    expected = nn.functional.cross_entropy(outputs, labels, weight=torch.tensor([600 / 1152, 12.5]))
    torch.testing.assert_close(mended.loss(outputs, labels), expected)


def test_weights_that_the_loss_has_and_shares_of_one_in_five_need_nothing() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.52, 12.5]))
    assert ids("class_imbalance", bench_of(mlp(3, 8, 2), _rare(600, 25, 0), _rare(400, 25, 1), loss=loss)) == []
    assert ids("class_imbalance", bench_of(mlp(3, 8, 2), _rare(300, 5, 0), _rare(200, 5, 1))) == []


def test_a_rare_class_that_is_easily_told_needs_nothing() -> None:
    def apart(num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, labels = _rare(num_rows, 20, seed)
        return inputs + 6 * labels.unsqueeze(1), labels

    assert ids("class_imbalance", bench_of(mlp(3, 8, 2), apart(400, 0), apart(200, 1), epochs=20)) == []


class _Tags(nn.Module):
    """Two scores at each of six places, from the place's own number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(1, 8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layers(inputs.unsqueeze(-1))
        return outputs


def _per_place(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-100)


def _rare_places(seed: int, num_rows: int) -> tuple[Tensor, Tensor]:
    inputs = noise(num_rows, 6, seed=seed)
    targets = (inputs + 0.4 * noise(num_rows, 6, seed=seed + 10) > 1.9).long()
    targets[:, 5] = -100  # padding
    return inputs, targets


def test_a_class_that_is_rare_among_places_is_told_and_weights_count_place_by_place() -> None:
    settings = {"loss": _per_place, "optimizer": {"name": "adam", "lr": 0.01}, "epochs": 6}
    bench = bench_of(_Tags(), _rare_places(0, 400), _rare_places(1, 200), **settings)
    (found,) = said("class_imbalance", bench)
    assert found.id == "class_imbalance"
    assert found.remedy.change is not None
    loss = found.remedy.change(bench.setup).loss
    outputs = torch.tensor([[[0.0, 1.0], [2.0, 0.0], [5.0, 5.0]]])
    targets = torch.tensor([[1, 0, -100]])
    parts = nn.functional.cross_entropy(outputs[0, :2], targets[0, :2], reduction="none")
    counts = torch.bincount(bench.setup.train.targets[bench.setup.train.targets >= 0])
    weights = counts.sum() / (2 * counts)
    expected = (weights[1] * parts[0] + weights[0] * parts[1]) / (weights[0] + weights[1])
    assert float(loss(outputs, targets)) == pytest.approx(float(expected), rel=1e-5)
