"""Targets of other rows: moved, reversed, or joined in a lost order."""

from __future__ import annotations

import torch
from small_setups import bench_of, ids, law, mlp, noise, said, signs
from torch import Tensor, nn


def _moved(pair: tuple[Tensor, Tensor], by: int) -> tuple[Tensor, Tensor]:
    return pair[0], pair[1].roll(by, 0)


def test_the_number_of_rows_is_found_in_both_directions_and_mended() -> None:
    for by in (1, -3, 8):
        bench = bench_of(mlp(4, 8, 2), _moved(signs(200), by), signs(100, seed=1))
        (found,) = said("misaligned_labels", bench)
        assert found.id == "labels_misaligned"
        assert found.proof == "certain"
        assert found.evidence["shift"] == by
        assert found.remedy.change is not None
        train = found.remedy.change(bench.setup).train
        assert len(train) == 200 - abs(by)
        assert torch.equal(train.targets, (train.inputs[:, 0] > 0).long())


def test_quantities_and_reversed_targets_are_found_too() -> None:
    bench = bench_of(mlp(4, 8, 1), _moved(law(200), 2), loss=nn.MSELoss())
    assert said("misaligned_labels", bench)[0].evidence["shift"] == 2
    inputs, labels = signs(200)
    bench = bench_of(mlp(4, 8, 2), (inputs, labels.flip(0)))
    (found,) = said("misaligned_labels", bench)
    assert found.evidence["shift"] == "reversed"
    assert found.remedy.change is not None
    assert torch.equal(found.remedy.change(bench.setup).train.targets, labels)


def test_validation_rows_that_were_moved_alike_are_moved_back() -> None:
    bench = bench_of(mlp(4, 8, 2), _moved(signs(200), 1), _moved(signs(200, seed=1), 1))
    (found,) = said("misaligned_labels", bench)
    assert found.remedy.change is not None
    val = found.remedy.change(bench.setup).val
    assert val is not None
    assert torch.equal(val.targets, (val.inputs[:, 0] > 0).long())


def test_a_lost_order_shows_where_validation_rows_are_right() -> None:
    inputs, labels = signs(200)
    lost = labels[torch.randperm(200, generator=torch.Generator().manual_seed(5))]
    (found,) = said("misaligned_labels", bench_of(mlp(4, 8, 2), (inputs, lost), signs(150, seed=1)))
    assert found.remedy.change is None
    assert "validation" in found.symptom


def test_sorted_targets_beside_unsorted_inputs_are_told() -> None:
    inputs, labels = signs(200)
    (found,) = said("misaligned_labels", bench_of(mlp(4, 8, 2), (inputs, labels.sort().values)))
    assert found.evidence["num_runs"] == 2
    assert found.remedy.change is None


def test_rows_that_fit_are_no_matter_even_if_sorted_noisy_or_in_turns() -> None:
    inputs, labels = signs(300)
    order = labels.argsort()
    assert ids("misaligned_labels", bench_of(mlp(4, 8, 2), (inputs[order], labels[order]), shuffle=False)) == []
    wrong = torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.25
    assert ids("misaligned_labels", bench_of(mlp(4, 8, 2), (inputs, torch.where(wrong, 1 - labels, labels)))) == []
    turns = torch.arange(300) % 3
    assert ids("misaligned_labels", bench_of(mlp(4, 8, 3), (noise(300, 4) + turns.unsqueeze(1), turns))) == []


def test_labels_that_nothing_tells_in_either_split_are_not_called_moved() -> None:
    pure = signs(200, seed=7)[1]
    assert ids("misaligned_labels", bench_of(mlp(4, 8, 2), (noise(200, 4), pure), (noise(100, 4, seed=2), pure[:100]))) == []


def test_tokens_are_looked_at_by_their_counts() -> None:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(6, (300, 10), generator=draw)
    labels = ((tokens == 2).sum(1) > 1).long()
    model = nn.Sequential(nn.Embedding(6, 4), nn.Flatten(), nn.Linear(40, 2))
    (found,) = said("misaligned_labels", bench_of(model, (tokens, labels.roll(1))))
    assert found.evidence["shift"] == 1


def test_overlapping_windows_of_a_series_that_cannot_be_foretold_are_not_called_moved() -> None:
    windows = noise(408).unfold(0, 9, 1)
    bench = bench_of(mlp(8, 8, 1), (windows[:, :8].clone(), windows[:, 8:].clone()), loss=nn.MSELoss())
    assert ids("misaligned_labels", bench) == []


def test_a_table_sorted_by_its_classes_is_healthy() -> None:
    inputs = noise(1200, 4)
    labels = (inputs[:, 0] + 0.3 * inputs[:, 1] > 1.0).long()  # one in six: the first 800 rows have one class
    order = labels.argsort(stable=True)
    assert ids("misaligned_labels", bench_of(mlp(4, 8, 2), (inputs[order], labels[order]), signs(300, seed=1))) == []


def test_a_table_sorted_by_its_targets_whose_rows_belong_elsewhere_is_found() -> None:
    inputs = noise(1200, 4)
    labels = (noise(1200, seed=5) > 1.0).long()
    train = inputs, labels.sort().values
    found = said("misaligned_labels", bench_of(mlp(4, 8, 2), train, signs(300, seed=1)))
    assert [item.id for item in found] == ["labels_misaligned"]
