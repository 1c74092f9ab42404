"""Parts that stay in evaluation."""

from __future__ import annotations

from small_setups import bench_of, ids, mlp, said, signs
from torch import Tensor, nn


class _Still(nn.Sequential):
    def train(self, mode: bool = True) -> _Still:
        return super().train(False)


def test_a_model_whose_train_does_nothing_is_told_and_follows_once_mended() -> None:
    bench = bench_of(_Still(nn.BatchNorm1d(4), mlp(4, 8, 2)), signs())
    (found,) = said("modes", bench)
    assert (found.id, found.proof, found.evidence["num_still"]) == ("eval_mode_in_training", "mechanism", 1)
    assert found.remedy.change is not None
    model = found.remedy.change(bench.setup).model
    model.train()
    assert all(part.training for part in model.modules())
    model.eval()
    assert not any(part.training for part in model.modules())


def test_a_model_given_in_evaluation_mode_and_one_without_such_layers_are_healthy() -> None:
    assert ids("modes", bench_of(nn.Sequential(nn.BatchNorm1d(4), mlp(4, 8, 2)).eval(), signs())) == []
    assert ids("modes", bench_of(_Still(mlp(4, 8, 2)), signs())) == []


class _Calm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

    def forward(self, rows: Tensor) -> Tensor:
        self.eval()
        outputs: Tensor = self.inner(rows)
        return outputs


def test_eval_within_the_forward_pass_is_told_and_does_nothing_once_mended() -> None:
    bench = bench_of(_Calm(), signs())
    (found,) = said("modes", bench)
    assert found.id == "eval_mode_in_training"
    assert "forward pass" in found.symptom
    assert found.remedy.change is not None
    model = found.remedy.change(bench.setup).model.train()
    model(signs()[0])
    assert all(part.training for part in model.modules())
    assert not any("eval" in vars(part) for part in model.modules())
    model.eval()
    model(signs()[0])
    assert not any(part.training for part in model.modules())
