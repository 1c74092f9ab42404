"""Inputs in raw units are suspected unless the model undoes their scale."""

from __future__ import annotations

import pytest
import torch
from small_setups import bench_of, ids, law, mlp, noise, said, signs
from torch import Tensor, nn

from stepwell.doctor.judge import helps


def _in_units(*factors: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    inputs, targets = signs(200)
    return inputs * torch.tensor(factors) + shift, targets


def test_columns_of_very_different_units_are_told_and_standardised_within_the_model() -> None:
    train = _in_units(1.0, 400.0, 0.02, 3000.0)
    bench = bench_of(nn.Identity(), train)
    found, _ = said("input_scale", bench)
    assert found.id == "unnormalised_inputs"
    assert found.proof == "symptom"
    assert found.evidence["largest_spread"] == pytest.approx(float(train[0].std(0, correction=0).max()), rel=1e-4)
    assert found.remedy.change is not None
    outputs = found.remedy.change(bench.setup).model(train[0])
    torch.testing.assert_close(outputs.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_bytes_under_sgd_learn_once_they_are_standardised() -> None:
    inputs, labels = signs(300)
    train, val = (inputs[:200] * 50 + 128, labels[:200]), (inputs[200:] * 50 + 128, labels[200:])
    bench = bench_of(mlp(4, 16, 2), train, val)
    found, _ = said("input_scale", bench)
    assert found.remedy.change is not None
    assert helps(bench.tried(found.remedy.change(bench.setup)))


@pytest.mark.parametrize("first", [nn.BatchNorm1d(4), nn.LayerNorm(4)])
def test_a_norm_layer_in_front_makes_units_no_matter(first: nn.Module) -> None:
    assert ids("input_scale", bench_of(mlp(4, 8, 2, first=first), _in_units(50.0, 50.0, 50.0, 50.0, shift=128.0))) == []


def test_saturated_units_are_no_norm_layer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    assert ids("input_scale", bench_of(model, _in_units(1e4, 1e4, 1e4, 1e4)))[:1] == ["unnormalised_inputs"]


def test_dead_units_are_no_norm_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.constant_(model[0].weight, 0.1)  # type: ignore[arg-type]
    nn.init.constant_(model[0].bias, 0.0)  # type: ignore[arg-type]
    assert ids("input_scale", bench_of(model, _in_units(10.0, 10.0, 10.0, 10.0, shift=-80.0)))[:1] == ["unnormalised_inputs"]


def test_a_rate_that_fits_standard_inputs_is_the_last_remedy_and_it_changes_both() -> None:
    bench = bench_of(mlp(4, 8, 2), _in_units(50.0, 50.0, 50.0, 50.0))
    first, last = said("input_scale", bench)
    assert last.weight < 0.5 < first.weight
    assert last.remedy.change is not None
    mended = last.remedy.change(bench.setup)
    assert mended.lr == pytest.approx(10 * bench.setup.lr)
    assert type(mended.model).__name__ == "StandardInputs"


def test_usual_inputs_sparse_columns_and_tokens_are_no_matter() -> None:
    assert ids("input_scale", bench_of(mlp(4, 8, 2), signs())) == []
    sparse = (noise(200, 30) > 2).float()
    assert ids("input_scale", bench_of(mlp(30, 8, 2), (sparse, signs(200)[1]))) == []
    tokens = torch.arange(600).reshape(100, 6) % 500
    assert ids("input_scale", bench_of(nn.Sequential(nn.Embedding(500, 2), nn.Flatten()), (tokens, tokens[:, 0] % 2))) == []


def test_features_of_sequences_have_scales_of_their_own() -> None:
    inputs = noise(100, 12, 2) * torch.tensor([1.0, 1000.0])
    bench = bench_of(nn.Flatten(), (inputs, inputs[:, 0, 0] > 0), loss=lambda outputs, targets: outputs.mean())
    found, of_all, _ = said("input_scale", bench)
    assert found.evidence["num_features"] == 2
    assert found.remedy.change is not None
    outputs = found.remedy.change(bench.setup).model(inputs)
    assert float(outputs.std()) == pytest.approx(1.0, abs=0.01)
    # One mean and spread for both: the small feature all but vanishes, as it does in the raw rows.
    assert of_all.remedy.change is not None
    whole = of_all.remedy.change(bench.setup).model(inputs)
    assert float(whole.std()) == pytest.approx(1.0, abs=0.01)
    assert float(whole[:, ::2].std()) < 0.01


def test_one_tensor_of_several_is_scaled_and_the_others_are_left() -> None:
    class Joined(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return torch.cat([inputs["a"], inputs["b"]], 1)

    class Both(torch.utils.data.Dataset[tuple[dict[str, Tensor], Tensor]]):
        values = law(80)

        def __len__(self) -> int:
            return 80

        def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
            return {"a": self.values[0][index], "b": self.values[0][index] * 1000}, self.values[1][index]

    bench = bench_of(Joined(), Both(), loss=nn.MSELoss())
    found, _ = said("input_scale", bench)
    assert found.remedy.change is not None
    before = bench.setup.train.inputs
    outputs = found.remedy.change(bench.setup).model(before)
    assert torch.equal(outputs[:, :4], before["a"])
    assert float(outputs[:, 4:].abs().max()) < 10.1
