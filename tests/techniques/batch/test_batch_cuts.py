"""What holds for every batch technique: a batch may be cut over ranks anywhere, and dtypes and neutral values are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stepwell.core.batch import Batch, rank_bounds, tree_leaves
from stepwell.core.randomness import Rng
from stepwell.techniques import (
    Affine,
    BackTranslation,
    ColorJitter,
    CutMix,
    Erasing,
    Flip,
    HiddenMixup,
    Mixup,
    RandomCrop,
    RandomDeletion,
    RandomInsertion,
    ResizedCrop,
    Rotation,
    SynonymReplacement,
)

NUM = 37
WORDS = ["_", "big", "large", "huge", "dog", "fast", "quick", "the"]


def upper(texts: list[str]) -> list[str]:
    return [text + " big" for text in texts]


PER_IMAGE: list[Any] = [
    RandomCrop(padding=2),
    RandomCrop(padding=2, fill="reflection", probability=0.5),
    ResizedCrop(scale=(0.3, 1.0), probability=0.7),
    Flip(),
    Flip(axis="vertical"),
    Rotation(degrees=40.0, probability=0.7),
    Affine(degrees=20.0, scale=(0.8, 1.2), shear=10.0, fill="border"),
    ColorJitter(),
    ColorJitter(probability=0.5, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3), limits=(0.0, 1.0)),
    Erasing(probability=0.7),
    Erasing(probability=0.7, fill="mean"),
    Erasing(probability=0.7, fill="noise"),
]
PER_TEXT: list[Any] = [
    SynonymReplacement(probability=0.5, vocabulary=WORDS),
    RandomInsertion(probability=0.5, vocabulary=WORDS, padding=0),
    RandomDeletion(probability=0.5, padding=0),
    BackTranslation(translate=upper, probability=0.5, vocabulary=WORDS, padding=0),
]
IN_PAIRS: list[Any] = [Mixup(num_classes=4), CutMix(num_classes=4), HiddenMixup(at="0", num_classes=4).on_batch]


def name_of(technique: Any) -> str:
    return getattr(type(technique), "technique_id", "hidden_mixup")


def batch_of(technique: Any) -> Batch:
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (NUM,), generator=draw)
    if technique in PER_TEXT:
        return Batch(torch.randint(0, len(WORDS), (NUM, 11), generator=draw), labels)
    images = torch.rand(NUM, 3, 9, 7, generator=draw)
    return Batch(images, labels if technique in IN_PAIRS else {"label": labels, "mask": (images[:, 0] * 5).long()})


def assert_same(part: Batch, whole: Batch) -> None:
    for ours, theirs in zip(
        tree_leaves((part.inputs, part.targets, part.extras)),
        tree_leaves((whole.inputs, whole.targets, whole.extras)),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("technique", [*PER_IMAGE, *PER_TEXT], ids=name_of)
@pytest.mark.parametrize("sizes", [[1, 36], [5, 24, 8], [36, 1]])
def test_parts_of_a_batch_get_the_very_bits_of_the_whole_wherever_it_is_cut(technique: Any, sizes: list[int]) -> None:
    batch = batch_of(technique)
    whole = technique(batch, Rng(9))
    assert any(not torch.equal(new, old) for new, old in zip(tree_leaves(whole.inputs), tree_leaves(batch.inputs)))
    for part, expected in zip(batch.split(sizes), whole.split(sizes)):
        assert_same(technique(part, Rng(9)), expected)


@pytest.mark.parametrize("technique", IN_PAIRS, ids=name_of)
@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_mix_their_shares_as_one_process_mixes_the_whole(technique: Any, world_size: int) -> None:
    batch = batch_of(technique)
    whole = technique(batch, Rng(9))
    for rank in range(world_size):
        start, stop = rank_bounds(NUM, rank=rank, world_size=world_size)
        assert_same(technique(batch.part(start, stop), Rng(9)), whole.part(start, stop))


@pytest.mark.parametrize("technique", [*PER_IMAGE, *IN_PAIRS], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_precision_is_kept_and_every_precision_sees_the_same_draws(technique: Any, dtype: torch.dtype) -> None:
    batch = batch_of(technique)
    made = technique(Batch(batch.inputs.to(dtype), batch.targets), Rng(9)).inputs
    assert made.dtype == dtype
    exact = technique(Batch(batch.inputs.double(), batch.targets), Rng(9)).inputs
    # Half of bfloat16's spacing below 2, twice: of the inputs' rounding and of the result's.
    tolerance = 2**-7 if dtype == torch.bfloat16 else 1e-4
    close = (made.double() - exact).abs() <= tolerance * 2
    assert float(close.double().mean()) > 0.999


@pytest.mark.parametrize("technique", PER_IMAGE, ids=name_of)
def test_every_image_among_the_inputs_changes_alike_and_other_inputs_stay(technique: Any) -> None:
    images, ages = batch_of(technique).inputs, torch.rand(NUM, 5)
    made = technique(Batch({"left": images, "ages": ages, "right": images}), Rng(9)).inputs
    assert torch.equal(made["left"], technique(Batch(images), Rng(9)).inputs)
    assert torch.equal(made["left"], made["right"])
    assert made["ages"] is ages


@pytest.mark.parametrize("technique", PER_IMAGE, ids=name_of)
def test_samples_draw_on_their_own(technique: Any) -> None:
    same = torch.rand(1, 3, 9, 7).expand(NUM, -1, -1, -1)
    made = technique(Batch(same), Rng(9)).inputs
    assert len({tuple(picture.flatten().tolist()) for picture in made}) > 1


@pytest.mark.parametrize("technique", [*PER_IMAGE, *PER_TEXT], ids=name_of)
def test_a_batch_of_one_is_the_first_of_many(technique: Any) -> None:
    batch = batch_of(technique)
    assert_same(technique(batch.part(0, 1), Rng(9)), technique(batch, Rng(9)).part(0, 1))


@pytest.mark.parametrize(
    "technique",
    [
        RandomCrop(padding=0),
        RandomCrop(probability=0.0),
        ResizedCrop(probability=0.0),
        Flip(probability=0.0),
        Rotation(probability=0.0),
        Affine(probability=0.0),
        ColorJitter(probability=0.0),
        Erasing(probability=0.0),
    ],
    ids=name_of,
)
def test_a_technique_that_is_off_gives_the_batch_back_as_it_is(technique: Any) -> None:
    batch = batch_of(technique)
    assert technique(batch, Rng(0)) is batch
