"""Runs in the watched process: one job file, read and checked as every verb does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepwell.core.catalog import discover
from stepwell.core.errors import StepwellError
from stepwell.models import registry
from stepwell.recipe.compatibility import check_recipe
from stepwell.recipe.files import dump, parse_job, read_job

FILE = "job.yaml"


def warm_up() -> None:
    """Load what reading any good job loads, and make the checkers of every field."""
    discover()
    registry.names()
    import job_mutations

    for text in job_mutations.GOOD.values():
        Path(FILE).write_text(text, encoding="utf-8")
        run({})
    for name in discover():
        Path(FILE).write_text(job_mutations.with_technique(name), encoding="utf-8")
        run({})
    for bad in ("budget: [", "seed: '3'", "!!x y", "recipe: {optimizer: sgdd}"):
        Path(FILE).write_text(bad, encoding="utf-8")
        run({})


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Read job.yaml of the current folder.

    Returns:
        "outcome": "job" (and it came back the same from its own text), "changed" (it didn't), or "refused" with the parts.
    """
    try:
        job = read_job(FILE, case.get("overrides", ()))
        check_recipe(job.recipe, task=job.task)
    except StepwellError as error:
        parts = {"what": error.what, "expected": error.expected, "fix": error.fix, "where": error.where or ""}
        return {"outcome": "refused", "text": str(error)[:20_000], "length": len(str(error))} | parts
    again = parse_job(dump(job.to_mapping()))
    return {"outcome": "job" if again == job else "changed"}
