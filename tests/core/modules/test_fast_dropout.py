"""Fast dropout: masks from a counter, unbiased at a stated resolution, the same whenever they are computed again."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import stepwell.core.modules.dropout as fast
from stepwell.core.errors import JobError
from stepwell.core.modules.dropout import DropoutLayer, drop, drop_elements, keep_noise, random_words, true_probability
from stepwell.core.randomness import seeded_defaults

MASK = (1 << 64) - 1


def split_mix(state: int) -> int:
    """The next output of SplitMix64, in Python's own integers."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def dropped(inputs: Tensor, probability: float = 0.3, seed: int = 0, **kind: Any) -> Tensor:
    with seeded_defaults(seed):
        return drop(inputs, probability, **kind)


def test_the_words_are_those_that_the_authors_of_split_mix_publish() -> None:
    # The reference implementation's first outputs from the state 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [word & MASK for word in random_words(1234567, 5).tolist()] == published


@pytest.mark.parametrize("key", [0, 1, 2**62 + 12345, -(2**63), 2**63 - 1])
def test_every_word_is_the_next_output_of_the_generator(key: int) -> None:
    golden = 0x9E3779B97F4A7C15
    words = random_words(key, 300).tolist()
    assert [word & MASK for word in words] == [split_mix((key + index * golden) & MASK) for index in range(300)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 1 / 65536, 0.99999, 0.123456])
def test_of_all_values_of_16_bits_the_nearest_share_is_dropped(
    dtype: torch.dtype, probability: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every pair of bytes, four times in a word: each element then sees every pair once, one way round or the other.
    pairs = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    words = pairs.view(-1, 1).repeat(1, 4).view(torch.int64).view(-1)
    monkeypatch.setattr(fast, "CHUNK", 65536)
    monkeypatch.setattr(fast, "_mix_", lambda made, scratch: made.copy_(words))
    fast._counters.cache_clear()
    noise = keep_noise(5, 8 * 65536, probability=probability, dtype=dtype)
    fast._counters.cache_clear()
    expected = min(round(probability * 65536), 65535)
    assert true_probability(probability) == expected / 65536
    # The elements of one byte place: a lane of each number's width.
    for lane in noise.view(dtype.itemsize, -1):
        assert int((lane == 0).sum()) == expected * (8 // dtype.itemsize)
    kept = torch.tensor(1.0 if dtype.itemsize == 2 else 65536 / (65536 - expected), dtype=dtype)
    assert noise[noise != 0].eq(kept).all()


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.73])
def test_the_share_lies_within_five_deviations_of_a_binomial(probability: float) -> None:
    num = 1_000_003
    noise = keep_noise(20240607, num, probability=probability)
    assert noise.shape == (num,)
    bound = 5 * math.sqrt(probability * (1 - probability) / num)
    assert abs((noise == 0).double().mean().item() - probability) < bound
    assert abs(noise.double().mean().item() - 1) < bound / (1 - probability)


@pytest.mark.parametrize("probability", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_dropped_at_one_place_says_nothing_about_another(probability: float, dtype: torch.dtype) -> None:
    num = 1 << 20
    gone = (keep_noise(99, num, probability=probability, dtype=dtype) == 0).double() - true_probability(probability)
    spread = probability * (1 - probability)
    piece = 8 * fast.CHUNK
    lane = piece // dtype.itemsize  # elements this far apart share bits: they may be correlated by up to 1 / 128
    for distance in (1, 2, 3, 4, 5, 8, 1000, 8192, 16384, lane - 1, lane, lane + 1, 2 * lane, piece - lane, piece):
        correlation = (gone[:-distance] * gone[distance:]).mean().item() / spread
        shared = 1 / 128 if distance % lane == 0 else 0.0
        assert abs(correlation) < 5 / math.sqrt(num - distance) + shared, distance


def test_masks_of_neighbouring_keys_have_nothing_in_common() -> None:
    one, other = (keep_noise(key, 1 << 18, probability=0.5) - 1 for key in (7, 8))
    assert abs((one * other).mean().item()) < 5 / math.sqrt(1 << 18)


def test_every_byte_of_the_words_is_uniform() -> None:
    draws = random_words(3, 1 << 17).view(torch.uint8)
    counts = torch.bincount(draws.long(), minlength=256).double()
    expected = len(draws) / 256
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


def test_a_mask_is_a_function_of_its_key_and_size_and_takes_one_draw_whatever_its_size() -> None:
    assert torch.equal(keep_noise(3, 70_000, probability=0.2), keep_noise(3, 70_000, probability=0.2))
    assert not torch.equal(keep_noise(3, 70_000, probability=0.2), keep_noise(4, 70_000, probability=0.2))
    states = []
    for size in (20_000, 200_000):
        with seeded_defaults(5):
            drop_elements(torch.ones(size), 0.1)
            states.append(torch.default_generator.get_state())
    assert torch.equal(*states)


def test_outputs_are_inputs_scaled_or_zero_and_the_gradient_is_scaled_alike() -> None:
    inputs = torch.randn(300, 100, generator=torch.Generator().manual_seed(0)).requires_grad_()
    outputs = dropped(inputs, 0.25)
    outputs.sum().backward()
    kept = outputs != 0
    assert torch.equal(outputs[kept], inputs[kept] * torch.tensor(4 / 3))
    assert inputs.grad is not None
    assert inputs.grad[kept].eq(torch.tensor(4 / 3)).all()
    assert inputs.grad[~kept].eq(0).all()


def test_in_16_bits_the_factor_is_not_rounded_before_it_is_used() -> None:
    inputs = torch.full((200, 200), 3.0, dtype=torch.bfloat16)
    kept = dropped(inputs, 0.1)
    assert kept.dtype == torch.bfloat16
    # 3 / 0.9 = 3.3333, whose neighbours in bf16 are 3.328125 and 3.34375; with a rounded factor it would be 3.328 too,
    # but 7 / 0.9 = 7.7778 tells: 7.78125 is nearest, and 7 * 1.109375 would become 7.75.
    assert kept[kept != 0].unique().tolist() == [3.328125]
    assert dropped(torch.full((200, 200), 7.0, dtype=torch.bfloat16), 0.1).unique().tolist() == [0.0, 7.78125]


def test_recomputation_under_activation_checkpointing_sees_the_same_mask() -> None:
    layer = nn.Linear(64, 512)
    inputs = torch.randn(128, 64)

    def block(value: Tensor) -> Tensor:
        return drop_elements(layer(value).tanh(), 0.4)

    gradients = []
    for run in (block, lambda value: checkpoint(block, value, use_reentrant=False)):
        layer.zero_grad()
        with seeded_defaults(11):
            run(inputs).square().sum().backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
    assert torch.equal(*gradients)


def test_probability_0_gives_the_inputs_themselves_and_draws_nothing() -> None:
    inputs, state = torch.ones(200, 200), torch.default_generator.get_state()
    for kind in ("element", "spatial", "variational"):
        assert drop(inputs.view(10, 20, 200), 0.0, kind).data_ptr() == inputs.data_ptr()  # type: ignore[arg-type]
    assert torch.equal(torch.default_generator.get_state(), state)


def test_inputs_that_are_transposed_channels_last_or_empty_are_taken() -> None:
    inputs = torch.rand(200, 300).t() + 1
    outputs = dropped(inputs)
    kept = outputs != 0
    torch.testing.assert_close(outputs[kept], inputs[kept] / (1 - true_probability(0.3)))
    pixels = (torch.rand(4, 8, 32, 32) + 1).to(memory_format=torch.channels_last)
    result = dropped(pixels)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result[result != 0], pixels[result != 0] / (1 - true_probability(0.3)))
    assert abs((result == 0).double().mean().item() - 0.3) < 5 * math.sqrt(0.21 / pixels.numel())
    assert dropped(torch.empty(0, 7)).shape == (0, 7)
    assert keep_noise(1, 0, probability=0.5).shape == (0,)


@pytest.mark.parametrize(("size", "own"), [(16_383, False), (16_384, True)])
def test_small_tensors_are_left_to_torch(size: int, own: bool) -> None:
    inputs = torch.ones(size)
    with seeded_defaults(2):
        theirs = F.dropout(inputs, 0.5)
    assert torch.equal(dropped(inputs, 0.5, seed=2), theirs) != own


def test_integers_are_refused_as_torch_refuses_them_and_tensors_of_other_kinds_are_left_to_torch() -> None:
    class Kind(Tensor):
        pass

    inputs = torch.ones(20_000).as_subclass(Kind)
    with seeded_defaults(2):
        theirs = F.dropout(inputs, 0.5)
    assert torch.equal(dropped(inputs, 0.5, seed=2), theirs)


def test_under_vmap_a_mask_is_shared_where_that_is_asked_for_and_refused_otherwise() -> None:
    stacked = torch.ones(3, 20_000)
    made = torch.vmap(lambda one: drop_elements(one, 0.5), randomness="same")(stacked)
    assert torch.equal(made[0], made[1])
    assert 0 < int((made == 0).sum()) < made.numel()
    for randomness in ("error", "different"):
        with pytest.raises(RuntimeError, match="vmap"):
            torch.vmap(lambda one: drop_elements(one, 0.5), randomness=randomness)(stacked)


def test_whole_channels_are_dropped_and_each_sample_has_its_own() -> None:
    outputs = dropped(torch.ones(64, 32, 3, 5), 0.25, kind="spatial")
    assert torch.equal(outputs, outputs[:, :, :1, :1].expand_as(outputs))
    gone = outputs[:, :, 0, 0] == 0
    assert abs(gone.double().mean().item() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / gone.numel())
    assert len({tuple(row) for row in gone.tolist()}) == 64
    assert outputs.unique().tolist() == [0.0, torch.tensor(4 / 3).item()]


def test_a_feature_is_dropped_for_all_steps_of_a_sequence() -> None:
    outputs = dropped(torch.ones(64, 9, 32), 0.25, kind="variational")
    assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))
    gone = outputs[:, 0] == 0
    assert abs(gone.double().mean().item() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / gone.numel())
    assert len({tuple(row) for row in gone.tolist()}) == 64


def test_variational_dropout_refuses_images_and_takes_vectors_number_by_number() -> None:
    with pytest.raises(JobError, match="variational dropout got activations of 4 dimensions"):
        drop(torch.ones(2, 3, 4, 4), 0.5, "variational")
    inputs = torch.ones(100, 300)
    for kind in ("spatial", "variational"):
        assert torch.equal(dropped(inputs, kind=kind), dropped(inputs, kind="element"))


def test_a_layer_drops_in_training_alone_and_shows_what_it_does() -> None:
    layer, inputs = DropoutLayer(0.5, kind="variational"), torch.ones(4, 2, 8)
    assert not torch.equal(layer(inputs), inputs)
    assert layer.eval()(inputs) is inputs
    assert list(layer.state_dict()) == []
    assert repr(layer) == "DropoutLayer(p=0.5, kind=variational)"
    assert DropoutLayer(0.25).kind == "element"
    with pytest.raises(ValueError, match="between 0 and 1"):
        DropoutLayer(1.5)
