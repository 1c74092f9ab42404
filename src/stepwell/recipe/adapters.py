"""Low-rank adapters as files: saved and loaded in the format of the PEFT library, and merged into plain weights."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stepwell.core.errors import JobError, RunFolderError, StepwellError, nearest
from stepwell.core.modules.low_rank import (
    ADAPTABLE,
    Adapter,
    adapted_layers,
    adapter_of,
    attach_,
    detach_,
    freeze_around_,
    merge_,
)
from stepwell.core.randomness import Rng
from stepwell.engine.records.storage import make_folder, read_json, write_bytes
from stepwell.engine.records.tensors import read_tensors

__all__ = ["load_adapter", "merge_adapter", "save_adapter"]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_LARGEST_RANK = 65_536
_PREFIX = "base_model.model."
# Ours -> PEFT's, of linear layers and convolutions, and of embeddings.
_SUFFIXES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}
_EMBEDDING_SUFFIXES = {"lora_a": "lora_embedding_A", "lora_b": "lora_embedding_B"}
# Settings that change what an adapter computes: only these values are understood.
_UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "target_parameters": (None, []),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
}


def save_adapter(model: nn.Module, folder: str | Path) -> None:
    """Write a model's adapters, and the modules that were trained beside them, as PEFT would.

    Args:
        model: with adapters (`stepwell.techniques.Lora`).
        folder: made where it isn't there; gets adapter_model.safetensors and adapter_config.json.

    Raises:
        JobError: the model has no adapters, or ones of several ranks.

    >>> import tempfile
    >>> from stepwell.techniques import Lora
    >>> model = Lora(rank=1)(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), Rng(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(model, folder)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['adapter_config.json', 'adapter_model.safetensors']
    """
    from safetensors.torch import save

    layers = _require_adapters(model)
    settings = {adapter for layer in layers.values() if (adapter := adapter_of(layer)) is not None}
    if len(settings) != 1:
        raise JobError(
            "the model has adapters of several ranks", expected="one rank and scaling", fix="Merge them: merge_adapter(model)"
        )
    tensors = {}
    for name, layer in layers.items():
        for ours, theirs in _suffixes(layer).items():
            tensors[f"{_PREFIX}{name}.{theirs}"] = layer.get_parameter(ours)
    whole = _trained_beside(model)
    for name in whole:
        for key, value in model.get_submodule(name).state_dict().items():
            tensors[f"{_PREFIX}{name}.{key}"] = value
    place = Path(folder)
    make_folder(place)
    write_bytes(place / WEIGHTS, save({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}))
    config = _config(next(iter(settings)), list(layers), whole)
    write_bytes(place / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_adapter(model: nn.Module, folder: str | Path) -> nn.Module:
    """Put saved adapters on a model, in place: from `save_adapter` or from PEFT (LoRA without its variants).

    What was trained would train on; everything else is frozen.

    Args:
        model: the base model, with the weights that the adapters were trained on.
        folder: with adapter_model.safetensors and adapter_config.json.

    Raises:
        RunFolderError: the files aren't there or damaged.
        JobError: layers that the model doesn't have, other shapes, a model with adapters, or a variant of LoRA.
    """
    config, tensors = _read(Path(folder))
    rank, alpha = config["r"], config["lora_alpha"]
    scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    found: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name, part = _ours(key)
        if part:
            found.setdefault(name, {})[part] = value
        else:
            whole[name] = value
    modules = dict(model.named_modules())
    for name in found:
        if not isinstance(modules.get(name), ADAPTABLE):
            known = [other for other, module in modules.items() if isinstance(module, ADAPTABLE)]
            raise JobError(
                f"the adapter is for a layer {name!r}, which the model doesn't have",
                expected="the model that the adapter was trained on",
                fix=nearest(name, known),
            )
    adapter = Adapter(rank, scaling, float(config.get("lora_dropout") or 0.0))
    wanted = {f"{name}.{part}": value for name, parts in found.items() for part, value in parts.items()} | whole
    attached = []
    try:
        for name in found:
            attach_(modules[name], adapter, Rng(0))
            attached.append(modules[name])
        state = model.state_dict()
        for name, value in wanted.items():
            _require_fit(name, value, state)
    except JobError:
        for layer in attached:  # half an adapter would be worse than none
            detach_(layer)
        raise
    with torch.no_grad():
        for name, value in wanted.items():
            state[name].copy_(value)
    parameters = dict(model.named_parameters())
    freeze_around_(model, [name for name in wanted if name in parameters])
    return model


def _require_fit(name: str, value: Tensor, state: dict[str, Tensor]) -> None:
    if name not in state or state[name].shape != value.shape:
        has = f"one of {tuple(state[name].shape)}" if name in state else "none"
        raise JobError(
            f"the adapter has a tensor {name} of shape {tuple(value.shape)}, the model has {has}",
            expected="the model that the adapter was trained on",
            fix="Build the model as it was, its head included",
        )


def merge_adapter(model: nn.Module) -> nn.Module:
    """Add every adapter to its layer's weight, in place: a plain model of the same module types, as fast as before.

    Raises:
        JobError: the model has no adapters.

    >>> from stepwell.techniques import Lora
    >>> model = Lora(rank=1)(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), Rng(0))
    >>> list(merge_adapter(model).state_dict())
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    for layer in _require_adapters(model).values():
        merge_(layer)
    return model


def _require_adapters(model: nn.Module) -> dict[str, nn.Module]:
    layers = adapted_layers(model)
    if not layers:
        raise JobError(
            "the model has no adapters",
            expected="a model that lora was applied to",
            fix="Train it with lora, or load_adapter(model, folder)",
        )
    return layers


def _suffixes(layer: nn.Module) -> dict[str, str]:
    return _EMBEDDING_SUFFIXES if isinstance(layer, nn.Embedding) else _SUFFIXES


def _ours(key: str) -> tuple[str, str | None]:
    """PEFT's name of a tensor -> the layer and which of its two matrices, or a tensor of the model itself."""
    bare = key.removeprefix(_PREFIX)
    for part, suffix in [*_SUFFIXES.items(), *_EMBEDDING_SUFFIXES.items()]:
        if bare.endswith("." + suffix):
            return bare.removesuffix("." + suffix), part
    return bare, None


def _trained_beside(model: nn.Module) -> list[str]:
    """Modules with parameters of their own that train without being an adapter's."""
    return [
        name
        for name, module in model.named_modules()
        if any(p.requires_grad and not key.startswith("lora_") for key, p in module.named_parameters(recurse=False))
    ]


def _config(adapter: Adapter, targets: list[str], whole: list[str]) -> dict[str, Any]:
    alpha = adapter.scaling * adapter.rank
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": adapter.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": adapter.dropout,
        # One expression that matches whole names: in a list, "0" would also mean "3.0".
        "target_modules": "|".join(re.escape(name) for name in targets),
        "modules_to_save": whole or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = read_json(folder / CONFIG)
        tensors = read_tensors(folder / WEIGHTS)
        rank, dropout = config["r"], config.get("lora_dropout") or 0.0
        scaling = float(config["lora_alpha"] / rank)
        if not isinstance(rank, int) or not 1 <= rank <= _LARGEST_RANK or not math.isfinite(scaling):
            raise ValueError(f"rank {str(rank)[:40]} with alpha {str(config['lora_alpha'])[:40]}")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ValueError(f"lora_dropout is {str(dropout)[:40]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        told = error.what if isinstance(error, StepwellError) else str(error)
        raise RunFolderError(
            f"{folder} holds no adapter that can be read: {told}",
            expected=f"{WEIGHTS} and {CONFIG} as save_adapter or PEFT wrote them",
            fix="Give the folder of an adapter",
        ) from error
    for key, values in _UNDERSTOOD.items():
        if key in config and config[key] not in values:
            raise JobError(
                f"the adapter was made with {key}: {config[key]!r}",
                expected="plain LoRA",
                fix="Merge it with the library that made it",
            )
    if config.get("peft_type") != "LORA":
        raise JobError(
            f"the adapter is a {config.get('peft_type')}", expected="LORA", fix="Merge it with the library that made it"
        )
    return config, tensors
