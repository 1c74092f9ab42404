"""`stepwell find-lr` on the command line: its table, its JSON, its picture, a refusal, mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from table_job import JOB, call, content

DIGITS = """\
data: {source: digits}
model: {name: mlp, hidden: [8]}
task: classification
recipe: {optimizer: {name: sgd, lr: 0.1}}
budget: 30 steps
"""
QUICK = ("--from", "1e-5", "--steps", "30", "--repeats", "2")


def test_the_table_names_the_rate_how_far_to_trust_it_and_the_command_that_uses_it(here: Path) -> None:
    Path("job.yaml").write_text(DIGITS, encoding="utf-8")
    before = content(here)
    answer = call("find-lr", "job.yaml", *QUICK)
    assert answer.code == 0
    rows = dict(line.split(None, 1) for line in re.sub(r"^(\w+) (\w+)", r"\1_\2", answer.out, flags=re.MULTILINE).splitlines())
    rate = rows["learning_rate"].strip()
    assert 1e-5 < float(rate) <= 10
    assert rows["confidence"].split(":")[0].strip() in ("high", "medium", "low")
    assert rows["use_it"].strip() == f"stepwell train job.yaml --set recipe.optimizer.lr={rate}"
    for rule in ("steepest", "valley", "divergence", "minimum"):
        assert rule in rows["sweeps_alone"]
    assert content(here) == before


def test_json_holds_the_curves_and_the_picture_is_written(here: Path) -> None:
    Path("job.yaml").write_text(DIGITS, encoding="utf-8")
    answer = call("find-lr", "job.yaml", *QUICK, "--rule", "valley", "--json", "--png", "rate.png")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["rule"] == "valley"
    assert len(found["curves"]) == 2
    assert found["curves"][0]["rates"][0] == pytest.approx(1e-5)
    assert Path("rate.png").read_bytes().startswith(b"\x89PNG")


def test_a_job_that_cannot_be_trained_ends_with_3_and_the_reason(here: Path) -> None:
    # Gradients are clipped to nothing: no rate moves the loss.
    job = JOB.replace("  batch_size: 8\n", "  batch_size: 8\n  techniques: [{name: clip_norm, max_norm: 1.0e-12}]\n")
    Path("job.yaml").write_text(job, encoding="utf-8")
    answer = call("find-lr", "job.yaml", *QUICK)
    assert answer.code == 3
    what, _, _ = answer.mistake()
    assert what.startswith("no usable learning rate: the loss never falls")
    silent = call("find-lr", "job.yaml", *QUICK, "--json")
    assert silent.code == 3
    assert json.loads(silent.out)["rate"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rule", "best"),
        ("--from", "1", "--to", "0.1"),
        ("--repeats", "0"),
        ("--steps", "2"),
        ("--share", "0.9", "--rule", "minimum"),
        ("--most-steps", "1"),
        ("--png", "rate.jpg"),
        ("--set", "recipe.nonsense=1"),
    ],
)
def test_a_mistake_ends_with_2_in_three_lines(here: Path, arguments: tuple[str, ...]) -> None:
    answer = call("find-lr", "job.yaml", *arguments)
    assert answer.code == 2
    answer.mistake()
