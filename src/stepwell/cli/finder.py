"""The verb that searches a job's learning rate."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from stepwell.doctor.lr_finder import LrFound

__all__ = ["find_lr"]

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="A job file (YAML).", show_default=False)]
Rule = Annotated[
    Literal["auto", "steepest", "valley", "divergence", "minimum"],
    typer.Option("--rule", help="auto: sweeps, then trial trainings. The others read it off the sweeps."),
]
Low = Annotated[float, typer.Option("--from", metavar="RATE", help="The first rate of a sweep.")]
High = Annotated[float, typer.Option("--to", metavar="RATE", help="Its last rate.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", help="Its optimizer steps.")]
Stop = Annotated[
    float, typer.Option("--stop", metavar="TIMES", help="It ends where the loss is this many times the best so far.")
]
Share = Annotated[
    float, typer.Option("--share", metavar="X", help="Of the rate of the lowest loss, for --rule minimum: 0.1 to 0.333.")
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", help="Sweeps over other batches, and seeds of the best trials.")]
MostSteps = Annotated[int, typer.Option("--most-steps", metavar="N", help="Of one trial training.")]
PngOut = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Also draw it as a picture.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="All that was found, as JSON.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the job, e.g. recipe.optimizer.name=sgd. Repeatable."),
]
Import = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE", help="A Python file with models or techniques of your own; it is run. Repeatable."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", show_default=False)]


def find_lr(
    job: JobFile,
    rule: Rule = "auto",
    low: Low = 1e-7,
    high: High = 10.0,
    steps: Steps = 100,
    stop: Stop = 4.0,
    share: Share = 0.2,
    repeats: Repeats = 3,
    most_steps: MostSteps = 1000,
    png: PngOut = None,
    json_: AsJson = False,
    set_: Set = None,
    import_: Import = None,
    debug: Debug = False,
) -> None:
    """Find a job's learning rate, or say why there is none."""
    from stepwell.doctor.lr_finder import find_lr as verb
    from stepwell.doctor.lr_sweep import Sweep
    from stepwell.models.registry import import_file
    from stepwell.recipe.files import read_job
    from stepwell.report.text import plain

    if png is not None:
        from stepwell.report.schedule import require_picture_path

        require_picture_path(png)
    for file in import_ or []:
        import_file(file)
    plan = read_job(job, set_ or [])
    sweep = Sweep(low=low, high=high, num_steps=steps, stop=stop)
    how: dict[str, Any] = {"repeats": repeats, "minimum_share": share, "most_steps": most_steps}
    found = verb(plan, base=job.parent, rule=rule, sweep=sweep, **how)
    if png is not None:
        from stepwell.doctor.lr_picture import write_lr_picture

        write_lr_picture(png, found, title=job.stem)
    if json_:
        print(json.dumps(_jsonable(found.to_mapping()), indent=2, allow_nan=False))
        if found.rate is None:
            raise typer.Exit(3)
        return
    if found.rate is not None:
        print(_told(found, plain(job)))
    if png is not None:
        print(f"picture: {plain(png)}")
    if found.rate is None:
        raise _refused(found)


def _told(found: LrFound, job: str) -> str:
    from stepwell.doctor.lr_suggestion import RULES, suggested
    from stepwell.report.text import aligned, amount

    rate = f"{found.rate:.3g}"
    judges = "sweeps" if found.rule != "trials" else "seeds"
    agreement = f"{len(found.agreement)} {judges} agree within a factor of {found.factor:.2g}"
    if len(found.agreement) < 2:
        agreement = "one sweep says nothing about chance"
    sweeps = amount(len(found.curves), "sweep")
    trials = f", then {amount(len(found.trials), 'trial training')}" if found.trials else ""
    by = {rule: sorted(suggested(reading, rule) for reading in found.readings) for rule in RULES}
    marks = ", ".join(f"{rule} {rates[len(rates) // 2]:.2g}" for rule, rates in by.items())
    rows = [
        ["learning rate", rate],
        ["confidence", f"{found.confidence}: {agreement}"],
        ["found by", f"{sweeps}{trials}; {found.num_steps:,} optimizer steps"],
        ["sweeps alone", marks],
        *[["note", note] for note in found.notes],
        ["use it", f"stepwell train {job} --set recipe.optimizer.lr={rate}"],
    ]
    return aligned(rows)


def _refused(found: LrFound) -> Exception:
    from stepwell.core.errors import TrainingStopped

    return TrainingStopped(
        f"no usable learning rate: {found.reason}",
        expected="a loss that is finite and falls at some rate",
        fix="Look at the model's outputs and at the data: `stepwell check` takes one step; no learning rate mends this",
    )


def _jsonable(value: Any) -> Any:
    """JSON has no word for what isn't finite: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _jsonable(part) for key, part in value.items()}
    return [_jsonable(part) for part in value] if isinstance(value, (list, tuple)) else value
