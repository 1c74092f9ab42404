import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from stepwell.core.errors import DataError, JobError
from stepwell.data.preparation import Preparation
from stepwell.data.split import SplitSpec
from stepwell.data.table_source import TableSource

ROWS = 60


def frame(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "age": rng.normal(40, 10, rows),
            "income": rng.lognormal(3, 1, rows),
            "home": rng.choice(["rent", "own", "other"], rows),
            "flag": rng.choice([True, False], rows),
            "status": rng.choice(["good", "bad"], rows),
            "price": rng.normal(100, 20, rows),
            "client": np.arange(rows) // 3,
            "day": pd.date_range("2020-01-01", periods=rows).to_numpy()[rng.permutation(rows)],
        }
    )
    made.loc[::7, "income"] = np.nan
    made.loc[::11, "home"] = None
    return made


def loaded(folder: Path, made: pd.DataFrame | None = None, *, task: str = "binary", split: SplitSpec | None = None, **settings):
    (frame() if made is None else made).to_csv(folder / "x.csv", index=False)
    settings = {"path": "x.csv", "target": "status", "drop": ["price", "client", "day"], **settings}
    return TableSource(**settings).load(base=folder, split=split or SplitSpec(by="time"), task=task, seed=0)


def test_numbers_are_standardised_and_gaps_filled_with_the_training_parts_statistics(tmp_path: Path) -> None:
    data = loaded(tmp_path)
    train = frame().iloc[:36][["age", "income"]]
    imputer = SimpleImputer(strategy="median").fit(train)
    scaler = StandardScaler().fit(imputer.transform(train))
    for part, rows in ((data.train, slice(0, 36)), (data.validation, slice(36, 48)), (data.test, slice(48, 60))):
        values = frame().iloc[rows][["age", "income"]]
        expected = np.column_stack([scaler.transform(imputer.transform(values)), values["income"].isna()])
        numeric = part.batch(torch.arange(len(part))).inputs["numeric"]
        assert numeric.dtype == torch.float32
        np.testing.assert_allclose(numeric.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_categories_are_coded_from_1_and_gaps_are_0(tmp_path: Path) -> None:
    data = loaded(tmp_path)
    assert data.signature.kind == "table"
    assert data.signature.cardinalities == (4, 3)
    assert data.signature.shape == (3,)
    codes = data.train.batch(torch.arange(36)).inputs["categories"]
    order = {"other": 1, "own": 2, "rent": 3}
    assert codes[:, 0].tolist() == [order.get(value, 0) for value in frame()["home"][:36]]
    assert codes[:, 1].tolist() == [2 if value else 1 for value in frame()["flag"][:36]]


def test_targets_follow_the_task(tmp_path: Path) -> None:
    binary = loaded(tmp_path, positive="bad")
    assert binary.classes == ["good", "bad"]
    targets = binary.train.batch(torch.arange(36)).targets
    assert targets.tolist() == [float(value == "bad") for value in frame()["status"][:36]]
    price = loaded(tmp_path, task="regression", target="price", drop=["status", "client", "day"])
    values = frame()["price"].to_numpy()
    assert price.preparation.target_mean == pytest.approx(values[:36].mean())
    assert price.preparation.target_scale == pytest.approx(values[:36].std())
    test = price.test.batch(torch.arange(12)).targets
    assert price.preparation.decode(test)["prediction"].tolist() == pytest.approx(values[48:].tolist(), rel=1e-5)


def test_only_numbers_give_plain_vectors(tmp_path: Path) -> None:
    data = loaded(tmp_path, features=["age"])
    assert data.signature.kind == "vector"
    assert data.train.batch(torch.arange(2)).inputs.shape == (2, 1)


def test_only_categories_give_a_table_with_no_numbers(tmp_path: Path) -> None:
    data = loaded(tmp_path, features=["home"])
    assert (data.signature.kind, data.signature.shape) == ("table", (0,))
    assert data.train.batch(torch.arange(2)).inputs["numeric"].shape == (2, 0)


def test_a_number_can_be_called_a_category_and_weights_are_read(tmp_path: Path) -> None:
    data = loaded(tmp_path, features=["client"], categorical=["client"], weights="age", drop=None)
    assert data.signature.cardinalities == (13,)
    assert data.train.batch(torch.tensor([1])).weights.tolist() == pytest.approx([frame()["age"][1]])


def test_a_constant_column_becomes_zeros(tmp_path: Path) -> None:
    data = loaded(tmp_path, frame().assign(age=0.1))
    assert data.train.batch(torch.arange(36)).inputs["numeric"][:, 0].abs().max() == 0


def test_labels_of_several_columns_are_read_for_multilabel(tmp_path: Path) -> None:
    made = frame().assign(l1=[0, 1] * 30, l2=[1, 1, 0] * 20)
    data = loaded(tmp_path, made, task="multilabel", target=["l1", "l2"], features=["age"])
    assert data.train.batch(torch.arange(3)).targets.tolist() == [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    assert data.signature.num_outputs == 2


@pytest.mark.parametrize("by", ["random", "stratified", "time", "group"])
def test_the_split_columns_promise_holds_for_the_rows(tmp_path: Path, by: str) -> None:
    column = {"time": "day", "group": "client"}.get(by)
    made = frame().assign(row=np.arange(ROWS))
    split = SplitSpec(by=by, column=column, validation=0.2, test=0.2)
    data = loaded(tmp_path, made, split=split, features=["row"], drop=None)
    column_ = data.preparation.reader.columns.numeric[0]
    rows = []
    for part in (data.train, data.validation, data.test):
        values = part.batch(torch.arange(len(part))).inputs[:, 0].double() * column_.scale + column_.mean
        rows.append(values.round().long().tolist())
    assert sorted(row for part in rows for row in part) == list(range(ROWS))
    if by == "group":
        assert not set(made["client"][rows[0]]) & set(made["client"][rows[2]])
    if by == "time":
        assert made["day"][rows[0]].max() < made["day"][rows[1]].min() <= made["day"][rows[1]].max() < made["day"][rows[2]].min()


def test_the_split_column_is_no_feature_unless_it_is_named(tmp_path: Path) -> None:
    split = SplitSpec(by="group", column="client")
    left_out = loaded(tmp_path, split=split, drop=["price", "day"])
    assert "client" not in left_out.preparation.reader.columns.names
    named = loaded(tmp_path, split=split, features=["client"], drop=None)
    assert named.preparation.reader.columns.names == ["client"]


def test_parts_from_files_of_their_own(tmp_path: Path) -> None:
    made = frame()
    made.iloc[40:].to_csv(tmp_path / "test.csv", index=False)
    data = loaded(tmp_path, made.iloc[:40], split=SplitSpec(by="file", test_path="test.csv"))
    assert data.num_rows == {"train": 40, "test": 20}
    assert data.validation is None


def test_a_share_without_a_file_is_taken_from_the_training_file(tmp_path: Path) -> None:
    made = frame()
    made.iloc[40:].to_csv(tmp_path / "test.csv", index=False)
    data = loaded(tmp_path, made.iloc[:40], split=SplitSpec(by="file", test_path="test.csv", validation=0.25))
    assert data.num_rows == {"train": 30, "validation": 10, "test": 20}


def test_overlapping_split_files_are_refused_unless_allowed(tmp_path: Path) -> None:
    made = frame()
    made.iloc[39:].to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DataError, match=r"test.csv:2: this row stands at x.csv:41 too"):
        loaded(tmp_path, made.iloc[:40], split=SplitSpec(by="file", test_path="test.csv"))
    allowed = SplitSpec(by="file", test_path="test.csv", overlap="allow")
    assert loaded(tmp_path, made.iloc[:40], split=allowed).num_rows["test"] == 21
    with pytest.raises(DataError, match="named for two parts"):
        loaded(tmp_path, split=SplitSpec(by="file", test_path="x.csv"))


def test_a_new_file_may_have_other_order_more_columns_gaps_and_unseen_categories(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = loaded(tmp_path)
    preparation = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    new = frame().iloc[:5].drop(columns="status")[["day", "home", "flag", "income", "age"]].copy()
    plain = preparation.examples_from(new).batch(torch.arange(5))
    original = data.train.batch(torch.arange(5))
    assert torch.equal(plain.inputs["numeric"], original.inputs["numeric"])
    assert torch.equal(plain.inputs["categories"], original.inputs["categories"])
    assert plain.targets is None
    new.loc[0, "home"], new.loc[1, "age"] = "castle", np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    with caplog.at_level(logging.WARNING, logger="stepwell.data"):
        changed = preparation.examples_from(tmp_path / "new.csv").batch(torch.arange(5))
    assert changed.inputs["categories"][0, 0] == 0
    age = frame()["age"][:36]
    assert changed.inputs["numeric"][1, 0] == pytest.approx((age.median() - age.mean()) / age.std(ddof=0), rel=1e-4)
    assert "'castle'" in caplog.text
    assert "'age' has 1 gaps" in caplog.text


def test_a_new_file_without_a_needed_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    preparation = loaded(tmp_path).preparation
    with pytest.raises(DataError, match=r"column 'age' is missing.*'Age'"):
        preparation.examples_from(frame().rename(columns={"age": "Age"}))
    with pytest.raises(DataError, match="target column 'status' is missing"):
        preparation.examples_from(frame().drop(columns="status"), with_targets="required")
    with pytest.raises(DataError, match="does not exist"):
        preparation.examples_from(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no rows"):
        preparation.examples_from(frame().iloc[:0])


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one, again = loaded(tmp_path).fingerprint, loaded(tmp_path, features=["age"]).fingerprint
    other = loaded(tmp_path, frame().assign(age=1.5)).fingerprint
    assert one == again != other
    assert len(one) == 64


def lines(path: Path) -> None:
    path.write_text("age,home,status\n1,a,good\n2,b,bad\n3,a,good\ninf,b,bad\n")


@pytest.mark.parametrize(
    ("change", "settings", "task", "said"),
    [
        ({}, {"target": "Status"}, "binary", r"x.csv: target column 'Status' is missing.*Did you mean 'status'"),
        ({}, {"features": ["agee"]}, "binary", "column 'agee' is missing.*'age'"),
        ({}, {"features": ["status"]}, "binary", "among the features"),
        ({}, {"drop": ["status", *frame().columns]}, "binary", "no columns to learn from"),
        ({}, {"drop": None}, "binary", "'day' holds dates"),
        ({"age": lambda d: [np.inf] * 2 + [1.0] * 58}, {}, "binary", "x.csv:2: column 'age' is inf"),
        ({"income": lambda d: [np.nan] * 60}, {}, "binary", "'income' has no values"),
        ({"age": lambda d: ["old", *["1"] * 59]}, {"categorical": []}, "binary", "x.csv:2: column 'age' holds 'old'"),
        ({"status": lambda d: ["good"] * 10 + [None] + ["bad"] * 49}, {}, "binary", "x.csv:12: target 'status' is missing"),
        ({"status": lambda d: ["good"] * 60}, {}, "binary", "x.csv: target 'status' is good in every"),
        ({"status": lambda d: ["a", "b"] * 29 + ["c", "a"]}, {}, "binary", "x.csv:60: class 'c'.*not in the training part"),
        ({"status": lambda d: ["a", "b", "c"] * 20}, {}, "binary", "x.csv: target 'status' has 3 different values"),
        ({}, {"target": "age"}, "classification", "x.csv: target 'age' has 36 different values"),
        ({}, {}, "regression", "x.csv:2: target 'status' holds"),
        ({"age": lambda d: [-1.0] * 60}, {"weights": "age"}, "binary", "x.csv:2: weight 'age' is -1"),
        ({}, {"path": "y.csv"}, "binary", "'y.csv' does not exist.*x.csv"),
        ({}, {}, "language_modeling", "can't be used for task language_modeling"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, change: dict, settings: dict, task: str, said: str) -> None:
    made = frame().assign(**{name: make(None) for name, make in change.items()})
    with pytest.raises(DataError, match=said):
        loaded(tmp_path, made, task=task, **settings)


def test_one_row_and_an_unknown_split_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 example"):
        loaded(tmp_path, frame(1))
    with pytest.raises(DataError, match="split column 'nobody' is missing"):
        loaded(tmp_path, split=SplitSpec(by="group", column="nobody"))
    made = frame().assign(client=[1.0, 2.0, 3.0, None, *[4.0] * 56])
    with pytest.raises(DataError, match=r"x.csv:5: split column 'client' is missing"):
        loaded(tmp_path, made, split=SplitSpec(by="group", column="client"))
    with pytest.raises(JobError, match="without a path"):
        loaded(tmp_path, split=SplitSpec(by="file"))
