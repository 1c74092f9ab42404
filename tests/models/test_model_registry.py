"""Models are found by name, built from a signature, and seeded; a user's own file may add some."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stepwell.core.batch import tree_map
from stepwell.core.errors import JobError
from stepwell.core.randomness import derive
from stepwell.core.signature import Signature
from stepwell.core.slots import call_model
from stepwell.models import registry

VECTOR = Signature("vector", (4,), 3)
TABLE = Signature("table", (2,), 1, (3, 5))
IMAGE = Signature("image", (1, 8, 8), 10)
SERIES = Signature("series", (5, 3), 1)
TOKENS = Signature("tokens", (6,), 11, vocab_size=11)
TEXTS = Signature("document", (6,), 2, vocab_size=11)
MASKS = Signature("mask", (3, 7, 8), 4)

EVERY = [
    ("mlp", VECTOR, {"norm": "batch"}, (3,)),
    ("mlp", TABLE, {}, (1,)),
    ("mlp", IMAGE, {}, (10,)),
    ("mlp", SERIES, {}, (1,)),
    ("convnet", IMAGE, {"channels": [4, 6]}, (10,)),
    ("resnet", IMAGE, {"channels": [4, 8]}, (10,)),
    ("resnet", IMAGE, {"channels": [4, 8], "order": "pre"}, (10,)),
    ("recurrent", SERIES, {"cell": "rnn"}, (1,)),
    ("recurrent", SERIES, {"cell": "lstm", "num_layers": 2, "dropout": 0.5}, (1,)),
    ("recurrent", TOKENS, {"cell": "gru"}, (6, 11)),
    ("transformer", TOKENS, {"num_layers": 2, "width": 8, "num_heads": 2}, (6, 11)),
    ("recurrent", TEXTS, {}, (2,)),
    ("transformer", TEXTS, {"num_layers": 2, "width": 8, "num_heads": 2}, (2,)),
    ("bag_of_words", TEXTS, {"hidden": [5]}, (2,)),
    ("segmenter", MASKS, {"channels": [4, 6]}, (4, 7, 8)),
]


@pytest.fixture
def own_models() -> Iterator[None]:
    """Whatever a test registers is forgotten again."""
    registry.names()
    before = dict(registry._ENTRIES)
    yield
    registry._ENTRIES.clear()
    registry._ENTRIES.update(before)


def inputs_of(signature: Signature, num_samples: int = 4) -> object:
    generator = torch.Generator().manual_seed(3)
    if signature.kind in ("tokens", "document"):
        return torch.randint(signature.vocab_size, (num_samples, *signature.shape), generator=generator)
    numeric = torch.randn(num_samples, *signature.shape, generator=generator)
    if signature.kind != "table":
        return numeric
    codes = [torch.randint(size, (num_samples,), generator=generator) for size in signature.cardinalities]
    return {"numeric": numeric, "categories": torch.stack(codes, dim=1)}


@pytest.mark.parametrize(("name", "signature", "settings", "shape"), EVERY)
def test_outputs_have_one_row_per_sample_and_the_signature_s_width(name, signature, settings, shape) -> None:
    net = registry.build(name, signature, settings, seed=0)
    assert call_model(net, inputs_of(signature)).shape == (4, *shape)


@pytest.mark.parametrize(("name", "signature", "settings", "shape"), EVERY)
def test_a_model_cast_to_float64_answers_in_float64(name, signature, settings, shape) -> None:
    net = registry.build(name, signature, settings, seed=0).double().eval()
    inputs = tree_map(lambda t: t.double() if t.is_floating_point() else t, inputs_of(signature))
    assert call_model(net, inputs).dtype == torch.float64


@pytest.mark.parametrize(("name", "signature", "settings", "shape"), EVERY)
def test_a_copy_and_a_rebuilt_model_with_its_state_answer_the_same_bits(name, signature, settings, shape) -> None:
    net = registry.build(name, signature, settings, seed=0).eval()
    rebuilt = registry.build(name, signature, settings, seed=1).eval()
    rebuilt.load_state_dict(net.state_dict())
    inputs = inputs_of(signature)
    assert torch.equal(call_model(net, inputs), call_model(copy.deepcopy(net), inputs))
    assert torch.equal(call_model(net, inputs), call_model(rebuilt, inputs))


@pytest.mark.parametrize(("name", "signature", "settings", "shape"), EVERY)
def test_every_parameter_gets_a_gradient_and_none_is_stored_twice(name, signature, settings, shape) -> None:
    net = registry.build(name, signature, settings, seed=0)
    call_model(net, inputs_of(signature)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    pointers = [tensor.data_ptr() for tensor in net.state_dict().values()]
    assert len(pointers) == len(set(pointers))


@pytest.mark.parametrize(("name", "signature", "settings", "shape"), EVERY)
def test_every_parameter_is_contiguous(name, signature, settings, shape) -> None:
    assert all(parameter.is_contiguous() for parameter in registry.build(name, signature, settings, seed=0).parameters())


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, same, other = (registry.build("mlp", VECTOR, {}, seed=seed).head.weight for seed in (5, 5, 6))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_weights_are_those_drawn_under_the_seed_derived_for_the_model() -> None:
    net = registry.build("mlp", VECTOR, {"hidden": []}, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(derive(5, "model"))
    expected = nn.Linear(4, 3)
    torch.set_rng_state(state)
    assert torch.equal(net.head.weight, expected.weight)
    assert torch.equal(net.head.bias, expected.bias)


def test_building_leaves_the_global_generator_where_it_was() -> None:
    before = torch.get_rng_state()
    registry.build("transformer", TOKENS, {}, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_settings_come_from_the_builder_s_signature_with_their_types() -> None:
    fields = registry.settings("mlp")
    assert list(fields) == ["hidden", "activation", "norm", "dropout", "max_embedding_width"]
    assert fields["hidden"].type == list[int]
    assert fields["hidden"].default == [128, 64]
    assert fields["dropout"].type is float


def test_changing_a_returned_default_changes_no_later_model() -> None:
    registry.settings("mlp")["hidden"].default.append(7)
    assert registry.settings("mlp")["hidden"].default == [128, 64]


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(JobError, match=r"unknown model 'convnt'.*Did you mean 'convnet'"):
        registry.build("convnt", IMAGE, {}, seed=0)


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(JobError, match=r"has no setting 'hiden'.*Did you mean 'hidden'"):
        registry.build("mlp", VECTOR, {"hiden": [3]}, seed=0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"hidden": 3}, "a list of whole numbers"),
        ({"hidden": [3.0]}, "a list of whole numbers"),
        ({"hidden": [0]}, "whole numbers above 0"),
        ({"dropout": "0.5"}, "a number"),
        ({"dropout": True}, "a number"),
        ({"dropout": 1.0}, "a number in \\[0, 1\\)"),
        ({"activation": "swish"}, "one of relu, gelu, silu, tanh"),
    ],
)
def test_a_setting_of_the_wrong_type_or_range_is_refused(settings, expected) -> None:
    with pytest.raises(JobError, match=f"model.{next(iter(settings))} is .*expected {expected}"):
        registry.build("mlp", VECTOR, settings, seed=0)


def test_a_tuple_is_taken_for_a_list() -> None:
    assert registry.build("mlp", VECTOR, {"hidden": (5,)}, seed=0).head.in_features == 5


def test_a_convnet_on_a_table_is_refused_with_the_models_that_can_take_one() -> None:
    with pytest.raises(
        JobError, match=r"'convnet' can't take table data; expected image data. Models that take table data:.*mlp"
    ):
        registry.build("convnet", TABLE, {}, seed=0)


def test_images_too_small_to_be_halved_are_refused() -> None:
    with pytest.raises(JobError, match="can't halve images of 4 x 8 pixels; expected images of at least 8 x 8 pixels"):
        registry.build("convnet", Signature("image", (1, 4, 8), 2), {}, seed=0)


OWN = """
from torch import nn
from stepwell.core.signature import Signature
from stepwell.models import model

@model("own_linear", kinds=("vector",))
def own_linear(signature: Signature, *, bias: bool = True) -> nn.Module:
    return nn.Linear(signature.shape[0], signature.num_outputs, bias=bias)
"""


def test_a_user_s_file_adds_its_models(tmp_path: Path, own_models: None) -> None:
    path = tmp_path / "my_models.py"
    path.write_text(OWN)
    assert registry.import_file(path) == ["own_linear"]
    net = registry.build("own_linear", VECTOR, {"bias": False}, seed=0)
    assert net(torch.ones(2, 4)).shape == (2, 3)
    assert net.bias is None


def test_a_user_s_file_can_be_imported_again_after_a_change(tmp_path: Path, own_models: None) -> None:
    path = tmp_path / "my_models.py"
    path.write_text(OWN)
    registry.import_file(path)
    path.write_text(OWN.replace("bias: bool = True", "bias: bool = False"))
    assert registry.import_file(path) == ["own_linear"]
    assert registry.settings("own_linear")["bias"].default is False
    assert [entry.name for entry in tmp_path.iterdir()] == ["my_models.py"]


def test_a_user_s_file_may_register_a_technique_only(tmp_path: Path, own_models: None) -> None:
    path = tmp_path / "my_techniques.py"
    path.write_text(
        "from stepwell.core.catalog import technique\n"
        "@technique(id='own_grad', slot='grad', paper='none')\n"
        "class OwnGrad:\n    '''Nothing.'''\n    def __call__(self, gradients): return {}\n"
    )
    from stepwell.core import catalog

    catalog.discover()
    before = dict(catalog._RECORDS)
    try:
        assert registry.import_file(path) == []
    finally:
        catalog._RECORDS.clear()
        catalog._RECORDS.update(before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "registers nothing; expected at least one model or technique"),
        ("x = 1\nx.y\n", r"my_models.py:2: .*raised AttributeError while it was imported"),
        ("def f(:\n", r"my_models.py:1: .*raised SyntaxError"),
        ("raise SystemExit(3)\n", r"my_models.py:1: .*raised SystemExit"),
        (OWN.replace('"own_linear"', '"mlp"'), "two models are called 'mlp'"),
        (
            OWN.replace("*, bias: bool = True", "bias=True").replace("bias=bias", ""),
            "setting 'bias' of model 'own_linear' has no type",
        ),
    ],
)
def test_a_bad_user_s_file_is_refused_and_leaves_the_known_models_alone(tmp_path: Path, own_models: None, text, message) -> None:
    before = registry.names()
    path = tmp_path / "my_models.py"
    path.write_text(text)
    with pytest.raises(JobError, match=message):
        registry.import_file(path)
    assert registry.names() == before


def test_what_a_file_registered_before_it_raised_is_forgotten(tmp_path: Path, own_models: None) -> None:
    path = tmp_path / "my_models.py"
    path.write_text(OWN + "\n1 / 0\n")
    with pytest.raises(JobError, match="raised ZeroDivisionError"):
        registry.import_file(path)
    assert "own_linear" not in registry.names()


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is missing"):
        registry.import_file(tmp_path / "none.py")
    with pytest.raises(JobError, match="is a folder"):
        registry.import_file(tmp_path)


def test_a_builder_that_returns_no_module_is_refused(own_models: None) -> None:
    @registry.model("own_nothing")
    def own_nothing(signature: Signature, *, width: int) -> Tensor:
        return torch.zeros(width)

    with pytest.raises(JobError, match=r"returned Tensor; expected a torch.nn.Module"):
        registry.build("own_nothing", VECTOR, {"width": 2}, seed=0)
    with pytest.raises(JobError, match=r"model.width is not set; expected a whole number"):
        registry.build("own_nothing", VECTOR, {}, seed=0)
