"""Several targets at once, and sample weights from files of arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stepwell.core.errors import DataError
from stepwell.data.npy import Npy
from stepwell.data.npz import Npz
from stepwell.data.preparation import Preparation
from stepwell.data.registry import LoadedData
from stepwell.data.split import SplitSpec
from stepwell.data.table_source import TableSource
from stepwell.data.target_kinds import ManyTargets
from stepwell.data.targets import TargetEncoder

TIME = SplitSpec(by="time")
DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": DRAW.normal(size=20),
        "z": DRAW.normal(size=20),
        "kind": ["a", "b", "c", "a"] * 5,
        "sold": ["no", "yes"] * 10,
        "price": DRAW.normal(50, 10, 20),
        "area": DRAW.normal(5, 1, 20),
    }
)


def table(base: Path, task: str, **settings: object) -> LoadedData:
    FRAME.to_csv(base / "t.csv", index=False)
    return TableSource(path="t.csv", **settings).load(base=base, split=TIME, task=task, seed=0)  # type: ignore[arg-type]


def test_several_tasks_have_a_tensor_each_by_name_and_what_they_are_follows_from_the_values(tmp_path: Path) -> None:
    data = table(tmp_path, "multi_task", target=["kind", "sold", "price"], drop=["area"])
    target = data.preparation.target
    assert isinstance(target, ManyTargets)
    assert target.tasks == {"kind": "classification", "sold": "binary", "price": "regression"}
    assert data.signature.heads == (("kind", 3), ("sold", 1), ("price", 1))
    assert data.signature.num_outputs == 5
    assert data.signature.shape == (2,)
    targets = data.test.batch(torch.arange(4)).targets  # type: ignore[union-attr]
    price = FRAME["price"].to_numpy()
    assert targets["kind"].tolist() == [0, 1, 2, 0]
    assert targets["sold"].tolist() == [0.0, 1.0, 0.0, 1.0]
    np.testing.assert_allclose(targets["price"], (price[16:] - price[:12].mean()) / price[:12].std(), rtol=1e-5)
    assert target.scale == {"kind": 1.0, "sold": 1.0, "price": pytest.approx(price[:12].std())}


def test_a_task_can_be_said_instead_and_the_positive_class_too(tmp_path: Path) -> None:
    data = table(
        tmp_path, "multi_task", target=["kind", "sold"], tasks={"sold": "classification"}, positive="no", drop=["price", "area"]
    )
    assert data.preparation.target.tasks == {"kind": "classification", "sold": "classification"}  # type: ignore[attr-defined]
    swapped = table(tmp_path, "multi_task", target=["kind", "sold"], positive="no", drop=["price", "area"])
    assert swapped.train.batch(torch.arange(2)).targets["sold"].tolist() == [1.0, 0.0]


def test_outputs_of_several_tasks_are_columns_with_the_task_in_front(tmp_path: Path) -> None:
    preparation = table(tmp_path, "multi_task", target=["kind", "price"], drop=["area", "sold"]).preparation
    again = Preparation.from_dict(json.loads(json.dumps(preparation.to_dict())))
    assert again == preparation
    outputs = {"kind": torch.tensor([[0.0, 2.0, 0.0]]), "price": torch.tensor([[1.0]])}
    columns = again.decode(outputs)
    price = FRAME["price"].to_numpy()[:12]
    assert columns["kind.prediction"] == ["b"]
    assert columns["kind.probability_b"][0] == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    assert columns["price.prediction"][0] == pytest.approx(price.mean() + price.std())


def test_a_regression_with_several_columns_standardises_each_and_turns_them_back(tmp_path: Path) -> None:
    data = table(tmp_path, "regression", target=["price", "area"], drop=["kind", "sold"])
    values = FRAME[["price", "area"]].to_numpy()
    mean, spread = values[:12].mean(0), values[:12].std(0)
    assert data.signature.num_outputs == 2
    targets = data.test.batch(torch.arange(4)).targets  # type: ignore[union-attr]
    np.testing.assert_allclose(targets, (values[16:] - mean) / spread, rtol=1e-4)
    again = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    assert again == data.preparation
    columns = again.decode(targets)
    assert list(columns) == ["prediction_price", "prediction_area"]
    np.testing.assert_allclose(columns["prediction_area"], values[16:, 1], rtol=1e-5)
    assert again.target_scale == pytest.approx(tuple(spread))


def test_whole_numbers_and_fractions_in_one_regression_are_both_numbers() -> None:
    mixed = np.array([[1, 0.5], [3, 1.5]], dtype=object)
    encoder = TargetEncoder.fit(mixed, task="regression", names=("a", "b"))
    assert encoder.mean == (2.0, 1.0)
    assert encoder.scale == (1.0, 0.5)
    with pytest.raises(DataError, match="target 'b' is 1 in every"):
        TargetEncoder.fit(np.array([[1.0, 1.0], [2.0, 1.0]]), task="regression", names=("a", "b"))


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("multi_task", {"target": "kind"}, "data.target is 'kind' for task multi_task"),
        ("multi_task", {"target": ["kind", "sold"], "tasks": {"knd": "binary"}}, "data.tasks names 'knd'.*'kind'"),
        ("multi_task", {"target": ["kind", "sold"], "tasks": {"kind": "ranking"}}, "data.tasks says kind: ranking"),
        ("multi_task", {"target": ["kind", "sold"], "tasks": {"kind": "binary"}}, "3 different values"),
        ("binary", {"target": "sold", "tasks": {"sold": "binary"}}, "data.tasks is set for task binary"),
        ("classification", {"target": ["kind", "sold"]}, "data.target has 2 columns for task classification"),
    ],
)
def test_targets_that_dont_go_together_are_refused(tmp_path: Path, task: str, settings: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        table(tmp_path, task, **settings)


INPUTS, TARGETS, WEIGHTS = DRAW.normal(size=(10, 3)), np.arange(10) % 2, np.linspace(0, 3, 10)


def arrays(base: Path, weights: np.ndarray) -> tuple[Npz, Npy]:
    np.savez(base / "a.npz", inputs=INPUTS, targets=TARGETS, share=weights)
    (base / "a").mkdir(exist_ok=True)
    for name, array in (("inputs", INPUTS), ("targets", TARGETS), ("share", weights)):
        np.save(base / "a" / f"{name}.npy", array)
    return Npz(path="a.npz", weights="share"), Npy(path="a", weights="share.npy")


def test_weights_of_arrays_travel_with_every_part_and_with_new_files(tmp_path: Path) -> None:
    for source in arrays(tmp_path, WEIGHTS):
        data = source.load(base=tmp_path, split=TIME, task="classification", seed=0)
        parts = [getattr(data, name) for name in ("train", "validation", "test")]
        found = torch.cat([part.batch(torch.arange(len(part))).weights for part in parts])
        np.testing.assert_allclose(found, WEIGHTS, rtol=1e-6)
        assert found.dtype == torch.float32
        again = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
        read = again.examples_from(tmp_path / source.path).batch(torch.tensor([9, 1]))
        np.testing.assert_allclose(read.weights, WEIGHTS[[9, 1]], rtol=1e-6)
        assert read.inputs.shape == (2, 3)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (-WEIGHTS, "weight .* is -0.333.* in row 1"),
        (np.where(WEIGHTS > 2, np.nan, 1.0), "is nan in row 7"),
        (np.ones((10, 2)), "the weights .* of shape .10, 2."),
        (np.ones(9), "of shape .9,. for 10 examples"),
    ],
)
def test_weights_that_weigh_nothing_sensible_are_refused(tmp_path: Path, weights: np.ndarray, said: str) -> None:
    for source in arrays(tmp_path, weights):
        with pytest.raises(DataError, match=said):
            source.load(base=tmp_path, split=TIME, task="classification", seed=0)
