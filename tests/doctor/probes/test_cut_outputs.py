"""Losses that cut outputs to chances."""

from __future__ import annotations

from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


def _flags() -> tuple[Tensor, Tensor]:
    inputs, labels = signs()
    return inputs, labels.float().unsqueeze(1)


def _cut_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    chances = outputs.clamp(1e-6, 1 - 1e-6)
    return -(labels * chances.log() + (1 - labels) * (1 - chances).log()).mean()


def test_scores_that_a_loss_cuts_to_chances_miss_a_sigmoid() -> None:
    bench = bench_of(mlp(4, 8, 1), _flags(), loss=_cut_entropy)
    (found,) = said("cut_outputs", bench)
    assert (found.id, found.proof) == ("missing_output_activation", "certain")
    assert found.evidence["loss_at_-1"] == found.evidence["loss_at_-3"]
    assert found.remedy.change is not None
    outputs = found.remedy.change(bench.setup).model(bench.some.inputs)
    assert bool(((outputs > 0) & (outputs < 1)).all())


def test_a_cut_behind_a_sigmoid_and_losses_of_scores_are_healthy() -> None:
    ended = nn.Sequential(mlp(4, 8, 1), nn.Sigmoid())
    assert ids("cut_outputs", bench_of(ended, _flags(), loss=_cut_entropy)) == []
    for loss in (nn.BCEWithLogitsLoss(), nn.MSELoss(), lambda outputs, labels: (1 - outputs * (2 * labels - 1)).relu().mean()):
        assert ids("cut_outputs", bench_of(mlp(4, 8, 1), _flags(), loss=loss)) == []
