import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.data.preparation import Preparation
from stepwell.data.series import Series
from stepwell.data.split import SplitSpec

ROWS = 40
DAYS = ["mon", "tue", "wed", "thu", "fri"]


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "date": pd.date_range("2020-01-01", periods=ROWS),
            "volume": rng.normal(3, 2, ROWS),
            "ret": rng.normal(0, 1, ROWS),
            "weekday": [DAYS[row % 5] for row in range(ROWS)],
            "train": [row < 30 for row in range(ROWS)],
        }
    )


def load(folder: Path, made: pd.DataFrame | None = None, split: SplitSpec | None = None, task: str = "regression", **settings):
    (frame() if made is None else made).to_csv(folder / "x.csv", index=False)
    settings = {"path": "x.csv", "target": "volume", "features": ["volume", "ret"], "length": 5, "time": "date", **settings}
    return Series(**settings).load(base=folder, split=split or SplitSpec(by="column", column="train"), task=task, seed=0)


def test_windows_hold_the_lags_standardised_by_the_training_rows(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert data.num_rows == {"train": 25, "test": 10}
    assert data.signature.shape == (5, 2)
    values = frame()[["volume", "ret"]].to_numpy()
    scaled = (values - values[:30].mean(axis=0)) / values[:30].std(axis=0)
    test = data.test.batch(torch.arange(10))
    for place, row in enumerate(range(30, 40)):
        np.testing.assert_allclose(test.inputs[place].numpy(), scaled[row - 5 : row], rtol=1e-4, atol=1e-5)
    targets = frame()["volume"].to_numpy()
    # The target's own statistics are those of the rows that are predicted in training.
    assert data.preparation.target_mean == pytest.approx(targets[5:30].mean())
    back = data.preparation.decode(test.targets)["prediction"]
    np.testing.assert_allclose(back, targets[30:], rtol=1e-5)


def test_nothing_after_the_training_part_changes_what_training_sees(tmp_path: Path) -> None:
    changed = frame()
    changed.loc[30:, ["volume", "ret"]] = 1e6
    one, other = (load(tmp_path, made).train.batch(torch.arange(25)) for made in (frame(), changed))
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("horizon", [1, 2])
def test_a_known_column_shows_the_day_of_the_target(tmp_path: Path, horizon: int) -> None:
    data = load(tmp_path, known=["weekday"], horizon=horizon, split=SplitSpec(by="time", validation=0.2, test=0.2))
    assert data.signature.shape == (5, 7)
    first = 5 + horizon - 1
    batch = data.train.batch(torch.arange(len(data.train)))
    for place in range(len(batch)):
        day = sorted(DAYS)[int(batch.inputs[place, -1, 2:].argmax())]
        assert day == DAYS[(first + place) % 5]
        assert batch.inputs[place, -1, 2:].sum() == 1


def test_parts_follow_each_other_in_time_and_rows_are_sorted_first(tmp_path: Path) -> None:
    shuffled = frame().sample(frac=1, random_state=0)
    split = SplitSpec(by="time", validation=0.2, test=0.2)
    one, other = load(tmp_path, split=split), load(tmp_path, shuffled, split=split)
    assert one.num_rows == {"train": 21, "validation": 7, "test": 7}
    for name in ("train", "validation", "test"):
        first, second = (getattr(data, name).batch(torch.arange(7)) for data in (one, other))
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)


def test_validation_comes_from_the_end_of_the_flagged_training_rows(tmp_path: Path) -> None:
    data = load(tmp_path, split=SplitSpec(by="column", column="train", validation=0.2))
    assert data.num_rows == {"train": 20, "validation": 5, "test": 10}
    assert data.validation.rows.tolist() == [25, 26, 27, 28, 29]


def test_a_new_series_is_predicted_past_its_end(tmp_path: Path) -> None:
    data = load(tmp_path)
    preparation = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    new = frame().iloc[30:]
    with_targets = preparation.examples_from(new, with_targets="required")
    assert len(with_targets) == 5
    assert torch.equal(with_targets.batch(torch.arange(5)).inputs, data.test.batch(torch.arange(5, 10)).inputs)
    lone = load(tmp_path, features=["ret"]).preparation.examples_from(new.drop(columns="volume"))
    assert len(lone) == 6  # the last window ends at the last row and predicts the next one
    assert lone.batch(torch.tensor([5])).targets is None


def test_all_other_columns_are_seen_unless_features_are_named(tmp_path: Path) -> None:
    assert load(tmp_path, features=None).signature.shape == (5, 7)  # volume, ret and five weekdays


def test_directions_can_be_classified(tmp_path: Path) -> None:
    made = frame().assign(up=lambda d: np.where(d["ret"] > 0, "up", "down"))
    data = load(tmp_path, made, task="binary", target="up", features=["ret"])
    assert data.classes == ["down", "up"]
    assert data.test.batch(torch.arange(10)).targets.tolist() == [float(x > 0) for x in frame()["ret"][30:]]


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ({"ret": lambda d: [*range(9), None, *range(30)]}, {}, "x.csv:11: column 'ret' has a gap"),
        ({"ret": lambda d: [1.0, np.inf] * 20}, {}, "x.csv:3: column 'ret' is inf"),
        (
            {"date": lambda d: ["2020-01-01", *map(str, pd.date_range("2020-01-01", periods=39).date)]},
            {},
            "x.csv:3: time 'date'.*twice",
        ),
        ({"date": lambda d: ["2020-01-01", None, *map(str, pd.date_range("2021-01-01", periods=38).date)]}, {}, "x.csv:3: time"),
        ({"train": lambda d: [True, False] * 20}, {}, "mixes training rows"),
        ({}, {"length": 39}, "too few for windows"),
        ({}, {"length": 0}, "data.length is 0"),
        ({}, {"target": "volum"}, "target column 'volum' is missing.*'volume'"),
    ],
)
def test_bad_series_are_refused(tmp_path: Path, change: dict, settings: dict, said: str) -> None:
    made = frame().assign(**{name: make(None) for name, make in change.items()})
    with pytest.raises(DataError, match=said):
        load(tmp_path, made, **settings)


def test_a_series_is_never_split_at_random(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"split.by is random with data source series"):
        load(tmp_path, split=SplitSpec(by="random"))
