"""Outputs that an activation holds back."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, noise, said, signs
from torch import Tensor, nn


class _Ends(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = mlp(4, 8, 1), how

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = getattr(torch, self.how)(self.inner(inputs))
        return outputs


def test_a_rectifier_at_the_end_cant_reach_negative_targets_and_is_left_out_once_mended() -> None:
    inputs, targets = law()
    for model in (nn.Sequential(mlp(4, 8, 1), nn.ReLU()), _Ends("relu")):
        bench = bench_of(model, (inputs, targets), loss=nn.MSELoss())
        (found,) = said("output_range", bench)
        assert (found.id, found.proof) == ("wrong_output_activation", "certain")
        assert (found.evidence["low"], found.evidence["high"]) == (0.0, float("inf"))
        negative = targets.clamp(max=0).square().mean()
        assert found.evidence["loss_in_range"] == pytest.approx(float(negative))
        assert found.remedy.change is not None
        assert bool((found.remedy.change(bench.setup).model(inputs) < 0).any())


@pytest.mark.parametrize(("how", "scale"), [("tanh", 3.0), ("sigmoid", 1.0)])
def test_bounded_ends_are_wrong_for_wider_targets(how: str, scale: float) -> None:
    inputs, targets = law()
    assert ids("output_range", bench_of(_Ends(how), (inputs, scale * targets), loss=nn.MSELoss())) == ["wrong_output_activation"]


def test_bounded_ends_are_healthy_for_targets_within_their_range() -> None:
    inputs, targets = law()
    assert ids("output_range", bench_of(_Ends("sigmoid"), (inputs, targets.sigmoid()), loss=nn.MSELoss())) == []
    assert ids("output_range", bench_of(_Ends("tanh"), (inputs, targets.tanh()), loss=nn.MSELoss())) == []
    assert ids("output_range", bench_of(_Ends("relu"), (inputs, targets.abs()), loss=nn.MSELoss())) == []


def test_a_softmax_over_one_output_is_constant_whatever_the_weights() -> None:
    inputs, labels = signs()
    train = (inputs, labels.float().unsqueeze(1))
    bench = bench_of(nn.Sequential(mlp(4, 8, 1), nn.Softmax(1)), train, loss=nn.BCELoss())
    (found,) = said("output_range", bench)
    assert (found.id, found.evidence["low"], found.evidence["high"]) == ("wrong_output_activation", 1.0, 1.0)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    assert float(mended.loss(mended.model(inputs), train[1])) < 1.0


def test_a_sigmoid_before_a_loss_of_scores_is_wrong_and_before_one_of_chances_right() -> None:
    inputs, labels = signs()
    train = (inputs, labels.float().unsqueeze(1))
    assert ids("output_range", bench_of(_Ends("sigmoid"), train, loss=nn.BCEWithLogitsLoss())) == ["wrong_output_activation"]
    for loss in (nn.BCELoss(), nn.MSELoss(), _missed_overlap):
        assert ids("output_range", bench_of(_Ends("sigmoid"), train, loss=loss)) == []


def _missed_overlap(chances: Tensor, labels: Tensor) -> Tensor:
    return 1 - (2 * (chances * labels).sum() + 1) / (chances.sum() + labels.sum() + 1)


def test_a_zero_head_and_a_norm_at_the_end_are_healthy() -> None:
    model = mlp(4, 8, 1)
    nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    assert ids("output_range", bench_of(model, law(), loss=nn.MSELoss())) == []
    assert ids("output_range", bench_of(nn.Sequential(mlp(4, 8, 3), nn.LayerNorm(3)), _three())) == []


def _three() -> tuple[Tensor, Tensor]:
    inputs, _ = signs()
    return inputs, inputs[:, :3].argmax(1)


def _several() -> tuple[Tensor, Tensor]:
    inputs = noise(200, 4)
    return inputs, (inputs[:, :3] > 0).float()


def test_a_softmax_over_labels_that_may_be_true_together_is_wrong_and_a_sigmoid_after_it_was_mended() -> None:
    bench = bench_of(nn.Sequential(mlp(4, 8, 3), nn.Softmax(1)), _several(), loss=nn.BCELoss())
    (found,) = said("output_range", bench)
    assert (found.id, found.proof, found.evidence["most_labels"]) == ("wrong_output_activation", "certain", 3.0)
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup).model
    inner = bench.setup.model[0]  # type: ignore[index]
    torch.testing.assert_close(mended(bench.some.inputs), inner(bench.some.inputs).sigmoid())


def test_a_softmax_before_a_loss_of_scores_of_several_labels_is_left_out() -> None:
    bench = bench_of(nn.Sequential(mlp(4, 8, 3), nn.Softmax(1)), _several(), loss=nn.BCEWithLogitsLoss())
    (found,) = said("output_range", bench)
    assert found.remedy.change is not None
    assert float(found.remedy.change(bench.setup).model(bench.some.inputs).min()) < 0


def test_sigmoids_over_several_labels_are_healthy() -> None:
    assert ids("output_range", bench_of(nn.Sequential(mlp(4, 8, 3), nn.Sigmoid()), _several(), loss=nn.BCELoss())) == []


class _Direction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.normalize(self.layer(inputs), dim=1)


def test_outputs_that_are_brought_to_one_length_are_healthy() -> None:
    inputs = noise(200, 4)
    targets = nn.functional.normalize(inputs[:, :2], dim=1)
    assert ids("output_range", bench_of(_Direction(), (inputs, targets), loss=nn.MSELoss())) == []
