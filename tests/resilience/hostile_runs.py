"""Run folders from a stranger: JSON and safetensors files in them replaced, with checksums that fit where there are some."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile_data import Case, Files, safetensors, weights
from hostile_pickles import CONTAINERS, PAYLOADS

DEEP = b"[" * 200_000
VALUES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"12",
    "a word": b'"os.system"',
    "deep lists": DEEP,
    "deep mappings": b'{"a":' * 100_000,
    "a closed depth": b"[" * 50_000 + b"]" * 50_000,
    "a long number": b'{"step": ' + b"9" * 5_000 + b"}",
    "bare NaN": b'{"step": NaN, "schema": Infinity}',
    "a key twice": b'{"schema": 2, "schema": 1}',
    "no text": b"\xff\xfe\x00{",
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "60 MB of spaces": b"{}" + b" " * (60 << 20),
    "80 MB of spaces": b"{}" + b" " * (80 << 20),
    "100,000 keys": b"{" + b",".join(b'"k%d": 1' % n for n in range(100_000)) + b"}",
    "code": b'{"__reduce__": ["os.system", ["touch canary"]], "_target_": "os.system", "python": "os.system"}',
    "a pickle": PAYLOADS["protocol 2 REDUCE"],
    "a torch archive": CONTAINERS["archive"](PAYLOADS["protocol 2 REDUCE"]),
    "half of JSON": b'{"schema": 2, "st',
    "comments": b"/* x */ {}",
}
# Put in the place of single values of good files.
ODD: list[Any] = [
    *(None, True, -1, 0, 1.5, 10**30, "", "os.system", "__import__('os')", [], {}, [[]], ["os.system"], {"tensor": "nowhere"}),
    *({"python": "os.system"}, {"_target_": "os.system"}, "../../canary", "NaN", {"float": "os.system"}, "x" * 5000, [1] * 5000),
]


def checkpoint(state: bytes, tensors: bytes, *, step: Any = 8, schema: Any = 2, more: Files | None = None) -> Files:
    """A checkpoint whose sums all fit."""
    files = {"state.safetensors": tensors, "state.json": state} | (more or {})
    manifest = {
        "schema": schema,
        "step": step,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
        },
    }
    sealed = manifest | {"sha256": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}
    files["manifest.json"] = (json.dumps(sealed) + "\n").encode()
    return {f"checkpoints/step-8/{name}": content for name, content in files.items()}


def checkpoints() -> Iterator[tuple[str, Files, Case]]:
    case = {"kind": "checkpoint"}
    tensors = safetensors({"w": ("F32", [2], [0, 8])}, b"\0" * 8)
    for name, content in VALUES.items():
        yield f"state.json is {name}", checkpoint(content, tensors), case
        yield f"manifest.json is {name}", checkpoint(b"{}", tensors) | {"checkpoints/step-8/manifest.json": content}, case
    pointers = {
        "a tensor that isn't there": {"model": {"tensor": "nowhere"}},
        "a tensor that is a path": {"model": {"tensor": "../../../etc/passwd"}},
        "a tensor that is a list": {"model": {"tensor": ["w"]}},
        "a tensor that is itself": {"tensor": {"tensor": "w"}},
        "a float that is a word": {"model": {"float": "os.system"}},
        "a float that is a mapping": {"model": {"float": {"float": 1}}},
        "one tensor many times": {str(n): {"tensor": "w"} for n in range(50_000)},
        "names with dunders": {"__class__": {"__init__": {"__globals__": 1}}},
    }
    for name, value in pointers.items():
        yield f"state.json holds {name}", checkpoint(json.dumps(value).encode(), tensors), case
    for name, content in weights():
        yield f"state.safetensors is {name}", checkpoint(b"{}", content), case
    for step in (-1, "8", 1.5, None, 10**30, [8], {"a": 1}, True):
        yield f"the step is {step!r}", checkpoint(b"{}", tensors, step=step), case
    for schema in (0, 3, "2", None, [], 2.5, 10**30):
        yield f"the schema is {schema!r}", checkpoint(b"{}", tensors, schema=schema), case
    for name in ("../../../canary", "/etc/passwd", "sub/file", "x" * 300, "", ".", "..", "a\0b", "\u202e"):
        fake = checkpoint(b"{}", tensors, more={})
        manifest = {"schema": 2, "step": 8, "files": {name: {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}}}
        sealed = manifest | {"sha256": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}
        yield (
            f"a file called {name[:20]!r}",
            fake | {"checkpoints/step-8/manifest.json": (json.dumps(sealed) + "\n").encode()},
            case,
        )
    huge = {
        "schema": 2,
        "step": 8,
        "files": {"state.json": {"bytes": 1 << 60, "sha256": "0" * 64}, "state.safetensors": {"bytes": -1, "sha256": None}},
    }
    sealed = huge | {"sha256": hashlib.sha256(json.dumps(huge).encode()).hexdigest()}
    yield (
        "files of 2^60 bytes",
        checkpoint(b"{}", tensors) | {"checkpoints/step-8/manifest.json": (json.dumps(sealed) + "\n").encode()},
        case,
    )
    old = {"schema": 1, "sha256": {"../../../../etc/passwd": "0" * 64}}
    yield (
        "an old manifest with a path",
        checkpoint(b"{}", tensors) | {"checkpoints/step-8/manifest.json": json.dumps(old).encode()},
        case,
    )


def changed_values(content: bytes, number: int) -> Iterator[tuple[str, bytes]]:
    """Copies of a JSON file with one value replaced, `number` of them, spread over its places and the odd values."""
    tree = json.loads(content)
    places = list(_places(tree))
    for turn in range(number):
        place, value = places[turn * 7919 % len(places)], ODD[turn % len(ODD)]
        made = copy.deepcopy(tree)
        parent = made
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = value
        yield f"{'.'.join(map(str, place))} is {str(value)[:30]!r}", json.dumps(made).encode()


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def runs(good: Path) -> Iterator[tuple[str, Files, Case]]:
    """A finished run's folder with one file replaced."""
    files = {str(path.relative_to(good)): path.read_bytes() for path in sorted(good.rglob("*")) if path.is_file()}
    whole = {
        f"run/{name}": content
        for name, content in files.items()
        if not name.endswith((".png", ".html")) and "checkpoints" not in name
    }

    def with_(name: str, content: bytes) -> Files:
        return whole | {f"run/{name}": content}

    for name, content in VALUES.items():
        yield f"model.json is {name}", with_("model/model.json", content), {"kind": "delivered"}
        yield f"the manifest is {name}", with_("manifest.json", content), {"kind": "record"}
        yield f"the report's manifest is {name}", with_("manifest.json", content), {"kind": "report"}
        yield f"result.json is {name}", with_("result.json", content), {"kind": "report"}
        yield f"events.jsonl is {name}", with_("events.jsonl", content + b"\n"), {"kind": "report"}
        yield f"job.yaml is {name}", with_("job.yaml", content), {"kind": "record"}
        yield f"the report's job.yaml is {name}", with_("job.yaml", content), {"kind": "report"}
    for name, content in changed_values(files["model/model.json"], 160):
        yield f"in model.json {name}", with_("model/model.json", content), {"kind": "delivered"}
    for name, content in changed_values(files["model/model.json"], 80):
        settings = {"kind": "predicted", "file": "new.csv"}
        yield f"predicting, in model.json {name}", with_("model/model.json", content) | {"new.csv": b"a,b\n1,2\n"}, settings
    for name, content in changed_values(files["result.json"], 100):
        yield f"in result.json {name}", with_("result.json", content), {"kind": "report"}
    for name, content in changed_values(files["manifest.json"], 40):
        yield f"in manifest.json {name}", with_("manifest.json", content), {"kind": "report"}
        yield f"for a verb, in manifest.json {name}", with_("manifest.json", content), {"kind": "record"}
    for name, content in weights():
        yield f"the delivered weights are {name}", with_("model/model.safetensors", content), {"kind": "delivered"}
    for wrong, kind in (("F64", 8), ("I64", 8), ("F32", 4)):
        changed = safetensors({"0.weight": (wrong, [1], [0, kind])}, b"\xff" * kind)
        yield f"the delivered weights are one {wrong}", with_("model/model.safetensors", changed), {"kind": "delivered"}
    event = {"kind": "saved", "step": 1}
    for value in ODD:
        for key in ("kind", "step", "detail", "x"):
            line = json.dumps(event | {key: value}).encode() + b"\n"
            yield f"an event's {key} is {str(value)[:30]!r}", with_("events.jsonl", line * 3), {"kind": "report"}
    yield "100,000 events", with_("events.jsonl", json.dumps(event).encode() + b"\n" + b"{}\n" * 100_000), {"kind": "report"}
    yield "events of one long line", with_("events.jsonl", b"{" * (20 << 20)), {"kind": "report"}


CONFIG = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "lora_dropout": 0.0, "target_modules": "0", "bias": "none"}
_LAYER = "base_model.model.0.lora_{}.weight"
MATRICES = {_LAYER.format("A"): ("F32", [1, 4], [0, 16]), _LAYER.format("B"): ("F32", [4, 1], [16, 32])}


def good_adapter() -> Files:
    """One that loads."""
    return _adapter(json.dumps(CONFIG).encode(), safetensors(MATRICES, b"\0" * 32))


def adapters() -> Iterator[tuple[str, Files, Case]]:
    """Adapters whose configuration or tensors are something else."""
    case, config, tensors = {"kind": "adapter"}, CONFIG, safetensors(MATRICES, b"\0" * 32)
    for label, content in VALUES.items():
        yield f"the configuration is {label}", _adapter(content, tensors), case
    for label, content in changed_values(json.dumps(config).encode(), 100):
        yield f"in the configuration {label}", _adapter(content, tensors), case
    for label, content in weights():
        yield f"the adapter's weights are {label}", _adapter(json.dumps(config).encode(), content), case
    for other in (
        "0.lora_A.weight",
        "base_model.model.__class__.lora_A.weight",
        "base_model.model...lora_A.weight",
        ".lora_A.weight",
    ):
        wrong = safetensors({other: ("F32", [1, 4], [0, 16])}, b"\0" * 16)
        yield f"an adapter for {other}", _adapter(json.dumps(config).encode(), wrong), case


def _adapter(config: bytes, tensors: bytes) -> Files:
    return {"adapter/adapter_config.json": config, "adapter/adapter_model.safetensors": tensors}
