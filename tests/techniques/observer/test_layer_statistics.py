"""Layer statistics: the numbers are right, and watching changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell import fit
from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.core.modules.layer_statistics import ActivationSums, gradient_statistics, suggest_clip_norm, update_ratio
from stepwell.engine.parts import Execution
from stepwell.engine.records.run_folder import read_layers, read_metrics
from stepwell.engine.train_step import TrainStep
from stepwell.recipe.job import Recipe
from stepwell.techniques import ClipNorm, CrossEntropy, LayerStatistics, Sgd


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def batch(size: int = 12) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.randn(size, 4, generator=draw), torch.randint(3, (size,), generator=draw))


def a_step(every: str = "1 steps", activations: Any = "all", **settings: Any) -> TrainStep:
    return TrainStep(
        network(),
        objective=CrossEntropy(),
        optimizer=Sgd(lr=0.5, momentum=0.0),
        techniques=[LayerStatistics(every=every, activations=activations)],
        horizon=Horizon.of("10 steps"),
        execution=Execution(**settings),
    )


def test_statistics_of_a_gradient_are_those_of_its_values() -> None:
    # By hand: mean 2, squared deviations 1, 4, 9, 4 over 4 make 4.5; norm sqrt(1 + 0 + 25 + 16).
    found = gradient_statistics(torch.tensor([[1.0, 0.0], [5.0, 4.0]]))
    assert found["mean"].item() == 2.5
    assert found["std"].item() == pytest.approx((((1.5**2) + 2.5**2 + 2.5**2 + 1.5**2) / 4) ** 0.5)
    assert found["norm"].item() == pytest.approx(42**0.5)
    assert found["max_abs"].item() == 5.0
    assert found["zero_fraction"].item() == 0.25
    assert gradient_statistics(torch.tensor([-3.0, 1.0]))["max_abs"].item() == 3.0


def test_the_statistics_of_a_half_precision_gradient_are_taken_in_fp32() -> None:
    found = gradient_statistics(torch.full((4096,), 16.0, dtype=torch.bfloat16))
    assert found["norm"].item() == 1024.0
    assert found["norm"].dtype == torch.float32


def test_the_update_ratio_is_the_length_of_the_move_over_the_length_before() -> None:
    before = torch.tensor([3.0, 4.0])
    assert update_ratio(before, torch.tensor([3.0, 3.0])).item() == pytest.approx(0.2)
    assert update_ratio(before, before).item() == 0.0
    assert update_ratio(torch.zeros(2), torch.zeros(2)).item() == 0.0
    assert update_ratio(torch.zeros(2), before).item() == float("inf")


def test_a_unit_is_dead_only_when_it_is_off_for_every_sample_of_the_step() -> None:
    sums = ActivationSums(nn.ReLU())
    sums.add(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]))
    assert sums.statistics()["dead_fraction"].item() == pytest.approx(2 / 3)
    sums.add(torch.tensor([[0.0, 3.0, 0.0]]))
    row = {name: value.item() for name, value in sums.statistics().items()}
    assert row["dead_fraction"] == pytest.approx(1 / 3)
    assert row["zero_fraction"] == pytest.approx(6 / 9)
    assert row["mean"] == pytest.approx(6 / 9)
    assert row["std"] == pytest.approx((14 / 9 - (6 / 9) ** 2) ** 0.5)
    assert "saturated_fraction" not in row


def test_the_units_of_a_convolution_are_its_channels() -> None:
    sums, outputs = ActivationSums(nn.ReLU()), torch.zeros(2, 3, 4, 4)
    outputs[1, 2, 3, 3] = 1.0
    sums.add(outputs)
    assert sums.statistics()["dead_fraction"].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("module", "values", "saturated"),
    [
        (nn.Tanh(), [-0.99, -0.97, 0.0, 0.97, 0.99], 2 / 5),  # within 1 % of the range of 2
        (nn.Sigmoid(), [0.005, 0.02, 0.5, 0.98, 0.995], 2 / 5),
        (nn.ReLU6(), [0.0, 0.0, 5.0, 5.95, 6.0], 2 / 5),  # its zero is the off state
        (nn.Hardtanh(), [-1.0, 1.0, 0.5, 0.2, 0.1], 2 / 5),
    ],
)
def test_saturation_counts_against_the_limits_of_the_activation_itself(
    module: nn.Module, values: list[float], saturated: float
) -> None:
    sums = ActivationSums(module)
    sums.add(torch.tensor(values)[:, None])
    assert sums.statistics()["saturated_fraction"].item() == pytest.approx(saturated)


def test_a_layer_without_limits_has_no_saturation_however_large_its_values_are() -> None:
    sums = ActivationSums(nn.Linear(2, 2))
    sums.add(torch.full((4, 2), 1e6))
    assert set(sums.statistics()) == {"mean", "std", "zero_fraction"}
    assert ActivationSums(nn.Linear(2, 2)).statistics() == {}


def test_the_rows_of_a_step_hold_its_gradients_its_updates_and_its_activations() -> None:
    step, oracle = a_step(), network()
    report = step(batch())
    outputs = oracle(batch().inputs)
    nn.functional.cross_entropy(outputs, batch().targets).backward()
    first = oracle[0].weight
    assert isinstance(first, nn.Parameter)
    assert first.grad is not None
    row = report.layers["0.weight"]
    torch.testing.assert_close(row["gradient_norm"], first.grad.norm())
    torch.testing.assert_close(row["update_ratio"], 0.5 * first.grad.norm() / first.detach().norm())
    torch.testing.assert_close(row["parameter_norm"], (first - 0.5 * first.grad).detach().norm())
    hidden = oracle[1](oracle[0](batch().inputs))
    torch.testing.assert_close(report.layers["1"]["activation_zero_fraction"], (hidden == 0).float().mean())
    torch.testing.assert_close(report.layers["4"]["activation_mean"].float(), outputs.mean().detach())
    assert set(report.layers) == {*(name for name, _ in oracle.named_parameters()), "0", "1", "2", "3", "4"}


def test_micro_batches_give_the_activations_of_the_whole_batch() -> None:
    whole, cut = a_step()(batch()).layers, a_step(micro_batch_size=5)(batch()).layers
    for name, row in whole.items():
        for key, value in row.items():
            torch.testing.assert_close(cut[name][key], value, rtol=1e-5, atol=1e-6)


class Classes(nn.Module):
    """Scores to class numbers."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores.argmax(-1)


def test_layers_that_give_no_floating_point_tensor_have_no_row() -> None:
    model = nn.ModuleDict({"recurrent": nn.LSTM(2, 3), "classes": Classes(), "linear": nn.Linear(3, 2)})
    watch = LayerStatistics(every="1 steps")(Horizon.of("1 steps"))
    watch.begin(model)
    outputs = model["linear"](model["recurrent"](torch.ones(4, 2))[0])
    model["classes"](outputs)
    outputs.sum().backward()
    watch.gradients(model)
    assert {name for name in watch.end(model) if "." not in name} == {"linear"}


def test_a_layer_that_saw_an_empty_batch_has_no_row() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    watch = LayerStatistics(every="1 steps")(Horizon.of("1 steps"))
    watch.begin(model)
    model(torch.ones(0, 2)).sum().backward()
    watch.gradients(model)
    assert "0" not in watch.end(model)


def test_only_the_activations_that_were_asked_for_are_watched() -> None:
    assert {name for name in a_step(activations="limited")(batch()).layers if "." not in name} == {"1", "3"}
    assert {name for name in a_step(activations="none")(batch()).layers if "." not in name} == set()


def test_a_step_is_watched_when_it_is_due_and_leaves_no_hook_behind() -> None:
    step = a_step(every="3 steps")
    assert [bool(step(batch()).layers) for _ in range(7)] == [True, False, False, True, False, False, True]
    assert all(not module._forward_hooks for module in step.model.modules())


@pytest.mark.parametrize("every", ["1%", "1 steps", "0.5 steps"])
def test_less_than_a_step_between_two_rows_watches_every_step(every: str) -> None:
    watch = LayerStatistics(every=every)(Horizon.of("10 steps"))
    assert [watch.due(steps) for steps in range(3)] == [True, True, True]


def test_a_step_that_is_skipped_has_no_rows_and_the_next_one_is_watched_in_its_place() -> None:
    step, bad = a_step(every="3 steps"), batch()
    bad.inputs[0, 0] = float("nan")
    assert step(bad).layers == {}
    assert all(not module._forward_hooks for module in step.model.modules())
    assert step(batch()).layers


def test_watching_changes_no_bit(tmp_path: Path) -> None:
    def weights(techniques: list[Any]) -> list[Tensor]:
        whole = batch(40)
        recipe = Recipe(optimizer="adamw", techniques=techniques, batch_size=8)
        run = fit(network(), (whole.inputs, whole.targets), recipe=recipe, budget="3 epochs")
        return [parameter.detach() for parameter in run.model.parameters()]

    plain, watched = weights([]), weights([LayerStatistics(every="2 steps")])
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))


def test_a_run_folder_holds_a_row_for_each_layer_and_the_clip_rate_of_each_window(tmp_path: Path) -> None:
    whole = batch(40)
    recipe = Recipe(optimizer=Sgd(lr=0.1), techniques=[ClipNorm(max_norm=1e-6), LayerStatistics(every="4 steps")], batch_size=8)
    run = fit(
        network(), (whole.inputs, whole.targets), recipe=recipe, budget="12 steps", out=tmp_path / "run", log_every="6 steps"
    )
    rows = read_layers(tmp_path / "run")
    assert rows == run.history.layers
    assert sorted({row["step"] for row in rows}) == [1, 5, 9]
    assert {row["name"] for row in rows} == {*(name for name, _ in network().named_parameters()), "0", "1", "2", "3", "4"}
    windows = read_metrics(tmp_path / "run", "train")
    assert [row["clip_norm.clipped"] for row in windows] == [1.0, 1.0]
    assert [row["clip_norm.clipped"] for row in run.history.train] == [1.0, 1.0]


def test_a_clip_threshold_is_the_quantile_of_the_norms_that_were_logged() -> None:
    norms = [float(value) for value in range(1, 101)]
    assert suggest_clip_norm(norms) == 91.0
    assert suggest_clip_norm(norms, quantile=0.5) == 51.0
    assert suggest_clip_norm([*norms, float("nan"), float("inf")]) == 91.0
    assert suggest_clip_norm([0.123456] * 10) == 0.12
    assert suggest_clip_norm([1.0] * 9) is None


@pytest.mark.parametrize("settings", [{"every": "0 steps"}, {"every": "5"}, {"activations": "some"}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="layer_statistics"):
        LayerStatistics(**settings)
