"""Class numbers that no output stands for."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said
from torch import Tensor, nn


def _classes(num_rows: int = 120, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    return noise(num_rows, 4), torch.arange(num_rows) % num_classes


def test_labels_from_one_are_placed_where_the_loss_looks_for_them() -> None:
    inputs, labels = _classes()
    bench = bench_of(mlp(4, 8, 3), (inputs, labels + 1))
    (found,) = said("label_range", bench)
    assert found.id == "label_out_of_range"
    assert found.blocks
    assert found.evidence["out_of_range"] == [3]
    assert found.evidence["num_out_of_range"] == 40
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    outputs = mended.model(inputs)
    assert torch.equal(outputs[:, 1:], bench.setup.model(inputs))
    assert bool((outputs[:, 0] < -1000).all())
    assert torch.isfinite(mended.loss(outputs, labels + 1))


def test_a_stray_label_is_left_out() -> None:
    inputs, labels = _classes()
    labels[::30] = 255
    bench = bench_of(mlp(4, 8, 3), (inputs, labels))
    (found,) = said("label_range", bench)
    assert found.evidence["out_of_range"] == [255]
    assert found.evidence["num_out_of_range"] == 4
    assert found.remedy.change is not None
    assert len(found.remedy.change(bench.setup).train) == 116


def test_stray_labels_of_places_do_not_count_in_the_loss() -> None:
    tokens = torch.arange(600).reshape(100, 6) % 5
    labels = tokens % 3
    labels[:, 0] = -1

    def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))

    bench = bench_of(nn.Embedding(5, 3), (tokens, labels), loss=entropy)
    (found,) = said("label_range", bench)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    outputs = mended.model(tokens)
    torch.testing.assert_close(mended.loss(outputs, labels), entropy(outputs[:, 1:], labels[:, 1:]))


def test_a_class_more_than_outputs_gets_an_output_that_the_optimizer_holds() -> None:
    model = mlp(4, 8, 3)
    bench = bench_of(model, _classes(num_classes=4), optimizer={"name": "sgd", "lr": 0.1, "params": list(model.parameters())})
    (found,) = said("label_range", bench)
    assert found.id == "wrong_num_outputs"
    assert found.evidence["num_outputs"] == 3
    assert found.evidence["num_labels"] == 4
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert mended.model(noise(2, 4)).shape == (2, 4)
    assert model[-1].out_features == 3
    held = {id(tensor) for group in mended.build_optimizer().param_groups for tensor in group["params"]}
    assert held == {id(tensor) for tensor in mended.model.parameters()}


@pytest.mark.parametrize("value", [-100, 255])
def test_a_value_that_the_loss_ignores_is_in_range(value: int) -> None:
    inputs, labels = _classes()
    labels[::30] = value
    loss = nn.CrossEntropyLoss(ignore_index=value)
    assert ids("label_range", bench_of(mlp(4, 8, 3), (inputs, labels), loss=loss)) == []


def test_more_outputs_than_classes_are_no_fault() -> None:
    assert ids("label_range", bench_of(mlp(4, 8, 10), _classes())) == []


def test_targets_that_are_nan_are_dropped_unless_the_loss_leaves_them_out() -> None:
    inputs = noise(50, 4)
    targets = inputs[:, :1].clone()
    targets[4] = float("nan")
    bench = bench_of(mlp(4, 8, 1), (inputs, targets), loss=nn.MSELoss())
    (found,) = said("label_range", bench)
    assert found.evidence == {"num_rows": 1, "rows": [4]}
    assert found.remedy.change is not None
    assert len(found.remedy.change(bench.setup).train) == 49

    def known(outputs: Tensor, wanted: Tensor) -> Tensor:
        there = ~wanted.isnan()
        return (outputs[there] - wanted[there]).square().sum() / max(int(there.sum()), 1)

    assert ids("label_range", bench_of(mlp(4, 8, 1), (inputs, targets), loss=known)) == []
