"""What simple methods reach, where it is known what they must."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stepwell.doctor.reference import MOST_COLUMNS, columns_of, reference_of
from stepwell.doctor.rows import Rows
from stepwell.doctor.task import Task


def _noise(num_rows: int, num_columns: int, seed: int) -> Tensor:
    return torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed))


def _pair(inputs: Tensor, targets: Tensor) -> Rows:
    return Rows(inputs, targets, len(inputs))


def _xor(num_rows: int, seed: int) -> Rows:
    inputs = _noise(num_rows, 2, seed)
    return _pair(inputs, ((inputs[:, 0] > 0) ^ (inputs[:, 1] > 0)).long())


def _law(num_rows: int, seed: int, *, noise: float = 0.0) -> Rows:
    inputs = _noise(num_rows, 3, seed)
    return _pair(inputs, inputs @ torch.tensor([[2.0], [-1.0], [0.0]]) + 5.0 + noise * _noise(num_rows, 1, seed + 100))


def test_on_exclusive_or_a_line_is_of_no_use_and_the_others_are() -> None:
    found = reference_of(_xor(300, 0), _xor(300, 1), Task("classes", 2))
    assert found is not None
    assert found.linear < 0.65
    assert found.neighbours > 0.9
    assert found.features > 0.85
    assert found.best == max(found.trivial, found.linear, found.neighbours, found.features)
    labels = _xor(300, 1).targets
    assert found.trivial == pytest.approx(max(int(labels.sum()), 300 - int(labels.sum())) / 300)


def test_rare_classes_count_as_much_in_the_balanced_skill() -> None:
    # Of 200 rows 20 are of class 1, and columns tell nothing: always saying 0 is right for 90 % of rows, for half of the classes.
    labels = (torch.arange(200) % 10 == 0).long()
    found = reference_of(_pair(_noise(200, 2, 0), labels), _pair(_noise(200, 2, 1), labels), Task("classes", 2))
    assert found is not None
    assert found.best == pytest.approx(0.9, abs=0.02)
    assert found.balanced == pytest.approx(0.5, abs=0.06)
    quantity = reference_of(_law(200, 0), _law(200, 1), Task("quantity"))
    assert quantity is not None
    assert quantity.balanced == 0.0


def test_a_linear_law_is_found_up_to_its_noise() -> None:
    exact = reference_of(_law(200, 0), _law(200, 1), Task("quantity"))
    assert exact is not None
    assert exact.linear > 0.999
    assert exact.trivial == 0.0
    # Variance of the law 4 + 1, of the noise 5: one half of the spread can be told.
    noisy = reference_of(_law(2000, 0, noise=5**0.5), _law(2000, 1, noise=5**0.5), Task("quantity"))
    assert noisy is not None
    assert noisy.linear == pytest.approx(0.5, abs=0.05)
    assert noisy.best < 0.56


def test_labels_of_no_meaning_are_told_no_better_than_always_saying_the_same() -> None:
    def rows(seed: int) -> Rows:
        return _pair(_noise(400, 5, seed), (_noise(400, 1, seed + 50)[:, 0] > 0).long())

    found = reference_of(rows(0), rows(1), Task("classes", 2))
    assert found is not None
    assert found.best < 0.6


def test_whole_numbers_of_few_kinds_become_indicators() -> None:
    columns = columns_of(torch.tensor([[0, 2], [1, 0]]))
    assert columns is not None
    assert columns.tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0]]
    plain = columns_of(torch.tensor([[0, 2000], [1, 0]]))
    assert plain is not None
    assert plain.tolist() == [[0, 2000], [1, 0]]


def test_columns_of_several_parts_stand_side_by_side_and_what_is_not_finite_is_0() -> None:
    columns = columns_of(
        {"a": torch.tensor([[1.0], [float("nan")]]), "b": (torch.tensor([[[2.0, 3.0]], [[float("inf"), 4.0]]]),)}
    )
    assert columns is not None
    assert columns.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert columns_of({"word": "no tensor"}) is None
    assert columns_of(torch.tensor(1.0)) is None


def test_more_columns_than_can_be_looked_at_are_projected_and_keep_distances() -> None:
    wide = _noise(4, 3 * MOST_COLUMNS, 0)
    columns = columns_of(wide)
    assert columns is not None
    assert columns.shape == (4, MOST_COLUMNS)
    # Johnson & Lindenstrauss: each squared distance is kept up to sqrt(2 / 1024) = 4 %, here times 1024 / 3072.
    ratios = torch.pdist(columns) / torch.pdist(wide)
    torch.testing.assert_close(ratios, torch.full((6,), (1 / 3) ** 0.5), rtol=0.15, atol=0)


def test_what_has_no_such_form_has_no_reference() -> None:
    places = Rows(torch.zeros(4, 5), torch.zeros(4, 5).long(), 4)
    assert reference_of(places, places, Task("classes", 2)) is None
    assert reference_of(places, places, Task("unknown")) is None
    assert reference_of(_law(20, 0), Rows(torch.zeros(9, 8), torch.zeros(9, 1), 9), Task("quantity")) is None
