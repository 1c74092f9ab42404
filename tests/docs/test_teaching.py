"""The teaching chapter is right: its numpy against torch, its hand figures, its pictures, and the page against its files."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import math
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from stepwell.core.catalog import discover
from stepwell.core.clock import Horizon
from stepwell.core.modules.activation_variance import predicted_moments
from stepwell.techniques import Cosine, KaimingInit, Sgd, Step, WarmupCosine, XavierInit

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "teaching"
PAGE = ROOT / "docs" / "teaching.md"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
EXACT = {"rtol": 0.0, "atol": 1e-12}


class Chapter:
    """The files of the chapter by name."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@pytest.fixture
def chapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chapter]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield Chapter()
    for name in FILES:  # short names like "network" shall not be there for other tests
        sys.modules.pop(name, None)


# --- gradient descent


def linear_data(num: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=3), rng.normal(size=(num, 3)), rng.normal(size=num)


def test_the_gradient_of_the_squared_error_is_torch_s(chapter: Chapter) -> None:
    weights, x, y = linear_data()
    leaf = torch.tensor(weights, requires_grad=True)
    loss = nn.functional.mse_loss(torch.tensor(x) @ leaf, torch.tensor(y))
    loss.backward()
    assert chapter.gradient_descent.mean_squared_error(weights, x, y) == pytest.approx(loss.item(), abs=1e-12)
    np.testing.assert_allclose(chapter.gradient_descent.gradient(weights, x, y), leaf.grad.numpy(), **EXACT)


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_descent_in_batches_takes_torch_s_steps_with_the_short_batch_last(chapter: Chapter, batch_size: int) -> None:
    weights, x, y = linear_data()
    found = chapter.gradient_descent.descend(
        weights, x, y, lr=0.05, batch_size=batch_size, num_epochs=2, rng=np.random.default_rng(7)
    )
    leaf = torch.tensor(weights, requires_grad=True)
    optimizer, rng = torch.optim.SGD([leaf], lr=0.05), np.random.default_rng(7)
    for _ in range(2):
        for rows in torch.tensor(rng.permutation(12)).split(batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(torch.tensor(x)[rows] @ leaf, torch.tensor(y)[rows]).backward()
            optimizer.step()
    np.testing.assert_allclose(found, leaf.detach().numpy(), **EXACT)


def walked(optimizer_of: object, num_steps: int = 20) -> np.ndarray:
    """The walk of a torch optimizer down the valley of curvatures 1 and 12, from (1, 1)."""
    leaf, curvature = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.tensor([1.0, 12.0], dtype=torch.float64)
    optimizer, points = optimizer_of([leaf]), [leaf.detach().clone()]  # type: ignore[operator]
    for _ in range(num_steps):
        optimizer.zero_grad()
        (0.5 * curvature @ leaf**2).backward()
        optimizer.step()
        points.append(leaf.detach().clone())
    return torch.stack(points).numpy()


def test_momentum_walks_where_torch_and_stepwell_walk(chapter: Chapter) -> None:
    curvature = np.array([1.0, 12.0])
    path = chapter.gradient_descent.momentum_path(lambda at: curvature * at, np.ones(2), lr=0.02, momentum=0.9, num_steps=20)
    np.testing.assert_allclose(path, walked(lambda group: torch.optim.SGD(group, lr=0.02, momentum=0.9)), **EXACT)
    np.testing.assert_allclose(path, walked(lambda group: Sgd(lr=0.02, momentum=0.9)([{"params": group}])), **EXACT)


def test_averaged_momentum_is_torch_s_dampening_but_for_its_first_step(chapter: Chapter) -> None:
    # torch's buffer begins as the whole gradient: give the averaging form nine tenths of a gradient to start from.
    curvature, torch_s = np.array([1.0, 12.0]), walked(lambda group: torch.optim.SGD(group, 0.02, momentum=0.9, dampening=0.9))
    path = chapter.gradient_descent.averaging_path(lambda at: curvature * at, np.ones(2), lr=0.02, momentum=0.9, num_steps=20)
    np.testing.assert_allclose(path[1], 1 - 0.02 * 0.1 * curvature, **EXACT)
    np.testing.assert_allclose(torch_s[1], 1 - 0.02 * curvature, **EXACT)

    velocity, point = curvature.copy(), np.ones(2) - 0.02 * curvature
    for expected in torch_s[2:]:
        velocity = 0.9 * velocity + 0.1 * curvature * point
        point = point - 0.02 * velocity
        np.testing.assert_allclose(point, expected, **EXACT)


def test_a_rate_above_two_over_the_curvature_diverges_and_one_below_does_not(chapter: Chapter) -> None:
    curvature = np.array([1.0, 12.0])

    def end(lr: float) -> float:
        path = chapter.gradient_descent.momentum_path(lambda at: curvature * at, np.ones(2), lr=lr, momentum=0.0, num_steps=200)
        return float(abs(path[-1, 1]))

    assert end(2 / 12 * 1.01) > 10
    assert end(2 / 12 * 0.99) < 0.1


# --- backpropagation


def test_the_network_s_output_and_gradients_are_torch_s(chapter: Chapter) -> None:
    network, rng = chapter.network, np.random.default_rng(1)
    net, x, y = network.initial(4, 6, 3, rng), rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
    net.bias_1, net.bias_2 = rng.normal(size=6), rng.normal(size=3)
    leaves = [torch.tensor(value, requires_grad=True) for value in (net.weight_1, net.bias_1, net.weight_2, net.bias_2)]
    output = torch.sigmoid(torch.tensor(x) @ leaves[0] + leaves[1]) @ leaves[2] + leaves[3]
    loss = nn.functional.mse_loss(output, torch.tensor(y))
    loss.backward()
    np.testing.assert_allclose(network.forward(net, x)[1], output.detach().numpy(), **EXACT)
    assert network.loss(network.forward(net, x)[1], y) == pytest.approx(loss.item(), abs=1e-12)
    found = network.backward(net, x, y)
    for ours, theirs in zip((found.weight_1, found.bias_1, found.weight_2, found.bias_2), leaves):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), **EXACT)


def test_the_network_learns_exclusive_or_in_torch_s_steps(chapter: Chapter) -> None:
    network = chapter.network
    x, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0.0], [1.0], [1.0], [0.0]])
    net = network.initial(2, 8, 1, np.random.default_rng(0))
    model = nn.Sequential(nn.Linear(2, 8), nn.Sigmoid(), nn.Linear(8, 1)).double()
    for layer, weight, bias in ((model[0], net.weight_1, net.bias_1), (model[2], net.weight_2, net.bias_2)):
        layer.weight.data, layer.bias.data = torch.tensor(weight.T.copy()), torch.tensor(bias.copy())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for number in range(1000):
        if number < 50:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(y)).backward()
            optimizer.step()
        net = network.step(net, network.backward(net, x, y), lr=0.5)
        if number == 49:
            np.testing.assert_allclose(net.weight_1, model[0].weight.detach().numpy().T, **EXACT)
            np.testing.assert_allclose(net.bias_2, model[2].bias.detach().numpy(), **EXACT)
    assert network.forward(net, x)[1].round(2).tolist() == y.tolist()


def test_a_sigmoid_of_large_numbers_doesn_t_overflow(chapter: Chapter) -> None:
    with np.errstate(all="raise"):
        found = chapter.network.sigmoid(np.array([-1000.0, -2.0, 0.0, 1000.0]))
    np.testing.assert_allclose(found, [0.0, 1 / (1 + math.e**2), 0.5, 1.0], **EXACT)


def test_the_network_s_loss_refuses_shapes_that_would_broadcast(chapter: Chapter) -> None:
    with pytest.raises(ValueError, match=r"outputs \(4, 1\) and targets \(4,\)"):
        chapter.network.loss(np.zeros((4, 1)), np.zeros(4))


# --- batch norm


@pytest.mark.parametrize("num", [2, 8, 33])
def test_batch_norm_is_torch_s_forward_backward_and_in_evaluation(chapter: Chapter, num: int) -> None:
    rng = np.random.default_rng(num)
    norm, reference = chapter.batch_norm.BatchNorm(5), nn.BatchNorm1d(5, dtype=torch.float64)
    norm.gamma, norm.beta = rng.normal(size=5), rng.normal(size=5)
    reference.weight.data, reference.bias.data = torch.tensor(norm.gamma), torch.tensor(norm.beta)
    for _ in range(3):
        # Two samples with nearly the same value would only measure how the two round: keep the spread of each feature wide.
        x, d_y = rng.normal(3, 5, size=(num, 5)) + np.linspace(-9, 9, num)[:, None], rng.normal(size=(num, 5))
        leaf = torch.tensor(x, requires_grad=True)
        reference.zero_grad()
        output = reference(leaf)
        output.backward(torch.tensor(d_y))
        np.testing.assert_allclose(norm.forward(x), output.detach().numpy(), **EXACT)
        np.testing.assert_allclose(norm.backward(d_y), leaf.grad.numpy(), **EXACT)
        np.testing.assert_allclose(norm.d_gamma, reference.weight.grad.numpy(), **EXACT)
        np.testing.assert_allclose(norm.d_beta, reference.bias.grad.numpy(), **EXACT)
    np.testing.assert_allclose(norm.running_mean, reference.running_mean.numpy(), **EXACT)
    np.testing.assert_allclose(norm.running_variance, reference.running_var.numpy(), **EXACT)
    np.testing.assert_allclose(norm.evaluate(x), reference.eval()(torch.tensor(x)).detach().numpy(), **EXACT)


def test_a_sum_of_normalised_outputs_has_no_gradient_so_it_checks_nothing(chapter: Chapter) -> None:
    norm, x = chapter.batch_norm.BatchNorm(2), np.random.default_rng(0).normal(size=(6, 2))
    norm.forward(x)
    np.testing.assert_allclose(norm.backward(np.ones((6, 2))), 0, **EXACT)


def test_batch_norm_refuses_a_batch_of_one_sample(chapter: Chapter) -> None:
    with pytest.raises(ValueError, match="one sample"):
        chapter.batch_norm.BatchNorm(2).forward(np.zeros((1, 2)))


# --- dropout


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_dropout_with_torch_s_mask_gives_torch_s_outputs_and_gradients(chapter: Chapter, rate: float) -> None:
    rng = np.random.default_rng(4)
    x, d_y = rng.normal(size=(50, 4)), rng.normal(size=(50, 4))
    generator_state = torch.get_rng_state()
    leaf = torch.tensor(x, requires_grad=True)
    output = nn.functional.dropout(leaf, rate, training=True)
    torch.set_rng_state(generator_state)
    mask = nn.functional.dropout(torch.ones(50, 4, dtype=torch.float64), rate, training=True).numpy()
    output.backward(torch.tensor(d_y))
    np.testing.assert_allclose(chapter.dropout.forward(x, mask), output.detach().numpy(), **EXACT)
    np.testing.assert_allclose(chapter.dropout.backward(d_y, mask), leaf.grad.numpy(), **EXACT)
    assert set(np.unique(mask)) <= set(np.unique(chapter.dropout.draw_mask((500,), rate, rng)))


def test_masks_drop_their_share_and_keep_the_mean(chapter: Chapter) -> None:
    num = 100_000
    mask = chapter.dropout.draw_mask((num,), 0.2, np.random.default_rng(5))
    dropped = np.count_nonzero(mask == 0)
    assert abs(dropped - 0.2 * num) < 5 * math.sqrt(num * 0.2 * 0.8)  # five deviations of a binomial
    assert set(np.unique(mask)) == {0.0, 1.25}


def test_a_mask_is_drawn_at_rate_0_and_refused_outside_zero_to_one(chapter: Chapter) -> None:
    assert chapter.dropout.draw_mask((3,), 0.0, np.random.default_rng(0)).tolist() == [1.0, 1.0, 1.0]
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="the rate is"):
            chapter.dropout.draw_mask((3,), rate, np.random.default_rng(0))


def test_keeping_units_0_and_2_of_four_doubles_them(chapter: Chapter) -> None:
    mask = np.array([2.0, 0.0, 2.0, 0.0])  # rate 0.5
    assert chapter.dropout.forward(np.array([0.8, 0.2, 0.5, 1.0]), mask).tolist() == [1.6, 0.0, 1.0, 0.0]


# --- activation variance


def test_the_draws_that_are_compared_are_those_of_torch_and_of_the_techniques(chapter: Chapter) -> None:
    draws = chapter.activation_variance.standard_deviations(300)
    assert draws["He"] == pytest.approx(math.sqrt(2 / 300))
    assert draws["Xavier"] == pytest.approx(math.sqrt(1 / 300))
    # torch's own call, whose uniform draw has the deviation bound / sqrt(3).
    gain = nn.init.calculate_gain("leaky_relu", math.sqrt(5))
    assert draws["torch's default"] == pytest.approx(gain / math.sqrt(300))
    layers = {name: nn.Linear(300, 300) for name in ("torch's default", "He", "Xavier")}
    KaimingInit()(layers["He"], _rng())
    XavierInit()(layers["Xavier"], _rng())
    for name, layer in layers.items():  # 90,000 draws: their deviation is known to 0.24 %
        assert layer.weight.std().item() == pytest.approx(draws[name], rel=0.01)


def _rng() -> object:
    from stepwell.core.randomness import Rng

    return Rng(0)


@pytest.mark.parametrize(("std", "factor"), [(0.01, 0.0256), (math.sqrt(1 / 512), 0.5), (math.sqrt(2 / 512), 1.0), (1.0, 256.0)])
def test_theory_for_rectifiers_is_the_closed_form(chapter: Chapter, std: float, factor: float) -> None:
    depth = np.arange(1, 21)
    found = chapter.activation_variance.predicted(chapter.activation_variance.relu, std, width=512, depth=20)
    assert found[0] == 1.0
    np.testing.assert_allclose(found[1:], (1 - 1 / math.pi) * factor**depth, rtol=1e-10)


def test_theory_gives_1e_32_for_the_small_draw_and_not_1e_18(chapter: Chapter) -> None:
    found = chapter.activation_variance.predicted(chapter.activation_variance.relu, 0.01, width=512, depth=20)[-1]
    assert found == pytest.approx(10 ** (20 * math.log10(0.0256)) * (1 - 1 / math.pi), rel=1e-9)
    assert 0.9e-32 < found < 1.1e-32


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_stepwell_s_own_prediction_is_the_same(chapter: Chapter, activation: str) -> None:
    part = chapter.activation_variance
    function = part.relu if activation == "relu" else np.tanh
    for std in part.standard_deviations(512).values():
        expected = [moments.variance for moments in predicted_moments(depth=20, width=512, std=std, activation=activation)]
        np.testing.assert_allclose(part.predicted(function, std, width=512, depth=20)[1:], expected[1:], rtol=1e-6)


def test_theory_for_tanh_is_torch_s_integral(chapter: Chapter) -> None:
    # E[tanh(sqrt(q) z)^2] by a plain sum over a fine grid of z.
    z = torch.linspace(-10, 10, 400_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    moment, expected = 1.0, [1.0]
    for _ in range(6):
        moment = float((density * torch.tanh(math.sqrt(2 * moment) * z) ** 2).sum())
        expected.append(moment)
    found = chapter.activation_variance.predicted(np.tanh, math.sqrt(2 / 64), width=64, depth=6)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["0.01", "torch's default", "Xavier", "He", "1"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_is_measured_lies_on_the_line_of_theory(chapter: Chapter, name: str, activation: str) -> None:
    part, width, depth, num = chapter.activation_variance, 128, 10, 12
    function = part.relu if activation == "relu" else np.tanh
    std = part.standard_deviations(width)[name]
    draws = [
        part.measured(function, std, width=width, depth=depth, num_samples=100, rng=np.random.default_rng(seed))
        for seed in range(num)
    ]
    off = np.log(np.stack(draws)[:, -1]) - np.log(part.predicted(function, std, width=width, depth=depth)[-1])
    # A layer's own luck has a relative variance of at most 5 / width; its logarithm is low by half of that in the mean.
    luck = 5 * depth / width
    assert abs(off.mean() + luck / 4) < luck / 4 + 4 * math.sqrt(luck / num)
    assert np.abs(off).max() < 5 * math.sqrt(luck)


def test_the_variance_that_fp32_prints_as_infinite_is_1e48_and_its_activations_are_finite() -> None:
    generator = torch.Generator().manual_seed(42)
    x = torch.randn(100, 512, generator=generator)
    for _ in range(20):
        x = torch.relu(x @ torch.randn(512, 512, generator=generator))
    assert bool(x.isfinite().all())
    assert x.var().item() == math.inf
    assert 1e47 < x.double().var().item() < 1e49


# --- worked examples


def test_four_numbers_are_normalised_to_the_printed_values(chapter: Chapter) -> None:
    printed = [-1.342, -0.447, 0.447, 1.342]
    layer = nn.BatchNorm1d(1)
    torch_s = layer(torch.tensor([[1.0], [3.0], [5.0], [7.0]]))[:, 0]
    ours = chapter.batch_norm.BatchNorm(1).forward(np.array([[1.0], [3.0], [5.0], [7.0]]))[:, 0]
    for found in (chapter.worked_examples.normalised_by_hand(), ours.tolist(), torch_s.tolist()):
        assert [round(value, 3) for value in found] == printed


STEP_DECAY = {1: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 0.001}
COSINE = {0: 0.01, 25: 0.00855, 50: 0.00505, 75: 0.00155, 100: 0.0001}


def test_step_decay_has_the_printed_values_and_torch_s(chapter: Chapter) -> None:
    leaf = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([leaf], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    [drive] = Step(every="30 epochs")(Horizon.of("90 epochs", steps_per_epoch=1)).drives
    for epoch in range(61):
        rate = chapter.worked_examples.step_decay(0.1, epoch)
        assert rate == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        assert rate == pytest.approx(0.1 * drive.value(epoch), abs=1e-12)
        assert rate == pytest.approx(STEP_DECAY.get(epoch, rate), abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_cosine_decay_has_the_printed_values_torch_s_and_stepwell_s(chapter: Chapter) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.0001)
    horizon = Horizon.of("100 epochs", steps_per_epoch=1)
    schedules = [WarmupCosine(warmup="0 epochs", floor=0.01)(horizon), Cosine(floor=0.01)(horizon)]
    for epoch in range(101):
        rate = chapter.worked_examples.cosine_decay(0.01, 0.0001, epoch, num_epochs=100)
        assert rate == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        for schedule in schedules:
            assert rate == pytest.approx(0.01 * schedule.drives[0].value(epoch), abs=1e-12)
        assert round(rate, 6) == COSINE.get(epoch, round(rate, 6))
        optimizer.step()
        scheduler.step()


# --- the page, the files and the pictures


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_chapter_runs_and_reports(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    sys.modules.pop("batch_norm", None)
    assert len(capsys.readouterr().out.splitlines()) >= 4


def definitions(source: str) -> dict[str, str]:
    """Functions and classes of a module by name, as text."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return {node.name: ast.unparse(node) for node in nodes}


def test_the_code_on_the_page_is_the_code_that_is_tested() -> None:
    page = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
    shown = [definition for node in page.split("\n\n\n") for definition in definitions(node).items()]
    sources = {name: definitions((FOLDER / f"{name}.py").read_text(encoding="utf-8")) for name in FILES}
    assert len(shown) >= 18
    for name, text in shown:
        assert text in [known[name] for known in sources.values() if name in known], f"{name} on the page is not in a file"
    assert all(any(name in known for name, _ in shown) for known in sources.values()), "a file has no section"


def test_the_techniques_that_the_chapter_names_are_in_the_catalog() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## From these pieces to techniques")[1]
    named = set(re.findall(r"`([a-z][a-z_0-9]+)`", section))
    assert len(named) > 10
    assert named <= set(discover()) | {"batch_size"}


def test_the_chapter_s_pictures_are_drawn_by_its_script(tmp_path: Path) -> None:
    path = list(sys.path)
    try:
        spec = importlib.util.spec_from_file_location("teaching_pictures", ROOT / "docs" / "teaching_pictures.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
    finally:
        sys.path[:] = path
        for name in FILES:
            sys.modules.pop(name, None)
    figure = script.activation_variance(width=32, depth=4, num_samples=20, num_draws=2)
    rectifier, tanh = figure.axes
    for axes in (rectifier, tanh):
        assert axes.get_yscale() == "log"
        assert len(axes.texts) == 5
        assert all(text.get_text() for text in axes.texts)
    he = [line for line in rectifier.lines if line.get_color() == script.COLOURS["He"] and line.get_marker() == "None"]
    np.testing.assert_allclose(he[0].get_ydata(), [1, *[1 - 1 / math.pi] * 4], rtol=1e-9)
    script.save(figure, tmp_path / "variance.png")
    paths = script.descent_paths(num_steps=3)
    assert len(paths.axes) == 4
    script.save(paths, tmp_path / "paths.png")
    shown = re.findall(r"\(images/(\w+\.png)\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == ["activation_variance.png", "descent_paths.png"]
    for image in [*tmp_path.glob("*.png"), *(ROOT / "docs" / "images" / name for name in shown)]:
        assert image.read_bytes().startswith(b"\x89PNG")
