"""Muon against the singular values by hand, torch's Muon around an exact iteration, and torch's AdamW for the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.clock import Horizon
from stepwell.core.errors import JobError
from stepwell.core.signature import Signature
from stepwell.engine.train_step import TrainStep
from stepwell.models.transformer import transformer
from stepwell.techniques import CrossEntropy, DecayGroups, Muon, WarmupCosine, muon_groups, orthogonalized


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_singular_values(matrix: Tensor, num_iterations: int = 5) -> Tensor:
    """The quintic acts on each singular value alone: U p(...p(s / |s|)...) V^T."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(num_iterations):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (1, 5), (5, 1)])
def test_orthogonalising_applies_the_quintic_to_every_singular_value(shape: tuple[int, int]) -> None:
    matrix = drawn(*shape)
    torch.testing.assert_close(orthogonalized(matrix), by_singular_values(matrix), rtol=1e-10, atol=1e-12)
    once = orthogonalized(matrix, num_iterations=1)
    torch.testing.assert_close(once, by_singular_values(matrix, 1), rtol=1e-10, atol=1e-12)


def test_the_singular_values_come_near_one_whatever_the_scale() -> None:
    for scale in (1e-3, 1.0, 1e6):
        values = torch.linalg.svdvals(orthogonalized(scale * drawn(6, 9)))
        assert values.min() > 0.6
        assert values.max() < 1.25


def test_leading_dimensions_are_a_batch_of_matrices() -> None:
    matrices = drawn(2, 3, 5, 4)
    whole = orthogonalized(matrices)
    assert whole.shape == matrices.shape
    for row in range(2):
        for column in range(3):
            expected = by_singular_values(matrices[row, column])
            torch.testing.assert_close(whole[row, column], expected, rtol=1e-10, atol=1e-12)


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert torch.equal(orthogonalized(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_sixteen_bit_matrices_are_orthogonalised_in_single_precision() -> None:
    matrix = drawn(3, 4).bfloat16()
    assert torch.equal(orthogonalized(matrix), orthogonalized(matrix.float()).bfloat16())


def stepped(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], num_steps: int = 4) -> None:
    for count in range(num_steps):
        for place, parameter in enumerate(parameters):
            parameter.grad = drawn(*parameter.shape, seed=100 * count + place)
        optimizer.step()


def parameters_of(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(drawn(*shape, seed=50 + place)) for place, shape in enumerate(shapes)]


@pytest.mark.parametrize("scaling", ["match_rms_adamw", "original"])
def test_hidden_matrices_follow_torch_around_an_exact_iteration(scaling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch iterates in bfloat16, too coarse to compare with; the singular values take its place.
    monkeypatch.setattr(
        "torch.optim._muon._zeropower_via_newtonschulz", lambda update, coefficients, steps, eps: by_singular_values(update)
    )
    shapes = ((4, 6), (6, 4), (4, 6), (5, 5))
    ours, theirs = parameters_of(*shapes), parameters_of(*shapes)
    stepped(Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.3, scaling=scaling), ours)
    oracle = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.3, nesterov=True, adjust_lr_fn=scaling)
    stepped(oracle, theirs)
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_kernel_is_the_matrix_of_its_outputs() -> None:
    kernel, matrix = nn.Parameter(drawn(4, 2, 3, 3)), nn.Parameter(drawn(4, 2, 3, 3).flatten(1))
    for parameter in (kernel, matrix):
        parameter.grad = drawn(4, 2, 3, 3, seed=3).reshape(parameter.shape)
        Muon([parameter], lr=0.1).step()
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=1e-12, atol=1e-14)


def test_everything_else_follows_torchs_adamw() -> None:
    ours, theirs = parameters_of((5,), (3, 4)), parameters_of((5,), (3, 4))
    settings: dict[str, Any] = {"adamw_betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.2}
    optimizer = Muon([("bias", ours[0]), ("head.weight", ours[1])], lr=0.02, adamw_factor=0.5, **settings)
    stepped(optimizer, ours)
    stepped(torch.optim.AdamW(theirs, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2), theirs)
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def rules(named: Any, patterns: Any = None, **settings: Any) -> dict[str, str]:
    groups = muon_groups(named, patterns, **settings)
    return {name: group["rule"] for group in groups for name in group["names"]}


def test_embeddings_positions_norms_and_heads_of_a_transformer_go_to_adamw() -> None:
    signature = Signature("tokens", (8,), 11, vocab_size=11)
    model = transformer(signature, num_layers=1, width=8, num_heads=2, embeddings="separate", bias="all")
    found = rules(model.named_parameters())
    hidden = {name for name, rule in found.items() if rule == "muon"}
    assert hidden == {
        "blocks.0.attention.branch.1.mix.weight",
        "blocks.0.attention.branch.1.project.weight",
        "blocks.0.feed_forward.branch.1.weight",
        "blocks.0.feed_forward.branch.4.weight",
    }
    assert len(found) == len(list(model.parameters()))


def test_a_declared_role_alone_sends_a_matrix_to_adamw() -> None:
    plain, declared = parameters_of((3, 3), (3, 3))
    declared.stepwell_role = "position"
    assert rules([("a", plain), ("b", declared)]) == {"a": "muon", "b": "adamw"}


def test_patterns_are_whole_names_beginnings_parts_or_wildcards_and_replace_the_usual_words() -> None:
    named = [(name, nn.Parameter(torch.ones(2, 2))) for name in ("0.weight", "4.out.weight", "body.head.weight", "x.y.weight")]
    assert rules(named, ("4",))["4.out.weight"] == "adamw"
    assert rules(named, ("4",))["body.head.weight"] == "muon"
    assert rules(named, ("x.y",))["x.y.weight"] == "adamw"
    assert rules(named, ("body.*",))["body.head.weight"] == "adamw"
    assert rules(named, ())["body.head.weight"] == "muon"
    assert rules(named)["body.head.weight"] == "adamw"


@pytest.mark.parametrize("name", ["token_embedding", "wte", "wpe", "heads", "lm_head", "classifier", "fc", "output", "score"])
def test_the_usual_words_for_embeddings_and_heads_are_known(name: str) -> None:
    assert rules([(f"{name}.weight", nn.Parameter(torch.ones(2, 2)))]) == {f"{name}.weight": "adamw"}
    assert rules([(f"blocks.{name}2.weight", nn.Parameter(torch.ones(2, 2)))], ()) == {f"blocks.{name}2.weight": "muon"}


def test_groups_keep_their_settings_and_their_members_when_they_are_cut() -> None:
    one, two, three = parameters_of((2, 2), (2,), (2, 2))
    groups = muon_groups([{"params": [one, two], "names": ["a", "b"], "lr": 0.5}, {"params": three, "names": ["head"]}])
    shown = [({key: value for key, value in group.items() if key != "params"}, len(group["params"])) for group in groups]
    assert shown == [
        ({"lr": 0.5, "names": ["a"], "rule": "muon"}, 1),
        ({"lr": 0.5, "names": ["b"], "rule": "adamw"}, 1),
        ({"names": ["head"], "rule": "adamw"}, 1),
    ]
    assert groups[0]["params"][0] is one


def test_without_names_dimensions_alone_decide_and_no_names_are_made_up() -> None:
    groups = muon_groups(parameters_of((2, 2), (2,)))
    assert [(group["rule"], "names" in group) for group in groups] == [("muon", False), ("adamw", False)]


def test_a_pattern_that_covers_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(JobError, match=r"^muon\.adamw_patterns has 'haed'.*Did you mean 'head'"):
        Muon(nn.ModuleDict({"head": nn.Linear(2, 2)}).named_parameters(), adamw_patterns=("haed",))


def test_stacked_replicas_move_as_each_would_alone() -> None:
    stacked = [nn.Parameter(drawn(3, 4, 5)), nn.Parameter(drawn(3, 5)), nn.Parameter(drawn(3, 4, 2, 3))]
    alone = [[nn.Parameter(parameter[index].detach().clone()) for parameter in stacked] for index in range(3)]
    whole = Muon(stacked, lr=0.1, replica_dims=1)
    assert [group["rule"] for group in whole.param_groups] == ["muon", "adamw"]
    singles = [Muon(parameters, lr=0.1) for parameters in alone]
    for count in range(3):
        for place, parameter in enumerate(stacked):
            parameter.grad = drawn(*parameter.shape, seed=10 * count + place)
            for index in range(3):
                alone[index][place].grad = parameter.grad[index].clone()
        for optimizer in (whole, *singles):
            optimizer.step()
    for place, parameter in enumerate(stacked):
        for index in range(3):
            torch.testing.assert_close(parameter[index], alone[index][place], rtol=1e-10, atol=1e-12)


def test_a_parameter_without_gradient_is_left_alone_and_the_closure_gives_the_loss() -> None:
    still, moved = parameters_of((2, 2), (2, 2))
    before = still.detach().clone()
    optimizer = Muon([still, moved], lr=0.1)

    def closure() -> float:
        moved.grad = torch.ones_like(moved)
        return 2.5

    assert optimizer.step(closure) == 2.5
    assert torch.equal(still, before)
    assert still not in optimizer.state


def test_in_a_run_both_rules_share_the_schedule_and_a_resumed_run_has_the_same_bits() -> None:
    signature = Signature("tokens", (8,), 11, vocab_size=11)

    def built() -> TrainStep:
        torch.manual_seed(0)
        return TrainStep(
            transformer(signature, num_layers=1, width=8, num_heads=2),
            objective=CrossEntropy(),
            optimizer=Muon(lr=0.01, adamw_factor=0.5),
            techniques=[DecayGroups(), WarmupCosine(warmup="2 steps")],
            horizon=Horizon.of("6 steps"),
        )

    draw = torch.Generator().manual_seed(4)
    batches = [Batch(*(torch.randint(11, (4, 8), generator=draw) for _ in range(2))) for _ in range(6)]
    whole, resumed = built(), built()
    assert {(group["rule"], group["weight_decay"]) for group in whole.optimizer.param_groups} == {
        ("muon", 0.1),
        ("adamw", 0.1),
        ("adamw", 0.0),
    }
    for batch in batches[:3]:
        report = whole(batch)
    assert len({group["lr"] for group in whole.optimizer.param_groups}) == 1
    assert 0 < report.lr <= 0.01
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for batch in batches[3:]:
        whole(batch)
        resumed(batch)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"lr": -0.1}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"scaling": "none"}, "scaling"),
        ({"num_iterations": 0}, "num_iterations"),
        ({"num_iterations": 21}, "num_iterations"),
        ({"num_iterations": 2.5}, "num_iterations"),
        ({"adamw_patterns": "head"}, "adamw_patterns"),
        ({"adamw_patterns": (1,)}, "adamw_patterns"),
        ({"adamw_factor": 0.0}, "adamw_factor"),
        ({"adamw_factor": float("inf")}, "adamw_factor"),
        ({"adamw_betas": (1.0, 0.9)}, "adamw_betas"),
        ({"adamw_betas": (0.9, -0.1)}, "adamw_betas"),
        ({"eps": 0.0}, "eps"),
        ({"replica_dims": 2}, "replica_dims"),
    ],
)
def test_a_bad_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(JobError, match=rf"^muon\.{field} is"):
        Muon(**settings)


def test_values_at_the_ends_of_their_ranges_are_taken() -> None:
    made = Muon(lr=0.0, momentum=0.0, weight_decay=0.0, num_iterations=20, adamw_patterns=(), adamw_betas=(0.0, 0.0))
    assert (made.lr, made.momentum, made.num_iterations) == (0.0, 0.0, 20)
    assert Muon(num_iterations=1).num_iterations == 1


def test_the_default_numbers_are_those_of_torch_and_of_the_authors() -> None:
    made = Muon()
    assert (made.lr, made.momentum, made.weight_decay, made.num_iterations) == (1e-3, 0.95, 0.1, 5)
    assert (made.adamw_factor, made.adamw_betas, made.eps, made.replica_dims) == (1.0, (0.9, 0.95), 1e-8, 0)
