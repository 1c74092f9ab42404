"""The verbs and their options. Each calls one public function; whatever is heavy is imported when a verb runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepwell.cli import archive, doctor, finder, repeat

if TYPE_CHECKING:
    from stepwell.recipe.job import Job

_EPILOG = (
    "Exit codes: 0 done, 1 a check found a difference, 2 a mistake in the command, the job or the data, 3 training can't go on, "
    "70 a fault in stepwell, 130 and 143 interrupted (the state is saved)."
)

app = typer.Typer(
    name="stepwell",
    help="Train PyTorch models by recipes: stacks of techniques, each switched on by one line.",
    epilog=_EPILOG,
    rich_markup_mode=None,  # plain text: importing the markup library would cost more than everything else here
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
catalog = typer.Typer(help="List the techniques, or show one of them.", rich_markup_mode=None, invoke_without_command=True)
app.add_typer(catalog, name="techniques")


def _print_version(asked: bool) -> None:
    if asked:
        from stepwell import __version__

        print(f"stepwell {__version__}")
        raise typer.Exit


JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="A job file (YAML).", show_default=False)]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that training has written.", show_default=False)]
RunDirs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.", show_default=False)]
NewData = Annotated[Path, typer.Argument(metavar="DATA", help="A file with the training data's columns.", show_default=False)]
TechniqueId = Annotated[str, typer.Argument(metavar="ID", help="A technique's id, e.g. mixup.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the job, e.g. recipe.optimizer.lr=1e-3. Repeatable."),
]
Import = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE", help="A Python file with models or techniques of your own; it is run. Repeatable."),
]
RunOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The run folder. [default: the next runs/JOB-N]", show_default=False),
]
FileOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to write. [default: standard output]", show_default=False),
]
PngOut = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Also draw it as a picture.", show_default=False)]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="TEXT", help='A new budget in all, e.g. "90 epochs".', show_default=False)
]
MaxTime = Annotated[
    str | None,
    typer.Option("--max-time", metavar="TEXT", help='A new limit in time from now, e.g. "10 minutes".', show_default=False),
]
NoSet = Annotated[list[str] | None, typer.Option("--set", hidden=True)]  # refused, with what may change instead
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="Which part: test, validation or train.")]
OtherData = Annotated[Path | None, typer.Option("--data", metavar="FILE", help="Other data, with targets.", show_default=False)]
Samples = Annotated[
    int,
    typer.Option("--samples", metavar="N", min=0, help="Passes with dropout on, for uncertainty. 0: none.", show_default=False),
]
CardOut = Annotated[
    Path | None, typer.Option("--card", metavar="FILE", help="Also write a page for reviewers.", show_default=False)
]
Head = Annotated[
    str | None, typer.Option("--expect", metavar="SHA256", help="The head that an earlier audit printed.", show_default=False)
]
Version = Annotated[
    bool,
    typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True, show_default=False),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", show_default=False)]
LiveWatch = Annotated[
    str, typer.Option("--watch", metavar="on|off", help="Judge the run as it goes: flat, diverging, oscillating, overfitted, ...")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no suggestions.", show_default=False)]


def command() -> Any:
    """The command object that parses the arguments."""
    return typer.main.get_command(app)


@app.callback()
def stepwell(version: Version = False) -> None:
    # Everything is done by the verbs; this declares the options that stand before them.
    return None


@app.command()
def train(
    job: JobFile,
    set_: Set = None,
    import_: Import = None,
    out: RunOut = None,
    watch: LiveWatch = "on",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the model of a job into a run folder, with a report."""
    from stepwell.cli.folders import next_folder
    from stepwell.cli.training import Call, live_rules, run_verb
    from stepwell.recipe.verbs import train as verb

    rules = live_rules(watch)
    plan = _read(job, set_, import_)
    samples = plan.recipe.batch_size if isinstance(plan.recipe.batch_size, int) else None
    with next_folder(job, out) as folder:
        call = Call(job, _options(set_, import_), quiet, folder)
        run_verb(lambda progress: verb(plan, out=folder, base=job.parent, progress=progress, watch=rules), call, samples=samples)


@app.command()
def resume(
    run: RunDir,
    budget: Budget = None,
    max_time: MaxTime = None,
    set_: NoSet = None,
    import_: Import = None,
    watch: LiveWatch = "on",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with a run from its newest whole checkpoint."""
    from stepwell.cli.training import Call, live_rules, run_verb
    from stepwell.recipe.resuming import refuse_settings
    from stepwell.recipe.run_paths import require_folder
    from stepwell.recipe.verbs import resume as verb

    require_folder(run)
    refuse_settings(set_ or [], run)
    _import(import_)
    call = Call(run / "job.yaml", _options(None, import_), quiet, run)
    rules = live_rules(watch, resumed=run)
    run_verb(lambda progress: verb(run, progress=progress, budget=budget, max_time=max_time, watch=rules), call)


@app.command()
def evaluate(run: RunDir, split: Split = "test", data: OtherData = None, import_: Import = None, debug: Debug = False) -> None:
    """Measure a trained model on the untouched test part."""
    from stepwell.recipe.verbs import evaluate as verb
    from stepwell.report.text import aligned, metric

    _import(import_)
    report = verb(run, split=split, data=data)
    print(aligned([[f"{report.split} {name}", metric(name, value)] for name, value in report.metrics.items()]))


@app.command()
def predict(
    run: RunDir, data: NewData, out: FileOut = None, samples: Samples = 0, import_: Import = None, debug: Debug = False
) -> None:
    """Use a trained model on new data."""
    from stepwell.recipe.verbs import csv_text
    from stepwell.recipe.verbs import predict as verb

    _import(import_)
    frame = verb(run, data, out=out, samples=samples)
    if out is None:
        sys.stdout.write(csv_text(frame))
    else:
        from stepwell.report.text import amount, plain

        print(f"{amount(len(frame), 'prediction')} in {plain(out)}")


@app.command()
def explain(job: JobFile, set_: Set = None, import_: Import = None, debug: Debug = False) -> None:
    """Show the loop of a job, each derived value with its reason."""
    from stepwell.recipe.verbs import explain as verb

    _show(verb(_read(job, set_, import_), base=job.parent).text)


@app.command()
def schedule(job: JobFile, png: PngOut = None, set_: Set = None, import_: Import = None, debug: Debug = False) -> None:
    """Show the course of every scheduled value, before anything is trained."""
    from stepwell.recipe.explaining.schedule_view import drawn
    from stepwell.recipe.verbs import schedule as verb

    if png is not None:
        from stepwell.report.schedule import require_picture_path

        require_picture_path(png)
    plan = _read(job, set_, import_)
    courses = verb(plan, base=job.parent)
    _show("\n\n".join(drawn(course) for course in courses))
    if png is not None:
        from stepwell.report.schedule import write_schedule
        from stepwell.report.text import plain

        write_schedule(png, courses, title=job.stem)
        print(f"\npicture: {plain(png)}")


@app.command()
def check(job: JobFile, set_: Set = None, import_: Import = None, debug: Debug = False) -> None:
    """Build everything, make one step, leave no trace."""
    from stepwell.recipe.verbs import check as verb

    result = verb(_read(job, set_, import_), base=job.parent)
    if not result.ok:
        from stepwell.core.errors import TrainingStopped

        fix = "Try a lower lr, a longer warmup or clip_norm 1.0, and look for extreme values in the data"
        raise TrainingStopped(result.text, expected="finite losses and gradients", fix=fix)
    _show(result.text)


app.command("find-lr")(finder.find_lr)
app.command()(doctor.doctor)


@app.command()
def report(runs: RunDirs, debug: Debug = False) -> None:
    """Write a run's report: one HTML page and its pictures."""
    from stepwell.report.page import write_report
    from stepwell.report.tables import comparison, read_run, summary
    from stepwell.report.text import aligned, plain

    pages = [write_report(run) for run in runs]
    read = [read_run(run) for run in runs]
    header, *rows = comparison(read)
    print(aligned(summary(read[0])) if len(read) == 1 else aligned(rows, header=header))
    for page in pages:
        print(f"report: {plain(page)}")


app.add_typer(archive.runs, name="runs")
app.command()(archive.export)
app.command("import")(archive.import_weights)
app.command()(repeat.verify)
app.command()(repeat.replay)
app.command()(repeat.diff)


@app.command()
def audit(run: RunDir, expect: Head = None, card: CardOut = None, debug: Debug = False) -> None:
    """Compare what is in a run folder with what its log has on record. Exits with 1 where something is broken."""
    from stepwell.recipe.evidence.audit import audit as verb
    from stepwell.report.text import aligned, plain

    found = verb(run, expect=expect)
    print(aligned([[check.name, check.answer, check.told] for check in found.checks]))
    print(f"head: {found.head or 'none'}")
    if card is not None:
        from stepwell.report.card import write_card

        print(f"card: {plain(write_card(run, card))}")
    if not found.ok:
        raise typer.Exit(1)


@catalog.callback()
def techniques(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_techniques()


@catalog.command("list")
def list_techniques(debug: Debug = False) -> None:
    """Every technique: its id, its slot, what it does."""
    from stepwell.cli.cards import table

    print(table())


@catalog.command()
def show(id: TechniqueId, debug: Debug = False) -> None:
    """One technique: settings, source, what it goes with, and how to write it in a job."""
    from stepwell.cli.cards import card

    print(card(id))


def _read(job: Path, overrides: list[str] | None, imports: list[Path] | None) -> Job:
    from stepwell.recipe.files import read_job

    _import(imports)
    return read_job(job, overrides or [])


def _import(files: list[Path] | None) -> None:
    if files:
        from stepwell.models.registry import import_file

        for file in files:
            import_file(file)


def _options(overrides: list[str] | None, imports: list[Path] | None) -> list[str]:
    """The options of this call as the next command would repeat them."""
    options = [["--set", text] for text in overrides or []] + [["--import", str(file)] for file in imports or []]
    return [word for option in options for word in option]


def _show(text: str) -> None:
    from stepwell.report.text import plain

    print(plain(text, keep="\n\t").rstrip("\n"))
