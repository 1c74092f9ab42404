"""Mutated job texts: a Job or a StepwellError with its place, never another exception, and nothing is run or written."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwell.core.catalog import discover
from stepwell.core.errors import StepwellError
from stepwell.models import registry
from stepwell.presets import names
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.files import dump, parse_job
from stepwell.recipe.job import Job

GOOD = """\
data: {source: digits}
split: {validation: 0.2, test: 0.2, by: stratified}
model: {name: mlp, hidden: [128, 64]}
task: classification
recipe:
  preset: tabular_small
  objective: {name: cross_entropy}
  optimizer: {name: adamw, lr: 3e-3, betas: [0.9, 0.99]}
  schedule: {name: one_cycle}
  techniques:
    - {name: label_smoothing, epsilon: 0.1}
    - {name: mixup, alpha: 0.2}
    - ema
  batch_size: 64
  micro_batch_size: 32
budget: 60 epochs
seed: 0
device: auto
stop: {max_time: 10 minutes}
"""

WORDS = [
    *[
        "null",
        "~",
        "true",
        "no",
        ".inf",
        "-.nan",
        "1e999",
        "-1",
        "0",
        "0x10",
        "1_0",
        "'3'",
        '"',
        "'",
        "[",
        "]",
        "{",
        "}",
        "[]",
        "{}",
    ],
    *[
        "- ",
        ": ",
        "&a ",
        "*a",
        "!!python/name:os.system",
        "!x ",
        "<<: ",
        "? ",
        "|\n",
        ">\n",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "\t",
        "\n",
    ],
    *[
        "\ufeff",
        "\x00",
        "\u2028",
        "\U0001f600",
        "é",
        "name: ",
        "python: os.system",
        "source: ",
        "drives: a.b",
        "9" * 400,
        "x" * 2000,
    ],
    *[
        "full",
        "%",
        "5%",
        "1e300 epochs",
        "3 parsecs",
        "recipe: ",
        "  ",
        "\\ud800",
        '"\\UFFFFFFFF"',
        "path: /etc/passwd",
        "..",
        "#",
    ],
]

mutation = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "duplicate", "swap"]),
    st.floats(0, 1),
    st.floats(0, 0.2),
    st.sampled_from(WORDS),
)


def mutated(text: str, changes: list[tuple[str, float, float, str]]) -> str:
    for kind, at, length, word in changes:
        start = int(at * len(text))
        stop = min(len(text), start + max(1, int(length * 60)))
        if kind == "insert":
            text = text[:start] + word + text[start:]
        elif kind == "delete":
            text = text[:start] + text[stop:]
        elif kind == "replace":
            text = text[:start] + word + text[stop:]
        elif kind == "duplicate":
            text = text[:stop] + text[start:stop] + text[stop:]
        else:
            lines = text.split("\n")
            first, second = int(at * len(lines)) % len(lines), int(length * 5 * len(lines)) % len(lines)
            lines[first], lines[second] = lines[second], lines[first]
            text = "\n".join(lines)
    return text


_watch: list[list[str]] = []


def _is_of_source() -> bool:
    frame: FrameType | None = sys._getframe(2)
    return frame is not None and frame.f_code.co_filename in (dataclasses.__file__, typing.__file__)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    # Importing a module runs its code, dataclasses make their methods from text, and typing resolves annotations: all of
    # that is source on disk, none of it the job's text.
    if _watch and event == "exec" and not Path(arguments[0].co_filename).exists() and not _is_of_source():
        _watch[-1].append(f"exec {arguments[0].co_filename}")
    if _watch and event in ("subprocess.Popen", "os.system", "socket.connect", "os.exec", "ctypes.dlopen"):
        _watch[-1].append(event)
    if _watch and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        _watch[-1].append(f"open {arguments[0]}")


sys.addaudithook(_audit)  # can't be removed again; it does nothing while nobody watches


@contextmanager
def watched() -> Iterator[list[str]]:
    seen: list[str] = []
    _watch.append(seen)
    try:
        yield seen
    finally:
        _watch.pop()


def outcome(text: str, overrides: tuple[str, ...] = ()) -> Job | StepwellError:
    try:
        job = parse_job(text, overrides)
        check_recipe(job.recipe, task=job.task)
    except StepwellError as error:
        return error
    return job


def read(text: str, overrides: tuple[str, ...] = ()) -> Job | None:
    result = outcome(text, overrides)
    if isinstance(result, Job):
        return result
    assert result.what
    assert result.expected
    assert result.fix
    assert str(result).count("\n") == 0
    return None


def test_the_text_that_is_mutated_is_a_good_job() -> None:
    assert read(GOOD) is not None


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(mutation, min_size=1, max_size=4))
def test_a_mutated_job_is_a_job_that_comes_back_or_a_clean_refusal(changes: list[tuple[str, float, float, str]]) -> None:
    text = mutated(GOOD, changes)
    with watched() as seen:
        job = read(text)
    assert seen == []
    if job is not None:
        assert parse_job(dump(job.to_mapping())) == job


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from(["sgd", "5%", "3 steps", "", "full", "1e-3"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "lr", "a", "python", "drives"]), inner, max_size=3)
    ),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        "data",
        "split",
        "model",
        "task",
        "recipe",
        "budget",
        "seed",
        "device",
        "stop",
        "keep",
        "workers",
        "evaluate_every",
        "log_every",
    ]
    + [
        f"recipe.{key}"
        for key in ("preset", "objective", "optimizer", "schedule", "techniques", "batch_size", "plan", "precision")
    ]
    + ["recipe.optimizer.lr", "recipe.techniques.0", "recipe.techniques.mixup.alpha", "model.hidden", "split.by", "data.source"]
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(keys, plain)
def test_any_plain_value_at_any_path_is_taken_or_cleanly_refused(path: str, value: Any) -> None:
    job = parse_job(GOOD)
    try:
        result: Any = job.replace_at(path, value)
    except StepwellError as error:
        result = error.what
    assert isinstance(result, (Job, str))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=30))
def test_any_override_text_is_taken_or_cleanly_refused(text: str) -> None:
    read(GOOD, (text,))
    read(GOOD, (f"recipe.{text}",))
    read(GOOD, (f"recipe.optimizer.lr={text}",))


def test_every_technique_model_and_preset_survives_the_way_through_a_file() -> None:
    for record in discover().values():
        if any(field.required for field in record.fields.values()):
            continue
        slot = record.slot if record.role == "base" else "techniques"
        entry = f"[{record.id}]" if slot == "techniques" else record.id
        job = parse_job(GOOD, ("recipe.schedule=null", "recipe.techniques=null", f"recipe.{slot}={entry}"))
        assert parse_job(dump(job.to_mapping())) == job
    for override in [f"model={name}" for name in registry.names()] + [f"recipe={{preset: {name}}}" for name in names()]:
        job = parse_job(GOOD, (override,))
        assert parse_job(dump(job.to_mapping())) == job
