"""Pairs and triplets: from archives, and drawn from the classes of another source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stepwell.core.errors import DataError, JobError
from stepwell.data.drawn import PairsOf, TripletsOf, drawn_pairs, drawn_triplets
from stepwell.data.embedded import Diabetes, Digits
from stepwell.data.pairs import Pairs, Triplets
from stepwell.data.preparation import Preparation
from stepwell.data.registry import LoadedData
from stepwell.data.split import SplitSpec
from stepwell.data.target_kinds import EmbeddingTarget

CLASSES = torch.tensor([2, 0, 0, 1, 2, 2, 3])  # class 1 and class 3 have one example each


def test_every_second_pair_is_of_one_class_and_never_an_example_with_itself() -> None:
    places, same = drawn_pairs(CLASSES, num=4000, seed=0)
    left, right = places.unbind(1)
    assert same[::2].eq(1).all()
    assert same[1::2].eq(0).all()
    assert torch.equal((CLASSES[left] == CLASSES[right]).long(), same)
    assert (left != right).all()
    # Of the same class: the 2 and 3 examples that have a partner are left equally often, 400 of 2000 each (sd 18).
    counts = torch.bincount(left[::2], minlength=7)
    assert counts[[3, 6]].tolist() == [0, 0]
    assert (counts[[0, 1, 2, 4, 5]] - 400).abs().max() < 90
    # And each other example of the class is its partner equally often.
    partners = torch.bincount(right[::2][left[::2] == 0], minlength=7)
    assert partners[[4, 5]].min() > 150
    # Of other classes: each of the 7 stands on the left equally often, about 286 of 2000 (sd 16).
    assert (torch.bincount(left[1::2], minlength=7) - 2000 / 7).abs().max() < 80
    strangers = torch.bincount(right[1::2][left[1::2] == 1], minlength=7)  # of class 0: all but 1 and 2
    assert strangers[[1, 2]].tolist() == [0, 0]
    assert strangers[[0, 3, 4, 5, 6]].min() > 30


def test_triplets_hold_another_of_the_anchor_s_class_and_one_of_another() -> None:
    anchor, positive, negative = drawn_triplets(CLASSES, num=1000, seed=1).unbind(1)
    assert torch.equal(CLASSES[anchor], CLASSES[positive])
    assert (anchor != positive).all()
    assert (CLASSES[anchor] != CLASSES[negative]).all()
    assert set(anchor.tolist()) == {0, 1, 2, 4, 5}
    assert set(negative.tolist()) == set(range(7))


def test_draws_are_a_function_of_the_seed_and_more_pairs_begin_with_the_fewer() -> None:
    few, many = (drawn_pairs(CLASSES, num=num, seed=5)[0] for num in (10, 50))
    assert torch.equal(few, many[:10])
    assert not torch.equal(few, drawn_pairs(CLASSES, num=10, seed=6)[0])


@pytest.mark.parametrize("classes", [torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])])
def test_too_few_classes_or_examples_to_draw_from_are_refused(classes: torch.Tensor) -> None:
    with pytest.raises(DataError, match="groups are to be drawn"):
        drawn_pairs(classes, num=4, seed=0)


def drawn_from_digits(source: PairsOf | TripletsOf, task: str) -> LoadedData:
    return source.load(base=Path(), split=SplitSpec(), task=task, seed=0)


def test_pairs_of_digits_join_examples_of_one_part_and_are_the_inner_source_s_inputs() -> None:
    data = drawn_from_digits(PairsOf(data=Digits(), num_pairs=500, embedding=8), "pairs")
    inner = Digits().load(base=Path(), split=SplitSpec(), task="classification", seed=0)
    assert data.num_rows == {"train": 500, "validation": 166, "test": 166}  # 500 * 359 / 1079
    assert data.signature.num_outputs == 8
    assert data.signature.shape == (64,)
    assert data.fingerprint == inner.fingerprint
    for part in ("train", "validation", "test"):
        groups, whole = getattr(data, part), getattr(inner, part)
        batch = groups.batch(torch.arange(len(groups)))
        elements = whole.batch(torch.arange(len(whole)))
        for column, member in enumerate(batch.inputs):
            assert torch.equal(member, elements.inputs[groups.places[:, column]])
        left, right = elements.targets[groups.places].unbind(1)
        assert torch.equal(batch.targets, (left == right).long())


def test_triplets_of_images_have_three_members_and_no_targets() -> None:
    data = drawn_from_digits(TripletsOf(data=Digits(layout="image"), num_triplets=100), "triplets")
    batch = data.train.batch(torch.tensor([3, 1]))
    assert [tuple(member.shape) for member in batch.inputs] == [(2, 1, 8, 8)] * 3
    assert batch.targets is None


def test_new_data_is_embedded_row_by_row_and_grouped_where_it_is_evaluated(tmp_path: Path) -> None:
    import pandas as pd

    from stepwell.data.table_source import TableSource

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=30), "y": rng.normal(size=30), "kind": ["a", "b", "c"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    source = PairsOf(data=TableSource(path="t.csv", target="kind"), num_pairs=40)
    data = source.load(base=tmp_path, split=SplitSpec(), task="pairs", seed=0)
    again = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    assert again == data.preparation
    assert again.examples_from(tmp_path / "t.csv", with_targets="ignored").batch(torch.arange(30)).inputs.shape == (30, 2)
    grouped = again.examples_from(tmp_path / "t.csv", with_targets="required").batch(torch.arange(30))
    assert len(grouped.inputs) == 2
    assert grouped.targets.float().mean() == 0.5


def test_what_has_no_classes_can_not_be_grouped() -> None:
    with pytest.raises(DataError, match="can't be used for task classification"):
        drawn_from_digits(PairsOf(data=Diabetes()), "pairs")
    with pytest.raises(DataError, match="can't be used for task pairs"):
        drawn_from_digits(TripletsOf(data=Digits()), "pairs")
    for source, said in (
        (PairsOf(data="digits"), r"data.data is 'digits'"),
        (PairsOf(data=Digits(), num_pairs=0), r"data.num_pairs is 0"),
        (PairsOf(data=Digits(), embedding=0), r"data.embedding is 0"),
        (PairsOf(data=Digits(sampling="balanced")), r"data.data.sampling is 'balanced'"),
    ):
        with pytest.raises(JobError, match=said):
            drawn_from_digits(source, "pairs")


def archive(place: Path, **arrays: np.ndarray) -> Path:
    np.savez(place / "g.npz", **arrays)
    return place / "g.npz"


def test_an_archive_of_pairs_is_standardised_by_both_members_of_the_training_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left, right, same = rng.normal(5, 2, (10, 3)), rng.normal(9, 4, (10, 3)), np.arange(10) % 2
    path = archive(tmp_path, left=left, right=right, same=same)
    data = Pairs(path="g.npz", embedding=4).load(base=tmp_path, split=SplitSpec(by="time"), task="pairs", seed=0)
    both = np.concatenate([left[:6], right[:6]])
    batch = data.test.batch(torch.arange(2))  # type: ignore[union-attr]
    for member, array in zip(batch.inputs, (left, right)):
        np.testing.assert_allclose(member.numpy(), (array[8:] - both.mean(0)) / both.std(0), rtol=1e-4)
    assert batch.targets.tolist() == [0, 1]
    assert data.signature.num_outputs == 4
    again = Preparation.from_dict(json.loads(json.dumps(data.preparation.to_dict())))
    assert again == data.preparation
    read = again.examples_from(path, with_targets="required").batch(torch.arange(8, 10))
    assert torch.equal(read.inputs[1], batch.inputs[1])
    assert torch.equal(read.targets, batch.targets)
    assert again.examples_from(path, with_targets="ignored").batch(torch.arange(10)).targets is None
    single = archive(tmp_path, inputs=left)
    assert torch.equal(again.examples_from(single, with_targets="ignored").batch(torch.arange(8, 10)).inputs, batch.inputs[0])


def test_an_archive_of_triplets_has_three_members(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archive(tmp_path, **{name: rng.integers(0, 255, (10, 4, 4)).astype(np.uint8) for name in ("anchor", "positive", "negative")})
    data = Triplets(path="g.npz").load(base=tmp_path, split=SplitSpec(), task="triplets", seed=0)
    batch = data.train.batch(torch.arange(6))
    assert [tuple(member.shape) for member in batch.inputs] == [(6, 1, 4, 4)] * 3
    assert batch.targets is None
    assert data.signature.kind == "image"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"right": np.zeros((9, 3))}, "'left' has 10 examples and 'right' has 9"),
        ({"right": np.zeros((10, 2))}, "the elements have shapes"),
        ({"same": np.full(10, 2)}, "the targets of the pairs"),
        ({"left": np.full((10, 3), np.nan)}, "NaN or infinite"),
    ],
)
def test_members_that_dont_fit_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], said: str) -> None:
    archive(tmp_path, **({"left": np.ones((10, 3)), "right": np.ones((10, 3)), "same": np.arange(10) % 2} | changed))
    with pytest.raises(DataError, match=said):
        Pairs(path="g.npz").load(base=tmp_path, split=SplitSpec(), task="pairs", seed=0)


def test_embeddings_are_columns_and_groups_are_distances() -> None:
    target = EmbeddingTarget(task="pairs", width=2)
    columns = target.decode(torch.tensor([[1.0, 2.0]]))
    assert {name: values.tolist() for name, values in columns.items()} == {"embedding_0": [1.0], "embedding_1": [2.0]}
    zero, far = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert target.decode((zero, far))["distance"].tolist() == [5.0]
    both = EmbeddingTarget(task="triplets").decode((zero, far, zero))
    assert {name: values.tolist() for name, values in both.items()} == {"distance_positive": [5.0], "distance_negative": [0.0]}
