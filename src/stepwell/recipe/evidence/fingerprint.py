"""What a run's bits depend on beside its job and its data: versions, processor, threads, modes, and a numeric fingerprint.

Two runs of one job have the same bytes where everything here is equal that affects bits. The environment's variables are
taken from a list of names, never whole: what else is set there is nobody's business.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from stepwell.recipe.values.secrets import redacted

# Each changes which code computes, or how it is split up. Anything else in the environment stays unread.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
)
# Where a difference is no reason for other bits: counts of what is there but not used, and places.
_HARMLESS = ("cpu.processors", "packages.sha256", "system.release", "threads.inter", "variables.PYTHONHASHSEED")
# Packages that compute values which reach a batch, a weight or a metric.
_COMPUTING = ("stepwell", "torch", "numpy", "pandas", "scipy", "scikit-learn", "pillow", "torchmetrics", "torchvision")
_ANY_BITS = ("accelerator", "cpu", "modes", "numeric", "stepwell", "system", "threads", "torch", "variables")


@dataclass(frozen=True)
class Difference:
    """One value of the environment that isn't what it was.

    Args:
        path: names joined by dots, "torch.version".
        before, now: its values; None where it is not there.
        affects: "bits" where it can change what is computed, "nothing known" where no case is known.
    """

    path: str
    before: Any
    now: Any
    affects: Literal["bits", "nothing known"]


def environment() -> dict[str, Any]:
    """Where this process computes, as plain values. The global generators stay as they are.

    >>> found = environment()
    >>> found["torch"]["version"] == torch.__version__, len(found["numeric"])
    (True, 64)
    """
    return {
        "stepwell": {"source": _own_source()},
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "system": {"name": platform.system(), "machine": platform.machine(), "release": platform.release(), "libc": _libc()},
        "torch": _torch(),
        "cpu": dict(_processor()),
        "threads": {"intra": torch.get_num_threads(), "inter": torch.get_num_interop_threads()},
        "variables": {name: redacted(os.environ[name][:200]) for name in VARIABLES if name in os.environ},
        "modes": _modes(),
        "accelerator": _accelerator(),
        "packages": {"sha256": _lock_hash(), "installed": dict(_installed())},
        "numeric": numeric_fingerprint(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    """What is not the same in two environments, those that affect bits first.

    Args:
        before, now: as `environment` returns them; parts that an older version didn't record are None there.

    >>> differences({"threads": {"intra": 1}}, {"threads": {"intra": 2}})
    [Difference(path='threads.intra', before=1, now=2, affects='bits')]
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found = [
        Difference(path, old.get(path), new.get(path), _affects(path))
        for path in sorted({**old, **new})
        if old.get(path) != new.get(path)
    ]
    return sorted(found, key=lambda item: (item.affects, item.path == "numeric"))  # causes before what they show in


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif tree is not None:
        yield path, tree


def _affects(path: str) -> Literal["bits", "nothing known"]:
    first, _, rest = path.partition(".")
    package = rest.partition(".")[2] if rest.startswith("installed.") else ""
    computes = package in _COMPUTING or (first in _ANY_BITS and path not in _HARMLESS)
    return "bits" if computes else "nothing known"


def numeric_fingerprint() -> str:
    """SHA-256 of the bytes of some small computations: equal on machines that compute alike, as far as these can tell.

    Drawing, exp, softmax, products of matrices, convolutions and a weights' gradient, layer norm and sorting, in fp32 on
    the CPU, with a generator of their own. Other threads, instruction sets and library versions show here, most of them.
    """
    digest = hashlib.sha256()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for value in _computations():
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _computations() -> Iterator[Tensor]:
    generator = torch.Generator("cpu").manual_seed(20240229)

    def drawn(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")

    # Each of these differs in its bits under another instruction set, thread count or library; together they tell them all.
    images, filters, rows = drawn(8, 3, 12, 12), drawn(8, 3, 3, 3), drawn(96, 160)
    yield rows
    yield torch.exp(rows)
    yield rows @ drawn(160, 64)
    yield functional.linear(rows[:1], drawn(64, 160))  # one row alone is computed otherwise than many
    yield functional.log_softmax(rows, 1)
    yield (out := functional.conv2d(images, filters, padding=1))
    yield functional.conv2d(drawn(8, 16, 12, 12), drawn(32, 16, 3, 3), padding=1)
    yield conv2d_weight(images, list(filters.shape), out, padding=1)  # type: ignore[no-untyped-call]
    yield functional.layer_norm(rows, (160,))
    yield torch.sort(rows.flatten()).values
    yield rows.sum()


@cache
def _own_source() -> str:
    """A hash over stepwell's own files: a changed working copy has the same version number, and other bits perhaps."""
    digest, root = hashlib.sha256(), Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _torch() -> dict[str, Any]:
    info = torch.__config__.parallel_info()

    def line(pattern: str) -> str | None:
        match = re.search(pattern, info)
        return match.group(1).strip() if match else None

    return {
        "version": torch.__version__,
        "git": torch.version.git_version,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "backend": line(r"parallel backend: (.+)"),
        "openmp": line(r"OpenMP (\d+)"),
        "mkl": line(r"Math Kernel Library Version (\S+)"),
        "onednn": line(r"MKL-DNN (.+)"),
    }


def _modes() -> dict[str, Any]:
    matmul = getattr(getattr(torch.backends, "cuda", None), "matmul", None)
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "default_dtype": str(torch.get_default_dtype()),
        "onednn": bool(torch.backends.mkldnn.enabled),
        "cudnn_deterministic": bool(torch.backends.cudnn.deterministic),
        "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
        "cudnn_tf32": bool(torch.backends.cudnn.allow_tf32),
        "matmul_tf32": bool(getattr(matmul, "allow_tf32", False)),
    }


def _accelerator() -> dict[str, Any] | None:
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return {
            "devices": [f"{item.name}, {item.major}.{item.minor}, {item.multi_processor_count} processors" for item in devices],
            "driver": _first_line(Path("/sys/module/nvidia/version")),
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "nccl": _nccl() if torch.distributed.is_nccl_available() else None,
        }
    return {"devices": ["mps"]} if torch.backends.mps.is_available() else None


def _nccl() -> str:
    return ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]


@cache
def _processor() -> tuple[tuple[str, Any], ...]:
    text = _text(Path("/proc/cpuinfo"))

    def first(*names: str) -> str | None:
        match = re.search(rf"^(?:{'|'.join(names)})\s*:\s*(.+)$", text, re.MULTILINE)
        return match.group(1).strip() if match else None

    flags = " ".join(sorted((first("flags", "Features") or "").split()))
    named = [first("model name", "Hardware", "CPU implementer") or platform.processor() or platform.machine()]
    named += [f"{name} {value}" for name in ("cpu family", "model", "stepping", "CPU part") if (value := first(name))]
    return (
        ("model", ", ".join(named)),
        ("flags", hashlib.sha256(flags.encode()).hexdigest() if flags else None),
        ("processors", os.cpu_count()),
    )


@cache
def _libc() -> str:
    return " ".join(platform.libc_ver()).strip()  # its exp and log serve numpy and the host's own arithmetic


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Every distribution that is installed here, name to version, the first found of a name, as the import would."""
    found: dict[str, str] = {}
    for item in metadata.distributions():
        name = item.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), str(item.version))
    return tuple(sorted(found.items()))


def _lock_hash() -> str:
    return hashlib.sha256("".join(f"{name}=={version}\n" for name, version in _installed()).encode()).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first_line(path: Path) -> str | None:
    return _text(path).partition("\n")[0].strip() or None
