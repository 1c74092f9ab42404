"""Random deletion: never all of a text, the others in their order, padding at the end."""

from __future__ import annotations

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.techniques import RandomDeletion, delete_tokens


@pytest.mark.parametrize(
    ("tokens", "draws", "expected"),
    [
        ([5, 6, 7, 0], [0.9, 0.1, 0.9, 0.9], [5, 7, 0, 0]),
        ([5, 6, 7, 8], [0.1, 0.5, 0.1, 0.6], [6, 8, 0, 0]),
        ([5, 6, 7, 8], [0.6, 0.7, 0.8, 0.9], [5, 6, 7, 8]),
        ([5, 6, 7, 0], [0.1, 0.4, 0.2, 0.9], [6, 0, 0, 0]),  # all drawn: the largest draw of a word stays
        ([5, 0, 0, 0], [0.0, 0.9, 0.9, 0.9], [5, 0, 0, 0]),
        ([0, 0, 0, 0], [0.0, 0.9, 0.1, 0.9], [0, 0, 0, 0]),
    ],
)
def test_words_whose_draw_is_below_the_probability_are_left_out(
    tokens: list[int], draws: list[float], expected: list[int]
) -> None:
    assert delete_tokens(torch.tensor([tokens]), torch.tensor([draws]), 0.5, padding=0).tolist() == [expected]


def test_so_many_of_the_words_are_left_out_and_one_at_least_stays() -> None:
    tokens = torch.arange(1, 6).expand(3000, 5)
    made = RandomDeletion(probability=0.3, padding=0)(Batch(tokens), Rng(3)).inputs
    left = (made != 0).sum()
    # Binomial(15000, 0.7) and the one text in 412 of which all were drawn: 10,507 with a standard deviation of 56.
    assert abs(int(left) - 10507) < 224
    assert int((made != 0).sum(1).min()) >= 1
    all_drawn = RandomDeletion(probability=1.0, padding=0)(Batch(tokens), Rng(3)).inputs
    assert (all_drawn != 0).sum(1).unique().tolist() == [1]
    # Whichever stays, stays as often: 600 of 3,000 each, standard deviation 21.9; four of them.
    assert int((torch.bincount(all_drawn[:, 0])[1:] - 600).abs().max()) < 88


def test_the_padding_can_be_any_token_and_dtypes_stay() -> None:
    made = RandomDeletion(probability=1.0, padding=9)(Batch(torch.tensor([[3, 4, 9]], dtype=torch.int32)), Rng(0)).inputs
    assert made.dtype == torch.int32
    assert made[0, 1:].tolist() == [9, 9]
    assert int(made[0, 0]) in (3, 4)


def test_the_padding_is_filled_in_from_the_data() -> None:
    facts = DataFacts(8, 1, Batch(torch.zeros(1, 1)), vocabulary=["_"], padding=0)
    assert {name: value for name, (value, _) in RandomDeletion().completed(facts).items()} == {"padding": 0}


def test_what_cannot_be_deleted_is_refused_with_the_remedy() -> None:
    assert RandomDeletion().probability == 0.1
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(JobError, match=r"^random_deletion moves tokens, but there is a target"):
        RandomDeletion(padding=0)(Batch(tokens, tokens), Rng(0))
    with pytest.raises(JobError, match=r"^random_deletion\.padding is not set"):
        RandomDeletion()(Batch(tokens), Rng(0))
    with pytest.raises(DataError, match=r"^random_deletion found no token ids"):
        RandomDeletion()(Batch(torch.rand(2, 3)), Rng(0))
    with pytest.raises(DataError, match=r"^random_deletion found no token ids"):
        RandomDeletion(padding=0)(Batch(torch.rand(2, 3)), Rng(0))
    for settings in ({"probability": 1.1}, {"padding": -1}):
        with pytest.raises(JobError, match=r"^random_deletion\.(probability|padding) is"):
            RandomDeletion(**settings)  # type: ignore[arg-type]
