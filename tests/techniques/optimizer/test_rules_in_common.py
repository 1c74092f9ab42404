"""What holds for every update rule of ours: skipping, replicas, pieces, flat memory, resume, freezing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rule_checks import RULES, SHAPES, Rule, largest_difference, parameters, tensors
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.core.updates import pieces
from stepwell.core.updates.elementwise import ElementwiseOptimizer
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import (
    Adagrad,
    Adam,
    AdamW,
    CrossEntropy,
    DecayGroups,
    Lamb,
    Lars,
    Lion,
    OneCycle,
    RMSprop,
    Sgd,
    Unfreezing,
)

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
TECHNIQUES: dict[str, Any] = {
    "sgd": Sgd(weight_decay=0.01),
    "adamw": AdamW(lr=0.01),
    "adam": Adam(lr=0.01, weight_decay=0.01),
    "adagrad": Adagrad(lr=0.05, lr_decay=0.1, initial_accumulator=0.1),
    "rmsprop": RMSprop(lr=0.003),
    "rmsprop centered": RMSprop(lr=0.003, momentum=0.9, centered=True, weight_decay=0.01),
    "lion": Lion(lr=1e-2, weight_decay=0.1),
    "lars": Lars(lr=0.2, weight_decay=1e-3, trust_coefficient=0.05),
    "lamb": Lamb(lr=0.01, max_trust=10.0),
}
every_technique = pytest.mark.parametrize("technique", TECHNIQUES.values(), ids=list(TECHNIQUES))


def states(rule: Rule, values: list[Tensor]) -> list[list[Tensor]]:
    # Squares below, so above 0.
    return [[(torch.ones_like(v) if number == 0 else torch.zeros_like(v)) for v in values] for number in range(rule.num_states)]


def steps(values: list[Tensor]) -> list[Tensor]:
    return [torch.tensor(3.0) for _ in values]


def clones(lists: list[list[Tensor]]) -> list[list[Tensor]]:
    return [[tensor.clone() for tensor in each] for each in lists]


def equal(left: list[list[Tensor]], right: list[list[Tensor]]) -> bool:
    return all(torch.equal(a, b) for l, r in zip(left, right, strict=True) for a, b in zip(l, r, strict=True))  # noqa: E741


@every_rule
def test_a_skipped_update_changes_nothing_even_where_gradients_are_not_finite(rule: Rule) -> None:
    values, gradients = tensors(SHAPES, 0, torch.float32), tensors(SHAPES, 1, torch.float32)
    state = states(rule, values)
    gradients[0][0, 0], gradients[1][2] = float("nan"), float("inf")
    before = clones([values, *state])
    rule.update(values, gradients, state, steps(values), lr=0.1, skip=torch.tensor(1.0))
    assert equal(before, [values, *state])


@every_rule
def test_an_update_that_is_not_skipped_has_the_bits_of_one_without_the_flag_and_keeps_the_gradients(rule: Rule) -> None:
    values, gradients = tensors(SHAPES, 0, torch.float32), tensors(SHAPES, 1, torch.float32)
    plain, kept = (clones([values])[0], states(rule, values)), clones([gradients])
    flagged = (clones([values])[0], states(rule, values))
    rule.update(plain[0], gradients, plain[1], steps(values), lr=0.1)
    rule.update(flagged[0], gradients, flagged[1], steps(values), lr=0.1, skip=torch.tensor(0.0))
    assert equal([plain[0], *plain[1]], [flagged[0], *flagged[1]])
    assert not any(torch.equal(a, b) for a, b in zip(values, plain[0]))
    assert equal(kept, [gradients])


@every_rule
@pytest.mark.parametrize("rates", [None, [0.1, 0.0, 0.5]], ids=["one rate", "a rate each"])
def test_stacked_replicas_get_the_bits_of_single_runs(rule: Rule, rates: list[float] | None) -> None:
    num = 3
    stacked = [(num, *shape) for shape in SHAPES]
    values = tensors(stacked, 0, torch.float32)
    state = states(rule, values)
    singles = [[value[k].clone() for value in values] for k in range(num)]
    single_states = [[[tensor[k].clone() for tensor in each] for each in state] for k in range(num)]
    for count in range(3):
        gradients = tensors(stacked, 10 + count, torch.float32)
        how = {"replicas": num, "lr": 0.1} if rates is None else {"lr": torch.tensor(rates)}
        rule.update(values, gradients, state, steps(values), **how)
        for k in range(num):
            rate = 0.1 if rates is None else float(torch.tensor(rates)[k])
            rule.update(singles[k], [gradient[k] for gradient in gradients], single_states[k], steps(values), lr=rate)
    for k in range(num):
        assert equal([[value[k] for value in values]], [singles[k]])
        assert equal([[tensor[k] for tensor in each] for each in state], single_states[k])


@pytest.mark.parametrize("name", [name for name in RULES if name.split()[0] not in ("lars", "lamb")])
def test_stacked_replicas_need_no_flag_where_the_rule_is_elementwise(name: str) -> None:
    # Whole vectors per replica: a kernel's last, shorter one rounds by other instructions.
    rule, values, gradients = RULES[name], tensors([(4, 32)], 0, torch.float32), tensors([(4, 32)], 1, torch.float32)
    state = states(rule, values)
    singles = [values[0][k].clone() for k in range(4)]
    rule.update(values, gradients, state, steps(values), lr=0.1)
    for k, single in enumerate(singles):
        rule.update([single], [gradients[0][k]], states(rule, [single]), steps([single]), lr=0.1)
        assert torch.equal(values[0][k], single)


@every_rule
def test_large_tensors_in_pieces_and_small_ones_together_come_to_the_same(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(40, 9), (3,), (5,), (70,), (8, 8)]
    results = []
    for size in (1 << 18, 64):
        monkeypatch.setattr(pieces, "PIECE", size)
        values, state = tensors(shapes, 0), states(rule, tensors(shapes, 0))
        for count in range(2):
            rule.update(values, tensors(shapes, 5 + count), state, steps(values), lr=0.1)
        results.append([*values, *(tensor for each in state for tensor in each)])
    assert largest_difference(*results) <= 1e-14


@every_technique
def test_16_bit_parameters_move_as_32_bit_ones_do_up_to_their_rounding(technique: Any) -> None:
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        made = [nn.Parameter(tensor.to(torch.bfloat16).to(dtype)) for tensor in tensors([(16, 4), (4,)], 0)]
        optimizer = technique(made)
        for parameter, gradient in zip(made, tensors([(16, 4), (4,)], 1)):
            parameter.grad = gradient.to(torch.bfloat16).to(dtype)
        optimizer.step()
        assert {value.dtype for s in optimizer.state.values() for key, value in s.items() if key != "step"} == {dtype}
        results.append([parameter.detach().float() for parameter in made])
    for full, half in zip(*results):
        torch.testing.assert_close(half, full, rtol=2**-7, atol=2**-9)


@every_technique
def test_parameters_without_a_gradient_are_left_alone(technique: Any) -> None:
    made = parameters()
    before = [parameter.detach().clone() for parameter in made]
    optimizer = technique(made)
    optimizer.step()
    made[0].grad = torch.ones_like(made[0])
    optimizer.step()
    moved = [not torch.equal(old, new.detach()) for old, new in zip(before, made)]
    assert moved == [True, False, False, False]


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    draw = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 3)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=dtype) * 0.4)
    return model


def batches(num: int) -> list[Batch]:
    draw = torch.Generator().manual_seed(5)
    return [
        Batch(torch.randn(16, 6, generator=draw, dtype=torch.float64), torch.randint(0, 3, (16,), generator=draw))
        for _ in range(num)
    ]


def train_step(technique: Any, memory: Any, *more: Any) -> TrainStep:
    return TrainStep(
        network(),
        objective=CrossEntropy(),
        optimizer=technique,
        techniques=[DecayGroups(), *more],
        horizon=Horizon.of("10 steps"),
        execution=Execution(memory=memory),
    )


def weights(step: TrainStep) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in step.model.parameters()]


@every_technique
def test_flat_memory_trains_as_separate_tensors_do_also_where_layers_unfreeze(technique: Any) -> None:
    results = []
    for memory in ("flat", "tensors"):
        stages = [{"modules": ["3"], "at": "0 steps"}, {"modules": ["0", "1"], "at": "4 steps"}]
        step = train_step(technique, memory, Unfreezing(stages=stages))
        assert isinstance(step.optimizer, ElementwiseOptimizer)
        assert bool(step.optimizer.layouts) == (memory == "flat")
        frozen = step.model[0].weight.detach().clone()  # type: ignore[index, union-attr, operator]
        for number, batch in enumerate(batches(8)):
            step(batch)
            assert torch.equal(frozen, step.model[0].weight) == (number < 4)  # type: ignore[index, union-attr, arg-type]
        results.append(weights(step))
    assert largest_difference(*results) <= 1e-12


@every_technique
@pytest.mark.parametrize("memory", ["flat", "tensors"])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_interrupted(technique: Any, memory: str) -> None:
    data = batches(8)
    whole, first, second = (train_step(technique, memory) for _ in range(3))
    for batch in data:
        whole(batch)
    for batch in data[:4]:
        first(batch)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for batch in data[4:]:
        second(batch)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second)))


@every_technique
def test_state_moves_between_flat_memory_and_separate_tensors(technique: Any) -> None:
    data = batches(8)
    flat, apart = train_step(technique, "flat"), train_step(technique, "tensors")
    for batch in data[:4]:
        flat(batch)
    apart.load_state_dict(copy.deepcopy(flat.state_dict()))
    for batch in data[4:]:
        flat(batch), apart(batch)
    assert largest_difference(weights(flat), weights(apart)) <= 1e-12
    for left, right in zip(flat.optimizer.state.values(), apart.optimizer.state.values()):
        assert left.keys() == right.keys()
        assert {key: value.shape for key, value in left.items()} == {key: value.shape for key, value in right.items()}


@every_technique
def test_a_late_check_leaves_everything_alone_in_a_bad_step(technique: Any) -> None:
    step = TrainStep(network(), objective=CrossEntropy(), optimizer=technique, execution=Execution(finite_check="late"))
    data = batches(3)
    step(data[0])
    before, state = weights(step), copy.deepcopy(step.optimizer.state_dict()["state"])
    step(Batch(data[1].inputs * float("nan"), data[1].targets))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(step)))
    after = step.optimizer.state_dict()["state"]
    assert all(torch.equal(value, after[key][name]) for key, entry in state.items() for name, value in entry.items())


@every_technique
def test_tensors_in_channels_last_order_train_as_others_do_also_after_their_state_was_loaded_in_plain_order(
    technique: Any,
) -> None:
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        (start,) = tensors([(4, 3, 3, 3)], 0)
        weight = nn.Parameter(start.contiguous(memory_format=order))
        optimizer = technique([weight])
        for count in range(4):
            weight.grad = tensors([(4, 3, 3, 3)], 7 + count)[0]  # always in plain order
            optimizer.step()
            if count == 1:
                state = copy.deepcopy(optimizer.state_dict())
                for entry in state["state"].values():
                    entry.update({key: value.contiguous() for key, value in entry.items()})
                optimizer.load_state_dict(state)
        results.append([weight.detach().contiguous()])
    assert largest_difference(*results) <= 1e-14


@pytest.mark.parametrize("name", ["adam", "lamb", "lion", "lars", "rmsprop centered"])
def test_one_cycle_moves_the_momentum_of_every_rule_that_claims_to_have_one(name: str) -> None:
    step = train_step(TECHNIQUES[name], "flat", OneCycle())
    seen = []
    for batch in batches(10):
        step(batch)
        group = step.optimizer.param_groups[0]
        seen.append(group["betas"][0] if "betas" in group else group["momentum"])
    assert (seen[0], min(seen)) == (0.95, 0.85)


@every_technique
def test_every_optimizer_lowers_a_loss(technique: Any) -> None:
    model, batch = network(), batches(1)[0]
    optimizer = technique(model.parameters())
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch.inputs), batch.targets)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
