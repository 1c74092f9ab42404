"""Job files from a stranger: a job or a refusal of three parts, and nothing is run, written, imported or spent."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from counted import report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_mutations import GOOD, Case, bombs, case
from watched import SECONDS, Watched

from stepwell.core.catalog import discover
from stepwell.core.errors import StepwellError
from stepwell.models import registry
from stepwell.presets import names
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.files import dump, parse_job
from stepwell.recipe.job import Job

LONGEST = 10_000  # characters of an error, names from the file included
NOTED = 0.1  # seconds
GROWTH = 64 << 20  # bytes, over all cases of a test


@dataclasses.dataclass
class Tally:
    """What came of the cases of one test."""

    files: int = 0
    jobs: int = 0
    refused: int = 0
    placed: int = 0
    over_100_ms: int = 0
    misspelt: int = 0
    nearest_named: int = 0
    audit_events: int = 0
    tracebacks: int = 0
    hangs: int = 0


def told(answer: dict[str, Any]) -> list[str]:
    """What is wrong with an answer."""
    wrong = [f"did {event}" for event in answer["events"]]
    if answer["outcome"] in ("crashed", "killed", "changed"):
        wrong.append(f"{answer['outcome']}: {answer.get('error')} {answer.get('trace')}")
    if answer["seconds"] >= SECONDS:
        wrong.append(f"took {answer['seconds']:.1f} s")
    if answer["outcome"] == "refused":
        wrong += [f"has no {part}" for part in ("what", "expected", "fix") if not answer[part].strip()]
        wrong += ["is of several lines"] if "\n" in answer["text"] else []
        wrong += [f"has {answer['length']} characters"] if answer["length"] > LONGEST else []
        wrong += ["is a type's own words"] if re.search(r"<class |object at 0x|Traceback", answer["text"]) else []
    return wrong


def tried(cases: Iterable[Case], folder: Path) -> Tally:
    """Read every case in a watched process; nothing of the list above may be seen, and nothing be left behind."""
    tally, wrong, residents = Tally(), [], []
    (folder / "canary_module.py").write_text("open('canary', 'w').close()\n", encoding="utf-8")
    with Watched("job_cases", "inline", folder=folder, mebibytes=256) as process:
        for each in cases:
            process.started()
            (folder / "job.yaml").write_bytes(each.content)
            answer = process.run({})
            residents.append(answer["resident"])
            problems = told(answer)
            wrong += [f"{each.kind} {each.number}: {problem}" for problem in problems]
            tally.files += 1
            tally.jobs += answer["outcome"] == "job"
            tally.refused += answer["outcome"] == "refused"
            tally.placed += answer["outcome"] == "refused" and re.match(r"job\.yaml:\d+$", answer["where"]) is not None
            tally.over_100_ms += answer["seconds"] > NOTED
            tally.audit_events += len(answer["events"])
            tally.tracebacks += answer["outcome"] == "crashed"
            tally.hangs += answer["outcome"] == "killed"
            if each.misspelt and answer["outcome"] == "refused":
                tally.misspelt += 1
                tally.nearest_named += f"Did you mean '{each.misspelt}'?" in answer["fix"]
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(wrong[:20])
    grown = max(residents[len(residents) // 2 :]) - max(residents[: len(residents) // 2])
    assert grown < GROWTH, f"the second half of the files took {grown >> 20} MiB more"
    assert sorted(item.name for item in folder.iterdir()) == ["canary_module.py", "job.yaml"]
    return tally


def fuzzed(numbers: range, folder: Path, name: str) -> None:
    tally = tried(map(case, numbers), folder)
    counts = dataclasses.asdict(tally)
    # Of what is refused, most has a line; what a job as a whole lacks has none. Some misspelt words come nearest to another.
    floors = {"files": len(numbers), "placed": tally.refused * 9 // 10, "nearest_named": tally.misspelt * 9 // 10}
    report(name, floors=floors | {"jobs": len(numbers) // 100, "misspelt": len(numbers) // 20}, **counts)


def test_every_shipped_job_is_good() -> None:
    for text in GOOD.values():
        assert isinstance(outcome(text), Job)


def test_three_hundred_broken_jobs_end_in_a_job_or_a_refusal(tmp_path: Path) -> None:
    fuzzed(range(300), tmp_path, "T11 job files")


@pytest.mark.slow
def test_three_thousand_broken_jobs_end_in_a_job_or_a_refusal(tmp_path: Path) -> None:
    fuzzed(range(300, 3_500), tmp_path, "T11 job files")


@pytest.mark.soak
def test_fifty_thousand_broken_jobs_end_in_a_job_or_a_refusal(tmp_path: Path) -> None:
    fuzzed(range(3_500, 53_500), tmp_path, "T11 job files")


def test_a_bomb_in_a_job_file_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    cases = [Case(name, 0, content) for name, content in bombs().items()]
    tally = tried(cases, tmp_path)
    report("T11 bombs", floors={"files": 60}, **dataclasses.asdict(tally))


def outcome(text: str, overrides: tuple[str, ...] = ()) -> Job | StepwellError:
    try:
        job = parse_job(text, overrides)
        check_recipe(job.recipe, task=job.task)
    except StepwellError as error:
        return error
    return job


JOB = """\
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
    job = parse_job(JOB)
    try:
        result: Any = job.replace_at(path, value)
    except StepwellError as error:
        result = error.what
    assert isinstance(result, (Job, str))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=30))
def test_any_override_text_is_taken_or_cleanly_refused(text: str) -> None:
    outcome(JOB, (text,))
    outcome(JOB, (f"recipe.{text}",))
    outcome(JOB, (f"recipe.optimizer.lr={text}",))


def test_every_technique_model_and_preset_survives_the_way_through_a_file() -> None:
    for record in discover().values():
        if any(field.required for field in record.fields.values()):
            continue
        slot = record.slot if record.role == "base" else "techniques"
        entry = f"[{record.id}]" if slot == "techniques" else record.id
        job = parse_job(JOB, ("recipe.schedule=null", "recipe.techniques=null", f"recipe.{slot}={entry}"))
        assert parse_job(dump(job.to_mapping())) == job
    for override in [f"model={name}" for name in registry.names()] + [f"recipe={{preset: {name}}}" for name in names()]:
        job = parse_job(JOB, (override,))
        assert parse_job(dump(job.to_mapping())) == job
