"""Targets that a yes-or-no loss has no lowest value for."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, mlp, noise, said
from torch import Tensor, nn

BCE = nn.BCEWithLogitsLoss()


def _targets(*values: float, num_rows: int = 60) -> tuple[Tensor, Tensor]:
    return noise(num_rows, 4), torch.tensor(values).repeat(num_rows // len(values) + 1)[:num_rows].unsqueeze(1)


def test_three_classes_under_one_logit_get_an_output_each_and_cross_entropy() -> None:
    bench = bench_of(mlp(4, 8, 1), _targets(0.0, 1.0, 2.0), loss=BCE)
    (found,) = said("answer_range", bench)
    assert found.id == "wrong_num_outputs"
    assert found.evidence["num_out_of_range"] == 20
    assert found.remedy.change is not None
    mended = found.remedy.change(bench.setup)
    inputs, targets = _targets(0.0, 1.0, 2.0)
    outputs = mended.model(inputs)
    torch.testing.assert_close(mended.loss(outputs, targets), nn.functional.cross_entropy(outputs, targets[:, 0].long()))


def test_scores_that_happen_to_lie_within_0_and_1_are_scores_still() -> None:
    model = mlp(4, 8, 1)
    last = model[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(0.01)
        last.bias.fill_(0.5)
    bench = bench_of(model, _targets(0.0, 1.0, 2.0), loss=BCE)
    assert bool(((bench.outputs > 0) & (bench.outputs < 1)).all())
    assert [one.id for one in said("answer_range", bench)] == ["wrong_num_outputs"]


def test_minus_one_and_one_become_zero_and_one() -> None:
    bench = bench_of(mlp(4, 8, 1), _targets(-1.0, 1.0), loss=BCE)
    (found,) = said("answer_range", bench)
    assert found.id == "label_out_of_range"
    assert found.evidence["smallest_label"] == -1.0
    assert found.remedy.change is not None
    # softplus(-40) + 1 * (-40), up to rounding
    assert found.evidence["lowest_loss_seen"] == pytest.approx(-40.0)
    assert found.remedy.change(bench.setup).train.targets.unique().tolist() == [0.0, 1.0]


def test_cross_entropy_over_one_output_is_told_since_it_never_changes() -> None:
    inputs, targets = _targets(0.0, 1.0)
    (found,) = said("answer_range", bench_of(mlp(4, 8, 1), (inputs, targets)))
    assert found.id == "wrong_num_outputs"
    assert found.evidence["num_labels"] == 2


def test_losses_of_quantities_counts_and_margins_take_any_number() -> None:
    def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
        return (1 - outputs * targets).relu().mean()

    for values, loss in (((0.0, 1.0, 2.0), nn.MSELoss()), ((0.0, 1.0, 4.0), nn.PoissonNLLLoss()), ((-1.0, 1.0), hinge)):
        assert ids("answer_range", bench_of(mlp(4, 8, 1), _targets(*values), loss=loss)) == []


def test_zero_and_one_are_in_range_of_logits_and_of_shares() -> None:
    assert ids("answer_range", bench_of(mlp(4, 8, 1), _targets(0.0, 1.0), loss=BCE)) == []
    shares = mlp(4, 8, 1).append(nn.Sigmoid())
    assert ids("answer_range", bench_of(shares, _targets(0.0, 1.0), loss=nn.BCELoss())) == []
