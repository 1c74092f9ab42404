"""Hidden mixup by hand: what the module gives is mixed, targets alike, and nothing else ever is."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import Batch
from stepwell.core.batches.pairing import partners
from stepwell.core.catalog import lookup
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng, seeded_defaults
from stepwell.core.slots import Objective
from stepwell.engine.evaluate import evaluate
from stepwell.engine.parts import Execution
from stepwell.engine.train_step import TrainStep
from stepwell.techniques import ActivationCheckpointing, CrossEntropy, Distillation, HiddenMixup, Mixup, Sgd, mix_halves


class Reader(nn.Module):
    """Token ids (N, T) -> scores (N, 3), through an embedding, a mean and two layers."""

    def __init__(self) -> None:
        super().__init__()
        with seeded_defaults(0):
            self.embedding = nn.Embedding(20, 6)
            self.blocks = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 6), nn.Tanh()))
            self.head = nn.Linear(6, 3)
        self.double()

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.head(self.blocks(self.embedding(tokens).mean(1)))
        return scores


def text(num: int = 12) -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch(torch.randint(0, 20, (num, 5), generator=draw), torch.randint(0, 3, (num,), generator=draw))


def mixed(batch: Batch, at: str = "embedding", **settings: float) -> tuple[Objective, Batch]:
    technique = HiddenMixup(at=at, num_classes=3, **settings)  # type: ignore[arg-type]
    return technique(CrossEntropy()), technique.on_batch(batch, Rng(4))


def test_halves_are_mixed_row_by_row() -> None:
    rows = torch.tensor([[[0.0, 4.0]], [[2.0, 2.0]], [[8.0, 0.0]], [[4.0, 6.0]]])
    assert mix_halves(rows, torch.tensor([0.75, 0.5], dtype=torch.float64)).tolist() == [[[2.0, 3.0]], [[3.0, 4.0]]]


def test_everything_after_the_module_sees_the_mixture_of_what_it_gives() -> None:
    model, batch = Reader(), text()
    objective, ready = mixed(batch)
    lam = ready.extras["hidden_mixup"]["lam"]
    assert lam.shape == (12,)
    assert lam.unique().numel() == 1
    share, partner = float(lam[0]), partners(12, torch.device("cpu"))
    vectors = model.embedding(batch.inputs)
    hidden = share * vectors + (1 - share) * vectors[partner]
    expected = model.head(model.blocks(hidden.mean(1)))
    torch.testing.assert_close(objective.forward(model, ready), expected, rtol=0, atol=1e-12)
    labels = torch.eye(3)[batch.targets]
    torch.testing.assert_close(ready.targets, share * labels + (1 - share) * labels[partner])
    assert torch.equal(ready.inputs, batch.inputs)
    assert objective.counts(ready)["samples"] == 12


@pytest.mark.parametrize("at", ["embedding", "blocks.0", "blocks.0.1", "blocks", "emb*"])
def test_it_equals_a_loop_of_one_s_own_wherever_it_mixes(at: str) -> None:
    model, batch = Reader(), text(6)
    objective, ready = mixed(batch, at)
    share, partner = float(ready.extras["hidden_mixup"]["lam"][0]), partners(6, torch.device("cpu"))
    states = model.embedding(batch.inputs).mean(1)
    mix = lambda rows: share * rows + (1 - share) * rows[partner]  # noqa: E731
    if at in ("embedding", "emb*"):
        expected = model.head(model.blocks(mix(states)))  # a mean of mixtures is the mixture of the means
    elif at.startswith("blocks.0"):
        expected = model.head(model.blocks[1](mix(model.blocks[0](states))))
    else:
        expected = model.head(mix(model.blocks(states)))
    torch.testing.assert_close(objective.forward(model, ready), expected, rtol=0, atol=1e-12)


def weights_after(num_steps: int, *techniques: object, micro: int | None = None, model: nn.Module | None = None) -> list[Tensor]:
    step = TrainStep(
        model or Reader(),
        objective=CrossEntropy(),
        optimizer=Sgd(lr=0.5),
        techniques=techniques,
        execution=Execution(micro_batch_size=micro),
    )
    for _ in range(num_steps):
        step(text(21))
    return [parameter.detach().clone() for parameter in step.model.parameters()]


def furthest(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((left - right).abs().max()) for left, right in zip(one, other))


TECHNIQUE = HiddenMixup(at="embedding", num_classes=3)


@pytest.mark.parametrize("micro", [1, 5, 8, 20])
def test_micro_batches_give_the_weights_of_the_whole_batch(micro: int) -> None:
    whole = weights_after(3, TECHNIQUE)
    assert furthest(weights_after(3, TECHNIQUE, micro=micro), whole) < 1e-10
    assert furthest(weights_after(3), whole) > 1e-4


@pytest.mark.parametrize("at", ["blocks.0.0", "blocks.0", "embedding"])
def test_activation_checkpointing_changes_nothing(at: str) -> None:
    technique = HiddenMixup(at=at, num_classes=3)
    plain = weights_after(3, technique)
    assert furthest(weights_after(3, technique, ActivationCheckpointing(modules=["blocks.*"])), plain) < 1e-12
    assert furthest(weights_after(3, technique, ActivationCheckpointing(segments=1, modules=None)), plain) < 1e-12


def test_a_probability_of_zero_gives_the_bits_of_the_run_without_it() -> None:
    idle = HiddenMixup(at="embedding", num_classes=3, probability=0.0)
    assert furthest(weights_after(3, idle), weights_after(3)) == 0


def test_the_model_is_itself_again_for_everyone_else() -> None:
    model, batch = Reader(), text()
    objective, ready = mixed(batch)
    before = model(batch.inputs).detach()
    objective.forward(model, ready)
    assert torch.equal(model(batch.inputs), before)
    assert not model._forward_pre_hooks
    assert not model.embedding._forward_hooks
    objective.forward(model, ready)
    loss = evaluate(model, [batch], objective=CrossEntropy())["loss"]
    torch.testing.assert_close(loss, float(nn.functional.cross_entropy(before, batch.targets)), rtol=0, atol=1e-12)
    plain = objective.forward(model, batch)
    assert torch.equal(plain, before)


def test_a_copy_of_the_model_made_in_the_middle_is_itself_too() -> None:
    model, batch = Reader(), text()
    objective, ready = mixed(batch)
    objective.forward(model, ready)
    other = copy.deepcopy(model)
    assert torch.equal(other(batch.inputs), Reader()(batch.inputs))
    assert torch.equal(model(batch.inputs), Reader()(batch.inputs))


def test_so_many_of_the_steps_are_mixed() -> None:
    batch = text(2)
    num = sum(HiddenMixup(at="x", probability=0.3, num_classes=3).on_batch(batch, Rng(seed)) is not batch for seed in range(1000))
    # Binomial(1000, 0.3): 300 with a standard deviation of 14.5; four of them.
    assert abs(num - 300) < 58


def test_what_other_techniques_left_beside_the_batch_stays() -> None:
    batch = text(4)
    batch.extras = {"other": torch.arange(4)}
    ready = TECHNIQUE.on_batch(batch, Rng(0))
    assert list(ready.extras) == ["other", "hidden_mixup"]
    assert torch.equal(ready.extras["other"], torch.arange(4))


def test_inputs_in_a_dict_and_targets_of_tokens_are_mixed_too() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes, self.joined, self.head = nn.Embedding(5, 2), nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            made: Tensor = self.head(torch.relu(self.joined(torch.cat([numbers, self.codes(codes)], 1))))
            return made

    model, draw = Table(), torch.Generator().manual_seed(0)
    inputs = {"numbers": torch.randn(5, 3, generator=draw), "codes": torch.randint(0, 5, (5,), generator=draw)}
    objective, ready = mixed(Batch(inputs, torch.tensor([0, 1, 2, 0, 1])), "joined")
    share, partner = float(ready.extras["hidden_mixup"]["lam"][0]), partners(5, torch.device("cpu"))
    rows = model.joined(torch.cat([inputs["numbers"], model.codes(inputs["codes"])], 1))
    expected = model.head(torch.relu(share * rows + (1 - share) * rows[partner]))
    torch.testing.assert_close(objective.forward(model, ready), expected, rtol=0, atol=1e-6)
    tokens = Batch(torch.ones(2, 3, dtype=torch.int64), torch.tensor([[0, 1, -100], [2, 1, 0]]))
    ready = TECHNIQUE.on_batch(tokens, Rng(0))
    share = float(ready.extras["hidden_mixup"]["lam"][0])
    # An ignored token has no mass; mixed with another it has the other's share.
    torch.testing.assert_close(ready.targets.sum(2), torch.tensor([[1.0, 1.0, 1 - share], [1.0, 1.0, share]]))


class Aside(Reader):
    """The same, with a path of its own around the embedding."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, tokens: Tensor) -> Tensor:
        if self.where == "outputs":
            self.embedding(tokens)
            return tokens.double()
        if self.where == "twice":
            return self.head(self.embedding(tokens).mean(1) + self.embedding(tokens[:1]).mean(1))
        if self.where == "never":
            return self.head(tokens[:, :1].double().expand(-1, 6))
        return self.head(self.embedding(tokens).mean(1) + tokens.sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("outputs", r"outputs are \(24, 5\) for 12 samples"),
        ("never", "it was called 0 times"),
        ("sum", "the model failed after it"),
    ],
)
def test_a_path_around_the_module_is_refused(where: str, what: str) -> None:
    objective, ready = mixed(text())
    with pytest.raises(JobError, match=rf"^hidden_mixup\.at is 'embedding', which not every path.*{what}"):
        objective.forward(Aside(where), ready)


def test_a_module_that_is_called_twice_or_gives_no_tensor_is_refused() -> None:
    objective, ready = mixed(text())
    with pytest.raises(
        JobError, match=r"^hidden_mixup\.at is 'embedding', whose output for 24 samples is torch.float64 \(1, 5, 6\)"
    ):
        objective.forward(Aside("twice"), ready)
    recurrent = nn.Sequential(nn.Embedding(20, 4), nn.GRU(4, 4, batch_first=True))
    objective, ready = mixed(text(), "1")
    with pytest.raises(JobError, match=r"whose output for 24 samples is tuple"):
        objective.forward(recurrent, ready)


class Wrong(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.embedding = nn.Linear(3, 3), nn.ReLU()

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.embedding(self.first(tokens.float()))
        return scores


def test_an_error_of_the_model_itself_is_passed_on() -> None:
    objective, ready = mixed(text())
    with pytest.raises(RuntimeError, match="mat1"):
        objective.forward(Wrong(), ready)


def test_a_name_must_match_one_module() -> None:
    for at, what in (("embeding", "no module.*Did you mean 'embedding'"), ("blocks.*", "6 modules .*in full")):
        objective, ready = mixed(text(), at)
        with pytest.raises(JobError, match=rf"^hidden_mixup\.at is '{at}', which matches {what}"):
            objective.forward(Reader(), ready)


def test_a_teacher_is_refused_with_a_cited_reason_and_mixup_may_stand_beside_it() -> None:
    assert "arXiv" in lookup("hidden_mixup").conflicts["distillation"]
    assert Distillation.technique_id in lookup("hidden_mixup").conflicts  # type: ignore[attr-defined]
    assert Mixup.technique_id not in lookup("hidden_mixup").conflicts  # type: ignore[attr-defined]


def test_settings_out_of_range_are_refused_and_classes_filled_in() -> None:
    usual = HiddenMixup(at="embedding")
    assert (usual.alpha, usual.probability, usual.num_classes) == (0.2, 1.0, None)
    facts = DataFacts(8, 1, text(1), num_outputs=3)
    assert usual.completed(facts)["num_classes"][0] == 3
    with pytest.raises(JobError, match=r"^hidden_mixup got integer labels"):
        usual.on_batch(text(), Rng(0))
    for settings in ({"at": ""}, {"at": "x", "alpha": math.nan}, {"at": "x", "probability": 1.1}, {"at": "x", "num_classes": 0}):
        name = list(settings)[-1]
        with pytest.raises(JobError, match=rf"^hidden_mixup\.{name} is"):
            HiddenMixup(**settings)  # type: ignore[arg-type]
