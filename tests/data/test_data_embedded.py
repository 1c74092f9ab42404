import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.data.catalog import SOURCES, LoadedData, SplitSpec, source_named
from stepwell.data.preparation import Preparation

NAMES = ("digits", "breast_cancer", "wine", "iris", "diabetes")


def loaded(name: str, *, task: str = "classification", split: SplitSpec | None = None, seed: int = 0, **settings) -> LoadedData:
    return source_named(name)(**settings).load(base=Path("."), split=split or SplitSpec(), task=task, seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_an_embedded_set_is_in_exactly_one_part(name: str) -> None:
    data = loaded(name, task="regression" if name == "diabetes" else "classification")
    read = getattr(sklearn.datasets, f"load_{name}")()
    assert sum(data.num_rows.values()) == len(read.data)
    parts = [part.batch(torch.arange(len(part))) for part in (data.train, data.validation, data.test)]
    columns = data.preparation.reader.columns.numeric
    mean, scale = (np.array([getattr(column, field) for column in columns]) for field in ("mean", "scale"))
    back = torch.cat([part.inputs for part in parts]).double().numpy() * scale + mean
    expected = sorted(map(tuple, read.data.round(3).tolist()))
    np.testing.assert_allclose(sorted(map(tuple, back.round(3).tolist())), expected, atol=0.02)


def test_digits_are_stratified_and_standardised_as_a_whole() -> None:
    data = loaded("digits", split=SplitSpec(validation=0.2, test=0.2, by="stratified"))
    assert data.num_rows == {"train": 1079, "validation": 359, "test": 359}
    batch = data.train.batch(torch.arange(1079))
    assert abs(float(batch.inputs.mean())) < 1e-6
    assert float(batch.inputs.std(correction=0)) == pytest.approx(1, abs=1e-6)
    counts = np.bincount(sklearn.datasets.load_digits().target)
    assert np.abs(torch.bincount(batch.targets).numpy() - 0.6 * counts).max() <= 2
    assert data.classes == [str(k) for k in range(10)]
    assert (data.signature.kind, data.signature.num_outputs) == ("vector", 10)


def test_digits_as_images_hold_the_same_pixels() -> None:
    image, vector = loaded("digits", layout="image"), loaded("digits")
    assert image.signature.shape == (1, 8, 8)
    one, other = (data.train.batch(torch.arange(5)).inputs for data in (image, vector))
    assert torch.equal(one, other.view(5, 1, 8, 8))


def test_the_seed_decides_the_split_and_nothing_else_does() -> None:
    one, again, other = (loaded("iris", seed=seed).test.batch(torch.arange(30)).inputs for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert loaded("iris").fingerprint == loaded("iris", seed=1).fingerprint


def test_breast_cancer_is_binary_with_malignant_as_the_positive_class() -> None:
    data = loaded("breast_cancer", task="binary")
    assert data.classes == ["benign", "malignant"]
    total = sum(float(part.batch(torch.arange(len(part))).targets.sum()) for part in (data.train, data.validation, data.test))
    assert total == 212  # as the set's description says
    assert data.signature.num_outputs == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_preparation_survives_being_written_as_json(name: str) -> None:
    data = loaded(name, task="regression" if name == "diabetes" else "classification")
    again = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    assert again == data.preparation
    assert again.signature() == data.signature


def test_a_set_is_refused_for_a_task_that_it_cant_be_used_for() -> None:
    with pytest.raises(DataError, match="diabetes can't be used for task classification"):
        loaded("diabetes")
    with pytest.raises(JobError, match=r"split.by is time with data source iris"):
        loaded("iris", split=SplitSpec(by="time"))


def test_a_new_frame_with_the_columns_by_name_is_read() -> None:
    data = loaded("iris")
    frame = sklearn.datasets.load_iris(as_frame=True).data
    preparation = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    new = preparation.examples_from(frame[frame.columns[::-1]]).batch(torch.arange(3))
    train = frame.to_numpy()
    assert new.inputs.shape == (3, 4)
    column = data.preparation.reader.columns.numeric[0]
    assert float(new.inputs[0, 0]) == pytest.approx((train[0, 0] - column.mean) / column.scale, rel=1e-5)


def test_every_source_of_a_job_is_registered() -> None:
    assert set(SOURCES) >= {*NAMES, "table", "npy", "npz", "idx", "images", "text", "series"}
    with pytest.raises(JobError, match="Did you mean 'digits'"):
        source_named("digit")
