"""Softmax where the loss applies it, or along the wrong dimension."""

from __future__ import annotations

import math

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, noise, said, signs
from torch import Tensor, nn


class _Ends(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.dim = mlp(4, 8, 2), dim

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.softmax(self.inner(inputs), self.dim)


class _Pools(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score, self.head, self.dim = nn.Linear(3, 1), nn.Linear(3, 2), dim

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head((self.score(inputs).softmax(self.dim) * inputs).sum(1))
        return outputs


def test_softmax_as_a_module_or_a_function_before_cross_entropy_is_certain_with_the_floor_of_two_classes() -> None:
    for model in (nn.Sequential(mlp(4, 8, 2), nn.Softmax(1)), _Ends(1)):
        (found,) = said("softmax_twice", bench_of(model, signs()))
        assert (found.id, found.proof) == ("softmax_before_ce", "certain")
        assert found.evidence["loss_floor"] == pytest.approx(math.log(1 + math.exp(-1)))  # 1 and 0 as scores
        assert found.evidence["loss_right"] == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-3)


def test_the_mended_loss_is_that_of_the_logarithms() -> None:
    bench = bench_of(_Ends(1), signs())
    (found,) = said("softmax_twice", bench)
    assert found.remedy.change is not None
    loss = found.remedy.change(bench.setup).loss(torch.tensor([[0.8, 0.2]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(-math.log(0.2))


@pytest.mark.parametrize("model", [mlp(4, 8, 2), nn.Sequential(mlp(4, 8, 2), nn.LogSoftmax(1))])
def test_scores_and_their_log_softmax_are_healthy(model: nn.Module) -> None:
    assert ids("softmax_twice", bench_of(model, signs())) == []


def test_chances_under_a_loss_of_chances_are_healthy() -> None:
    def loss(chances: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.nll_loss((chances + 1e-9).log(), labels)

    assert ids("softmax_twice", bench_of(_Ends(1), signs(), loss=loss)) == []


def test_softmax_over_the_rows_is_along_the_wrong_dimension() -> None:
    (found,) = said("softmax_twice", bench_of(_Ends(0), signs()))
    assert (found.id, found.evidence["dim"], found.evidence["shape"]) == ("softmax_wrong_dim", 0, [11, 2])


@pytest.mark.parametrize("dim", [0, 2])
def test_pooling_weights_over_rows_or_over_a_single_place_are_wrong_and_go_over_places_once_mended(dim: int) -> None:
    inputs = torch.randn(60, 5, 3, generator=torch.Generator().manual_seed(0))
    train = (inputs, (inputs[:, 0, 0] > 0).long())
    model = _Pools(dim)
    bench = bench_of(model, train)
    (found,) = said("softmax_twice", bench)
    assert found.id == "softmax_wrong_dim"
    assert found.remedy.change is not None
    right = _Pools(1)
    right.load_state_dict(model.state_dict())
    torch.testing.assert_close(found.remedy.change(bench.setup).model(inputs), right(inputs))
    assert ids("softmax_twice", bench_of(right, train)) == []


def test_a_regression_is_healthy() -> None:
    assert ids("softmax_twice", bench_of(mlp(4, 8, 1), law(), loss=nn.MSELoss())) == []


class _Tagger(nn.Module):
    """Log-chances of two tags at each of five places, over one dimension or the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.layer = dim, nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs).log_softmax(self.dim)


def _places() -> tuple[Tensor, Tensor]:
    inputs = noise(60, 5, 3)
    return inputs, (inputs[:, :, 0] > 0).long()


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.nll_loss(outputs.flatten(0, 1), targets.flatten())


def test_log_chances_over_places_are_along_the_wrong_dimension_and_over_tags_after_it_was_mended() -> None:
    bench = bench_of(_Tagger(1), _places(), loss=_nll)
    (found,) = said("softmax_twice", bench)
    assert (found.id, found.proof, found.evidence["dim"], found.evidence["class_dim"]) == ("softmax_wrong_dim", "certain", 1, 2)
    assert found.remedy.change is not None
    sums = found.remedy.change(bench.setup).model(bench.some.inputs).exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert ids("softmax_twice", bench_of(_Tagger(-1), _places(), loss=_nll)) == []


def test_a_softmax_over_rows_of_three_dimensions_is_told_before_what_follows_from_it() -> None:
    found = said("softmax_twice", bench_of(_Tagger(0), _places(), loss=_nll))
    assert [item.id for item in found] == ["softmax_wrong_dim"]
    assert "missing_output_activation" in found[0].explains
