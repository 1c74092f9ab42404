"""Token ids in a batch: what counts as them, what goes with them, and what the data fills in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stepwell.core.batch import Batch
from stepwell.core.batches.tokens import known_tokens, map_tokens, needed, refuse_aligned, require_tokens
from stepwell.core.errors import DataError, JobError
from stepwell.core.facts import DataFacts

TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_whole_numbers_of_two_dimensions_are_tokens_and_what_goes_beside_them_is_not() -> None:
    inputs = {
        "pair": (TOKENS, TOKENS.int() + 10),
        "attention_mask": torch.ones_like(TOKENS),
        "token_type_ids": torch.zeros_like(TOKENS),
        "position_ids": torch.arange(6).view(2, 3),
        "flags": TOKENS > 2,
        "values": TOKENS.float(),
        "label": TOKENS[:, 0],
    }
    made = map_tokens(Batch(inputs), lambda tokens, number: tokens * 0 + number, "x").inputs
    assert made["pair"][0].unique().tolist() == [0]
    assert made["pair"][1].unique().tolist() == [1]
    assert all(made[name] is inputs[name] for name in inputs if name != "pair")


def test_inputs_without_tokens_are_refused() -> None:
    with pytest.raises(DataError, match=r"^random_deletion found no token ids among the inputs \(float32 \(2, 3\)\)"):
        map_tokens(Batch(TOKENS.float()), lambda tokens, number: tokens, "random_deletion")


@pytest.mark.parametrize("targets", [TOKENS, TOKENS.int(), torch.zeros(2, 3, 9), {"next": TOKENS}])
def test_moving_tokens_that_have_a_target_each_is_refused_with_the_remedy(targets: object) -> None:
    with pytest.raises(JobError, match=r"^random_deletion moves tokens, but there is a target.*synonym_replacement"):
        refuse_aligned(Batch(TOKENS, targets), "random_deletion")


@pytest.mark.parametrize(
    "targets", [None, TOKENS[:, 0], torch.zeros(2, 3), torch.zeros(2, 3, 3, dtype=torch.int64), TOKENS[:, :2]]
)
def test_targets_for_whole_sequences_are_no_reason_to_refuse(targets: object) -> None:
    refuse_aligned(Batch(TOKENS, targets), "random_deletion")


def test_moving_tokens_that_have_another_input_beside_them_is_refused() -> None:
    for beside in (TOKENS > 2, torch.ones_like(TOKENS)):
        with pytest.raises(JobError, match=r"^random_deletion moves tokens, but another input"):
            refuse_aligned(Batch({"input_ids": TOKENS, "attention_mask": beside}), "random_deletion")
    refuse_aligned(Batch({"input_ids": TOKENS, "numbers": torch.zeros(2, 3), "flags": torch.zeros(2, 2) > 0}), "random_deletion")


def test_settings_out_of_range_are_refused_by_name() -> None:
    require_tokens("x", 0.0, vocabulary=["a", "b"], padding=1)
    require_tokens("x", 1.0, padding=0)
    with pytest.raises(JobError, match=r"^x\.probability"):
        require_tokens("x", 1.5)
    for words in ([], "ab", [1, 2]):
        with pytest.raises(JobError, match=r"^x\.vocabulary .*a list with the word"):
            require_tokens("x", 0.5, vocabulary=words)  # type: ignore[arg-type]
    for padding in (-1, 2):
        with pytest.raises(JobError, match=rf"^x\.padding is {padding}; expected a token id"):
            require_tokens("x", 0.5, vocabulary=["a", "b"], padding=padding)


def test_the_data_fills_in_what_is_open_and_nothing_else() -> None:
    facts = DataFacts(1, 1, Batch(TOKENS), vocabulary=["_", "a"], padding=0)
    found = known_tokens(SimpleNamespace(vocabulary=None, padding=None), facts)
    assert {name: value for name, (value, _) in found.items()} == {"vocabulary": ["_", "a"], "padding": 0}
    assert known_tokens(SimpleNamespace(vocabulary=["b"], padding=5), facts) == {}
    assert list(known_tokens(SimpleNamespace(padding=None), facts)) == ["padding"]
    assert known_tokens(SimpleNamespace(vocabulary=None, padding=None), DataFacts(1, 1, Batch(TOKENS))) == {}


def test_what_nobody_filled_in_is_asked_for() -> None:
    assert needed(0, "x.padding", "a token id") == 0
    with pytest.raises(JobError, match=r"^x\.padding is not set; expected a token id"):
        needed(None, "x.padding", "a token id")
