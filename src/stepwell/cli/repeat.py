"""Verbs that check runs: compute a stretch again, train the whole again, compare two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["diff", "replay", "verify"]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.", show_default=False)]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that training has written.", show_default=False)]
OtherRun = Annotated[Path, typer.Argument(metavar="OTHER", help="Another run folder.", show_default=False)]
Import = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE", help="A Python file with models or techniques of your own; it is run. Repeatable."),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Compute at most N steps. [default: the last stretch]", show_default=False),
]
ReplayOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The new run folder. [default: RUN-replay]", show_default=False)
]


def verify(run: RunDir, steps: Steps = None, import_: Import = None, debug: Debug = False) -> None:
    """Compute a run's last stretch again: identical to the bit, or what changed. Exits with 1 where it differs."""
    from stepwell.cli.verdicts import verification_text
    from stepwell.recipe.evidence.verify import verify as verb

    _import(import_)
    found = verb(run, steps=steps)
    _answer(verification_text(found, str(run)), same=found.verdict == "identical")


def replay(run: RunDir, out: ReplayOut = None, import_: Import = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """Train a finished run again and compare all that it left, byte by byte. Exits with 1 where it differs."""
    from stepwell.cli.verdicts import replay_text
    from stepwell.recipe.evidence.replay import replay as verb
    from stepwell.report.progress import ProgressLine

    _import(import_)
    progress = None if quiet else ProgressLine()
    try:
        found = verb(run, out=out, progress=progress)
    finally:
        if progress is not None:
            progress.finish()
    _answer(replay_text(found), same=found.verdict == "identical")


def diff(run: RunDir, other: OtherRun, debug: Debug = False) -> None:
    """What two runs differ in: job, environment, data, metrics, weights, events."""
    from stepwell.cli.verdicts import difference_text
    from stepwell.recipe.evidence.diff import diff as verb

    _answer(difference_text(verb(run, other)), same=True)


def _import(files: list[Path] | None) -> None:
    if files:
        from stepwell.models.registry import import_file

        for file in files:
            import_file(file)


def _answer(text: str, *, same: bool) -> None:
    from stepwell.report.text import plain

    print(plain(text, keep="\n\t").rstrip("\n"))
    if not same:
        raise typer.Exit(1)
