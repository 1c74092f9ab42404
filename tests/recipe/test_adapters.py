"""Adapters as files: PEFT's own are read with PEFT's outputs, ours are written as PEFT writes, merging leaves plain weights.

`peft_adapter/` was made by PEFT 0.21 (`python -m benchmarks.peft_adapters tests/recipe/peft_adapter`, which also loads
ours there): the base model's weights, the adapter, inputs and what PEFT's model says about them.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stepwell.core.errors import JobError, RunFolderError
from stepwell.core.modules.low_rank import adapted_layers, adapter_of
from stepwell.core.randomness import Rng
from stepwell.recipe.adapters import load_adapter, merge_adapter, save_adapter
from stepwell.techniques.model.lora import Lora

MADE_BY_PEFT = Path(__file__).parent / "peft_adapter"
TARGETS = ["emb", "conv", "line", "fc"]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(7, 6)
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.line = nn.Conv1d(4, 3, 2)
        self.fc = nn.Linear(27, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, ids: Tensor, pixels: Tensor) -> Tensor:
        seen = self.line(self.conv(pixels).flatten(2)[:, :, :4]).flatten(1)
        outputs: Tensor = self.head(torch.tanh(self.fc(torch.cat([self.emb(ids).flatten(1), seen], 1))))
        return outputs


def base() -> Mixed:
    model = Mixed().eval()
    model.load_state_dict(load_file(MADE_BY_PEFT / "base.safetensors"))
    return model


def expected() -> dict[str, Tensor]:
    return load_file(MADE_BY_PEFT / "expected.safetensors")


def says(model: nn.Module) -> Tensor:
    given = expected()
    with torch.no_grad():
        outputs: Tensor = model.eval()(given["ids"], given["pixels"])
    return outputs


def ours(**settings: Any) -> Mixed:
    """A model with adapters as after training: none of their numbers is 0."""
    model = base()
    Lora(**{"rank": 3, "alpha": 5.0, "targets": TARGETS, **settings})(model, Rng(1))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3, generator=draw)
    return model


def changed(folder: Path, **settings: Any) -> Path:
    """PEFT's adapter with another configuration."""
    shutil.copytree(MADE_BY_PEFT, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return folder


def test_an_adapter_of_peft_gives_the_outputs_that_it_gave_there() -> None:
    model = load_adapter(base(), MADE_BY_PEFT)
    assert not torch.allclose(says(base()), expected()["outputs"], atol=0.01)
    torch.testing.assert_close(says(model), expected()["outputs"], rtol=0, atol=1e-6)
    assert list(adapted_layers(model)) == TARGETS
    adapter = adapter_of(model.fc)
    assert adapter is not None
    assert (adapter.rank, adapter.scaling, adapter.dropout) == (3, pytest.approx(5 / 3), 0.05)


def test_merged_it_gives_the_same_outputs_from_plain_modules() -> None:
    model = load_adapter(base(), MADE_BY_PEFT)
    assert merge_adapter(model) is model
    torch.testing.assert_close(says(model), expected()["outputs"], rtol=0, atol=1e-5)
    assert list(model.state_dict()) == list(base().state_dict())
    assert [type(module) for module in model.modules()] == [type(module) for module in base().modules()]


def test_ours_are_written_under_the_names_and_shapes_that_peft_writes(tmp_path: Path) -> None:
    save_adapter(ours(), tmp_path)
    theirs, written = (load_file(folder / "adapter_model.safetensors") for folder in (MADE_BY_PEFT, tmp_path))
    assert {name: tensor.shape for name, tensor in written.items()} == {name: tensor.shape for name, tensor in theirs.items()}
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in (MADE_BY_PEFT, tmp_path)]
    for key in ("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "modules_to_save", "inference_mode"):
        assert configs[1][key] == configs[0][key], key
    assert set(configs[1]) <= set(configs[0])
    assert configs[1]["target_modules"] == "emb|conv|line|fc"


def test_names_of_targets_are_matched_whole_and_dots_stand_for_themselves(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2), nn.Linear(2, 2))
    save_adapter(Lora(rank=1, targets=["0", "1"])(model, Rng(0)), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == r"0\.0|1"


def test_what_is_saved_loads_to_the_same_bits(tmp_path: Path) -> None:
    model = ours()
    save_adapter(model, tmp_path / "made" / "anew")
    again = load_adapter(base(), tmp_path / "made" / "anew")
    assert torch.equal(says(model), says(again))
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in again.named_parameters() if p.requires_grad
    }
    save_adapter(again, tmp_path / "second")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "made" / "anew" / name).read_bytes()


def test_without_other_trained_modules_nothing_but_adapters_is_saved(tmp_path: Path) -> None:
    save_adapter(ours(train_also=[]), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] is None
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


def test_statistics_of_a_batch_norm_that_was_trained_travel_with_the_adapter(tmp_path: Path) -> None:
    model = Lora(rank=1, train_also=["1"])(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), Rng(0))
    save_adapter(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {"base_model.model.1.weight", "base_model.model.1.running_mean"} <= set(saved)


def test_rank_stabilised_scaling_is_understood(tmp_path: Path) -> None:
    adapter = adapter_of(load_adapter(base(), changed(tmp_path / "a", use_rslora=True)).fc)
    assert adapter is not None
    assert adapter.scaling == pytest.approx(5 / math.sqrt(3))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"rank_pattern": {"fc": 4}},
        {"alpha_pattern": {"fc": 4}},
        {"target_parameters": ["fc.weight"]},
        {"layer_replication": [[0, 1]]},
        {"trainable_token_indices": [1]},
    ],
)
def test_variants_that_compute_something_else_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(JobError, match=f"the adapter was made with {next(iter(settings))}"):
        load_adapter(base(), changed(tmp_path / "a", **settings))


def test_another_kind_of_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="the adapter is a IA3"):
        load_adapter(base(), changed(tmp_path / "a", peft_type="IA3"))


def test_a_model_that_does_not_fit_is_refused_and_left_as_it_was() -> None:
    smaller = base()
    smaller.convolution = smaller.conv
    del smaller.conv
    with pytest.raises(JobError, match="the adapter is for a layer 'conv'") as refusal:
        load_adapter(smaller, MADE_BY_PEFT)
    assert "Did you mean 'convolution'" in refusal.value.fix
    other = base()
    other.head = nn.Linear(5, 3)
    before = list(other.state_dict())
    with pytest.raises(JobError, match=r"head\.(bias|weight) of shape \(2.*\), the model has one of \(3.*\)"):
        load_adapter(other, MADE_BY_PEFT)
    assert list(other.state_dict()) == before
    assert not any(module._forward_hooks for module in other.modules())
    wider = base()
    wider.fc = nn.Linear(28, 5)
    with pytest.raises(JobError, match=r"fc.lora_a of shape \(3, 27\), the model has one of \(3, 28\)"):
        load_adapter(wider, MADE_BY_PEFT)


@pytest.mark.parametrize("harm", ["no folder", "no weights", "bad weights", "bad config", "no rank", "rank 0"])
def test_folders_without_a_whole_adapter_are_refused(harm: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    if harm != "no folder":
        changed(folder, **{"r": 0} if harm == "rank 0" else {})
    if harm == "no weights":
        (folder / "adapter_model.safetensors").unlink()
    if harm == "bad weights":
        (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    if harm == "bad config":
        (folder / "adapter_config.json").write_text("[")
    if harm == "no rank":
        (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds no adapter that can be read"):
        load_adapter(base(), folder)


def test_a_model_without_adapters_has_nothing_to_save_or_merge(tmp_path: Path) -> None:
    for act in (merge_adapter, lambda model: save_adapter(model, tmp_path)):
        with pytest.raises(JobError, match="the model has no adapters"):
            act(base())


def test_adapters_of_several_ranks_are_not_saved_as_one(tmp_path: Path) -> None:
    model = Lora(rank=1, targets=["fc"])(base(), Rng(0))
    Lora(rank=2, targets=["line"])(model, Rng(0))
    with pytest.raises(JobError, match="adapters of several ranks"):
        save_adapter(model, tmp_path)
