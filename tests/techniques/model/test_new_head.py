"""New head: the last linear layer is drawn anew at the width that the data needs, the rest keeps its bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from stepwell.core.batch import Batch
from stepwell.core.errors import JobError
from stepwell.core.facts import DataFacts
from stepwell.core.randomness import Rng
from stepwell.core.signature import Signature
from stepwell.models import build
from stepwell.techniques.model.new_head import NewHead, fresh_linear


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.Softmax(dim=1))


def facts(**known: Any) -> DataFacts:
    return DataFacts(num_samples=8, steps_per_epoch=1, sample=Batch(torch.zeros(1, 4)), **known)


def test_the_last_linear_layer_is_replaced_and_the_rest_keeps_its_bits() -> None:
    model = net()
    body, old = model[0].weight.detach().clone(), model[2].weight.detach().clone()
    assert NewHead(num_outputs=64)(model, Rng(0)) is model
    assert torch.equal(model[0].weight, body)
    assert not torch.equal(model[2].weight, old)
    NewHead(num_outputs=5)(model, Rng(0))
    assert model(torch.zeros(2, 4)).shape == (2, 5)


def test_weights_and_biases_are_drawn_as_torch_draws_them() -> None:
    head = fresh_linear(nn.Linear(100, 3), 2000, Rng(1))
    for parameter in head.parameters():
        values = parameter.detach()
        assert 0.099 < values.abs().max() <= 0.1
        assert abs(values.mean().item()) < 5 * (0.1 / 3**0.5) / values.numel() ** 0.5
        assert values.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


def test_draws_follow_from_the_seed_and_leave_torchs_generator_alone() -> None:
    state = torch.default_generator.get_state()
    one, same, other = (fresh_linear(nn.utils.skip_init(nn.Linear, 4, 2), 3, Rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.default_generator.get_state(), state)
    assert torch.equal(one.weight, same.weight)
    assert torch.equal(one.bias, same.bias)
    assert not torch.equal(one.weight, other.weight)


def test_type_mode_and_the_lack_of_a_bias_are_kept() -> None:
    head = fresh_linear(nn.Linear(4, 2, bias=False, dtype=torch.float64).eval(), 3, Rng(0))
    assert head.bias is None
    assert head.weight.dtype == torch.float64
    assert not head.training
    assert head.weight.requires_grad


def test_a_layer_can_be_named_and_the_model_itself_can_be_the_layer() -> None:
    model = nn.ModuleDict({"heads": nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])})
    NewHead(module="heads.0", num_outputs=7)(model, Rng(0))
    assert [head.out_features for head in model["heads"]] == [7, 2]
    assert NewHead(num_outputs=7)(nn.Linear(4, 2), Rng(0)).out_features == 7


def test_the_number_of_outputs_is_taken_from_the_data() -> None:
    assert NewHead().completed(facts(num_outputs=4, class_counts=[1, 2])) == {
        "num_outputs": (4, "the outputs that the data needs")
    }
    assert NewHead().completed(facts(class_counts=[1, 2, 5])) == {"num_outputs": (3, "the classes of the training data")}
    assert NewHead().completed(facts()) == {}
    assert NewHead(num_outputs=9).completed(facts(num_outputs=4)) == {}


def test_without_it_the_technique_says_what_is_missing() -> None:
    with pytest.raises(JobError, match=r"new_head.num_outputs is not set"):
        NewHead()(net(), Rng(0))


def test_a_name_that_is_no_module_is_refused_with_the_nearest() -> None:
    model = nn.ModuleDict({"classifier": nn.Linear(4, 2)})
    with pytest.raises(JobError, match=r"new_head.module is 'clasifier'") as refusal:
        NewHead(module="clasifier", num_outputs=2)(model, Rng(0))
    assert "Did you mean 'classifier'" in refusal.value.fix


def test_a_last_layer_that_is_not_linear_is_refused_with_those_that_are() -> None:
    model = nn.ModuleDict({"fc": nn.Linear(4, 2), "norm": nn.LayerNorm(2)})
    with pytest.raises(JobError, match="new_head would replace norm, a LayerNorm") as refusal:
        NewHead(num_outputs=2)(model, Rng(0))
    assert "fc" in refusal.value.fix
    with pytest.raises(JobError, match="new_head would replace norm, a LayerNorm"):
        NewHead(module="norm", num_outputs=2)(model, Rng(0))
    with pytest.raises(JobError, match="new_head would replace nothing"):
        NewHead(num_outputs=2)(nn.ReLU(), Rng(0))


def test_tied_weights_are_not_parted() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embedding"].weight
    with pytest.raises(JobError, match=r"new_head would part embedding.weight from head.weight"):
        NewHead(module="head", num_outputs=3)(model, Rng(0))


def test_the_models_of_stepwell_have_a_head_to_replace() -> None:
    for name, signature in (("mlp", Signature("vector", (4,), 3)), ("resnet", Signature("image", (1, 8, 8), 3))):
        model = NewHead(num_outputs=6)(build(name, signature, {}, seed=0), Rng(0))
        assert model(torch.zeros(2, *signature.shape)).shape == (2, 6)


@pytest.mark.parametrize("settings", [{"module": ""}, {"num_outputs": 0}, {"num_outputs": 1.5}, {"num_outputs": 10**8 + 1}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=f"new_head.{next(iter(settings))} is"):
        NewHead(**settings)
    assert [NewHead(num_outputs=number).num_outputs for number in (1, 10**8)] == [1, 10**8]
