import numpy as np
import pytest
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.data.targets import TASKS, TargetEncoder, label_of


def fit(values: object, task: str, **more: object) -> TargetEncoder:
    return TargetEncoder.fit(np.asarray(values), task=task, names=("y",), **more)


def test_classes_are_coded_in_sorted_order_numbers_by_size() -> None:
    encoder = fit(["cat", "ant", "bee", "ant"], "classification")
    assert encoder.classes == ["ant", "bee", "cat"]
    assert encoder.encode(np.array(["cat", "ant"])).tolist() == [2, 0]
    assert encoder.num_outputs == 3
    assert fit([10, 9, 2, 10], "classification").classes == ["2", "9", "10"]


def test_a_class_written_as_3_and_as_3_point_0_is_one() -> None:
    encoder = fit([3, 5, 3], "classification")
    assert encoder.encode(np.array([5.0, 3.0])).tolist() == [1, 0]
    assert (label_of(np.float64(3)), label_of(np.True_)) == ("3", "True")


def test_binary_targets_are_floats_and_the_positive_class_can_be_chosen() -> None:
    assert fit([True, False, True], "binary").encode(np.array([True, False])).tolist() == [1.0, 0.0]
    chosen = fit(["bad", "good"], "binary", positive="bad")
    assert chosen.classes == ["good", "bad"]
    assert chosen.encode(np.array(["bad", "good"])).dtype == torch.float32
    assert chosen.num_outputs == 1
    with pytest.raises(DataError, match="no class 'awful'"):
        fit(["bad", "good"], "binary", positive="awful")


def test_regression_targets_are_standardised_and_come_back() -> None:
    values = np.array([10.0, 20.0, 60.0])
    encoder = fit(values, "regression")
    encoded = encoder.encode(values)
    assert (encoder.mean, encoder.scale) == pytest.approx((30.0, np.std(values)))
    assert encoded.dtype == torch.float32
    assert encoder.decode(encoded[:, None])["prediction"].tolist() == pytest.approx(values.tolist(), rel=1e-6)


def test_multilabel_targets_are_the_columns() -> None:
    encoder = TargetEncoder.fit(np.array([[0, 1], [1, 1]]), task="multilabel", names=("a", "b"))
    assert encoder.encode(np.array([[1, 0]])).tolist() == [[1.0, 0.0]]
    columns = encoder.decode(torch.tensor([[2.0, -2.0]]))
    assert (columns["prediction_a"].tolist(), columns["prediction_b"].tolist()) == ([1], [0])
    assert columns["probability_a"][0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_class_probabilities_are_the_softmax() -> None:
    columns = fit(["a", "b", "c"], "classification").decode(torch.log(torch.tensor([[0.2, 0.7, 0.1]])))
    assert columns["prediction"] == ["b"]
    assert [columns[f"probability_{name}"][0] for name in "abc"] == pytest.approx([0.2, 0.7, 0.1])


def test_binary_probabilities_are_the_sigmoid_of_one_or_two_dimensions() -> None:
    encoder = fit(["no", "yes"], "binary")
    for outputs in (torch.tensor([np.log(3), -np.log(3)]), torch.tensor([[np.log(3)], [-np.log(3)]])):
        columns = encoder.decode(outputs)
        assert columns["prediction"] == ["yes", "no"]
        assert columns["probability_yes"].tolist() == pytest.approx([0.75, 0.25])
        assert columns["probability_no"].tolist() == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        (np.random.default_rng(0).normal(size=900), "classification", "900 different values in 900.*regression"),
        (np.arange(900), "classification", "900 different values"),
        ([f"id{k}" for k in range(100)], "classification", "100 different values"),
        (["a", "b", "a"], "regression", "'a'.*numbers for task regression"),
        ([True, False], "regression", "numbers for task regression|holds"),
        ([0, 1, 2], "binary", "3 different values"),
        ([1, 1, 1], "classification", "is 1 in every"),
        ([1, 1, 1], "binary", "is 1 in every"),
        ([2.5, 2.5, 2.5], "regression", "is 2.5 in every"),
        ([1.0, float("nan")], "regression", "missing or not finite in row 1"),
        ([1.0, float("inf")], "regression", "missing or not finite in row 1"),
        (np.array(["a", None], dtype=object), "classification", "missing or not finite in row 1"),
        ([[0, 2]], "multilabel", "1 label|label"),
    ],
)
def test_targets_that_dont_fit_their_task_are_refused(values: object, task: str, said: str) -> None:
    names = ("y", "z") if task == "multilabel" else ("y",)
    with pytest.raises(DataError, match=said):
        TargetEncoder.fit(np.asarray(values), task=task, names=names)


def test_a_class_seen_only_in_validation_is_refused_with_its_line() -> None:
    encoder = fit(["a", "b"], "classification")
    with pytest.raises(DataError, match=r"x.csv:3: class 'c'.*the validation part but not in the training part.*stratified"):
        encoder.encode(np.array(["a", "c"]), where=lambda row: f"x.csv:{row + 2}", part="the validation part")


def test_an_unknown_task_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(JobError, match="'regression'"):
        fit([1.0, 2.0], "regresion")
    assert "language_modeling" in TASKS
