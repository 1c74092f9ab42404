"""CutMix by hand: the box the right way round, clipped, and the share of pixels corrected."""

from __future__ import annotations

import math

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.batches.pairing import partners
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.techniques import CutBox, CutMix, cut_box, cutmix


@pytest.mark.parametrize(
    ("lam", "row", "column", "expected"),
    [
        # sqrt(1 - 0.75) = 1/2: 5 rows of 10, 10 columns of 20.
        (0.75, 5, 10, CutBox(3, 8, 5, 15, 0.75)),
        (0.75, 0, 0, CutBox(0, 3, 0, 5, 1 - 15 / 200)),
        (0.75, 9, 19, CutBox(7, 10, 14, 20, 1 - 18 / 200)),
        (0.0, 5, 10, CutBox(0, 10, 0, 20, 0.0)),
        (1.0, 5, 10, CutBox(5, 5, 10, 10, 1.0)),
    ],
)
def test_the_box_has_the_paper_s_sides_is_clipped_and_says_the_true_share(
    lam: float, row: int, column: int, expected: CutBox
) -> None:
    assert cut_box(10, 20, lam=lam, row=row, column=column) == expected


def test_pixels_inside_the_box_are_the_partner_s() -> None:
    pictures = torch.arange(24.0).view(2, 1, 3, 4)
    made = cutmix(pictures, torch.tensor([1, 0]), CutBox(1, 3, 0, 2, 0.0))
    assert made[0, 0].tolist() == [[0, 1, 2, 3], [16, 17, 6, 7], [20, 21, 10, 11]]
    assert made[1, 0].tolist() == [[12, 13, 14, 15], [4, 5, 18, 19], [8, 9, 22, 23]]
    assert pictures[0, 0, 1, 0] == 4


def marked(num: int = 8, height: int = 6, width: int = 20) -> torch.Tensor:
    """Pictures whose every pixel is the picture's own number."""
    return torch.arange(float(num))[:, None, None, None].expand(num, 2, height, width)


@pytest.mark.parametrize("seed", range(25))
def test_targets_are_mixed_by_the_share_of_pixels_that_is_really_the_partner_s(seed: int) -> None:
    made = CutMix(num_classes=8)(Batch(marked(), torch.arange(8)), Rng(seed))
    own = torch.arange(8.0)[:, None, None, None]
    assert bool(((made.inputs == own) | (made.inputs == 7 - own)).all())
    share = (made.inputs == own)[:, 0].double().mean((1, 2))
    expected = torch.eye(8) * share[:, None] + torch.eye(8).flip(0) * (1 - share[:, None])
    torch.testing.assert_close(made.targets.double(), expected.double(), rtol=0, atol=1e-6)


def test_boxes_are_high_where_pictures_are_high_and_wide_where_they_are_wide() -> None:
    sides = []
    for seed in range(60):
        cut = CutMix(num_classes=8)(Batch(marked(), torch.arange(8)), Rng(seed)).inputs[0, 0] != 0
        rows, columns = int(cut.any(1).sum()), int(cut.any(0).sum())
        assert int(cut.sum()) == rows * columns
        sides.append((rows, columns))
    # Of 6 x 20 pixels: the height can't pass 6, the width passes it in most boxes that are not clipped away.
    assert max(rows for rows, _ in sides) in (5, 6)
    assert max(columns for _, columns in sides) >= 15
    assert sum(columns > rows for rows, columns in sides) > 30


def test_lam_follows_the_beta_distribution_and_centres_lie_anywhere() -> None:
    """A side of s = sqrt(1 - lam) around a centre that lies anywhere is clipped to s - s^2 / 4 in the mean."""
    size = 200
    shares = []
    pictures = torch.arange(2.0)[:, None, None, None].expand(2, 1, size, size)
    for seed in range(1500):
        made = CutMix(alpha=1.0)(Batch(pictures, torch.eye(2)), Rng(seed))
        shares.append(1 - float(made.targets[0, 0]))
    # For Beta(1, 1) u = s^2 is uniform: E[(s - s^2 / 4)^2] = E[u] - E[u^1.5] / 2 + E[u^2] / 16 = 1/2 - 1/5 + 1/48.
    expected = 1 / 2 - 1 / 5 + 1 / 48
    assert abs(sum(shares) / 1500 - expected) < 4 * 0.25 / 1500**0.5 + 2 / size


def test_masks_are_cut_themselves_and_labels_beside_them_mixed() -> None:
    pictures = marked()
    targets = {"mask": pictures[:, 0].long(), "label": torch.arange(8)}
    made = CutMix(num_classes=8)(Batch(pictures, targets), Rng(1))
    assert torch.equal(made.targets["mask"], made.inputs[:, 0].long())
    assert made.targets["label"].shape == (8, 8)
    assert torch.equal(CutMix()(Batch(pictures, targets["mask"]), Rng(1)).targets, made.targets["mask"])
    # Mass over classes for each of 4 places is no map of a 6 x 20 picture, whatever its dimensions.
    places = torch.eye(8)[:, None].expand(8, 4, 8)
    assert torch.equal(CutMix()(Batch(pictures, places), Rng(1)).targets[:, 0], made.targets["label"])


def test_so_many_of_the_steps_are_mixed_and_the_others_left_alone() -> None:
    batch = Batch(marked(), torch.arange(8))
    mixed = sum(CutMix(probability=0.3, num_classes=8)(batch, Rng(seed)) is not batch for seed in range(1000))
    # Binomial(1000, 0.3): 300 with a standard deviation of 14.5; four of them.
    assert abs(mixed - 300) < 58
    assert CutMix(probability=0.0)(batch, Rng(0)) is batch


def test_partners_are_those_of_mixup() -> None:
    made = CutMix()(Batch(marked(20), torch.eye(20)), Rng(5)).inputs
    partner = partners(20, torch.device("cpu"))
    foreign = [set(picture.unique().tolist()) - {float(own)} for own, picture in enumerate(made)]
    assert foreign == [{float(other)} for other in partner]


def test_the_number_of_classes_is_filled_in_from_the_data() -> None:
    facts = DataFacts(8, 1, Batch(marked()), num_outputs=8)
    assert CutMix().completed(facts)["num_classes"][0] == 8
    assert CutMix(num_classes=5).completed(facts) == {}


def test_what_cannot_be_mixed_is_refused_with_the_remedy() -> None:
    usual = CutMix()
    assert (usual.alpha, usual.probability, usual.num_classes) == (1.0, 1.0, None)
    with pytest.raises(DataError, match=r"^cutmix found no images"):
        CutMix()(Batch(torch.zeros(2, 3), torch.tensor([0, 1])), Rng(0))
    with pytest.raises(JobError, match=r"^cutmix got integer labels"):
        CutMix()(Batch(marked(2), torch.tensor([0, 1])), Rng(0))
    for settings in ({"alpha": 0.0}, {"alpha": math.nan}, {"probability": 1.1}, {"num_classes": 0}):
        with pytest.raises(JobError, match=rf"^cutmix\.{next(iter(settings))} is"):
            CutMix(**settings)  # type: ignore[arg-type]
