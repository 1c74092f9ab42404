"""Activation checkpointing: same gradients, masks and statistics, less kept, same names."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError
from stepwell.core.randomness import Rng, seeded_defaults
from stepwell.techniques.model import activation_checkpointing
from stepwell.techniques.model.activation_checkpointing import ActivationCheckpointing, repeated_blocks


def block(dropout: float = 0.5) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 6))


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)
    )


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(block() for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for each in self.blocks:
            x = x + each(x)
        return self.head(x)


def run(model: nn.Module, *, passes: int = 2) -> dict[str, Tensor]:
    """Gradients after some passes with dropout, and every buffer."""
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    with seeded_defaults(5):
        for _ in range(passes):
            model(inputs).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {**grads, **{f"buffer {name}": value.clone() for name, value in model.named_buffers()}}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def kept_bytes(model: nn.Module) -> int:
    """Bytes that autograd keeps between the passes, parameters aside."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(64, 6, requires_grad=True, generator=torch.Generator().manual_seed(0)))
    return sum(kept)


MODELS: list[tuple[Any, dict[str, Any]]] = [
    (Stack, {}),
    (Stack, {"modules": ["blocks.*"]}),
    (Stack, {"modules": ["blocks.0", "head"]}),
    (chain, {}),
    (chain, {"segments": 1}),
    (chain, {"segments": 20}),
    (lambda: nn.Sequential(*(block() for _ in range(3))), {}),
    (lambda: nn.Sequential(*(block() for _ in range(3))), {"segments": 2}),
]


@pytest.mark.parametrize(("make", "settings"), MODELS)
def test_gradients_masks_and_statistics_are_those_of_the_plain_model(make: Any, settings: dict[str, Any]) -> None:
    with seeded_defaults(1):
        plain = make()
    checkpointed = ActivationCheckpointing(**settings)(copy.deepcopy(plain), Rng(0))
    assert same_bits(run(plain), run(checkpointed))


@pytest.mark.parametrize(("make", "settings"), [MODELS[0], MODELS[3]])
def test_less_is_kept_between_the_passes(make: Any, settings: dict[str, Any]) -> None:
    plain = make()
    assert kept_bytes(ActivationCheckpointing(**settings)(copy.deepcopy(plain), Rng(0))) < 0.6 * kept_bytes(plain)


def test_blocks_run_again_in_the_backward_pass() -> None:
    model = ActivationCheckpointing()(Stack(), Rng(0))
    calls: list[int] = []
    model.blocks[1][0].register_forward_hook(lambda *given: calls.append(1))
    out = model(torch.zeros(4, 6)).sum()
    assert len(calls) == 1
    out.backward()
    assert len(calls) == 2


def test_nothing_runs_twice_where_no_gradient_is_recorded() -> None:
    model, plain = Stack().eval(), Stack().eval()
    plain.load_state_dict(model.state_dict())
    ActivationCheckpointing()(model, Rng(0))
    with torch.no_grad():
        assert torch.equal(model(torch.ones(4, 6)), plain(torch.ones(4, 6)))


def test_names_types_and_state_dict_stay() -> None:
    plain = Stack()
    model = ActivationCheckpointing()(copy.deepcopy(plain), Rng(0))
    assert [(name, type(module)) for name, module in model.named_modules()] == [(n, type(m)) for n, m in plain.named_modules()]
    assert list(model.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(("make", "settings"), [MODELS[0], MODELS[3]])
def test_a_copy_is_checkpointed_and_uses_its_own_weights(make: Any, settings: dict[str, Any]) -> None:
    model = ActivationCheckpointing(**settings)(make(), Rng(0))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert kept_bytes(twin) == kept_bytes(model)
    grads = run(twin)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(bool(grad.any()) for name, grad in grads.items() if not name.startswith("buffer"))


def test_applying_it_twice_changes_nothing() -> None:
    model = ActivationCheckpointing()(Stack(), Rng(0))
    once = kept_bytes(model)
    assert kept_bytes(ActivationCheckpointing()(model, Rng(0))) == once


def test_norms_with_cumulative_averages_count_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6, momentum=None), nn.Tanh(), nn.Linear(6, 6))
    run(ActivationCheckpointing(segments=1)(model, Rng(0)), passes=3)
    assert int(model[1].num_batches_tracked) == 3
    assert model[1].momentum is None


def test_only_blocks_with_insides_that_repeat_are_found() -> None:
    assert len(repeated_blocks(Stack())) == 3
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []
    outer = nn.Sequential(nn.Sequential(block(), block()), nn.Sequential(block(), block()))
    assert repeated_blocks(outer) == list(outer)


def test_a_block_that_stands_alone_is_not_a_repeated_one() -> None:
    assert repeated_blocks(nn.Sequential(block(), nn.Linear(6, 6))) == []


def calls_of(model: nn.Sequential) -> list[int]:
    """Which modules of a chain run, in order, through a forward and a backward pass."""
    order: list[int] = []
    for place, module in enumerate(model):
        module.register_forward_pre_hook(lambda *given, place=place: order.append(place))
    model(torch.ones(4, 6, requires_grad=True)).sum().backward()
    return order


def test_a_chain_is_cut_into_even_segments_and_the_last_is_run_again_first() -> None:
    linear = nn.Sequential(*(nn.Linear(6, 6) for _ in range(7)))
    model = ActivationCheckpointing(segments=3)(linear, Rng(0))
    # 7 modules in 3 segments end at 7/3, 14/3 and 7: rounded 2, 5, 7.
    assert calls_of(model) == [0, 1, 2, 3, 4, 5, 6, *(5, 6), *(2, 3, 4), *(0, 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "num_segments"), [(2, 2), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_without_a_number_there_are_as_many_segments_as_the_root_of_the_length_rounded_up(
    length: int, num_segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return torch.utils.checkpoint.checkpoint(*args, **kwargs)

    monkeypatch.setattr(activation_checkpointing, "checkpoint", counted)
    model = ActivationCheckpointing()(nn.Sequential(*(nn.Linear(6, 6) for _ in range(length))), Rng(0))
    model(torch.ones(4, 6))
    assert len(calls) == num_segments


def test_a_sequential_of_one_module_is_no_chain() -> None:
    with pytest.raises(JobError, match="no repeated blocks"):
        ActivationCheckpointing()(nn.Sequential(nn.Linear(6, 6)), Rng(0))


def test_a_chosen_module_inside_another_is_not_wrapped_again() -> None:
    model = ActivationCheckpointing(modules=["blocks.0", "blocks.0.*"])(Stack(), Rng(0))
    calls: list[int] = []
    model.blocks[0][0].register_forward_hook(lambda *given: calls.append(1))
    model(torch.zeros(4, 6)).sum().backward()
    assert len(calls) == 2


def test_names_that_match_nothing_are_refused_with_the_nearest() -> None:
    with pytest.raises(JobError, match="Did you mean 'blocks"):
        ActivationCheckpointing(modules=["block.0"])(Stack(), Rng(0))


def test_a_model_with_nothing_to_checkpoint_is_refused() -> None:
    with pytest.raises(JobError, match="no repeated blocks"):
        ActivationCheckpointing()(nn.Linear(2, 2), Rng(0))


@pytest.mark.parametrize("settings", [{"modules": []}, {"modules": "blocks"}, {"segments": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="activation_checkpointing"):
        ActivationCheckpointing(**settings)
