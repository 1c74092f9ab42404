"""Verbs about what runs left behind: list them, make room, take a model out, bring weights in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

__all__ = ["export", "import_weights", "runs"]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", show_default=False)]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the runs.")]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)]
Foreign = Annotated[Path, typer.Argument(metavar="FILE", help="Saved by torch.save: .pt, .pth or .bin.", show_default=False)]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="CONDITION", help='E.g. "recipe.optimizer.name=adamw"; = != < <= > >= ~. Repeatable.'),
]
Sort = Annotated[str, typer.Option("--sort", metavar="NAME", help="metric, started, size, steps, a metric's name or a path.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many lines.", show_default=False)]
Keep = Annotated[
    int | None,
    typer.Option("--keep", metavar="N", min=1, help="Checkpoints of each run that stay; of all: runs.", show_default=False),
]
MaxSize = Annotated[
    str | None, typer.Option("--max-size", metavar="SIZE", help='In all, e.g. "2 GiB": the oldest go.', show_default=False)
]
Older = Annotated[
    str | None, typer.Option("--older", metavar="AGE", help="Only of runs that were last written to so long ago, e.g. 30d.")
]
Only = Annotated[Literal["checkpoints", "all"], typer.Option("--only", help="checkpoints alone, or all of a run.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove it. Without this, nothing is changed.", show_default=False)]
To = Annotated[
    Literal["safetensors", "torch-export", "onnx"],
    typer.Option("--to", help="safetensors, torch-export or onnx.", show_default=False),
]
ExportOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="A new folder. [default: RUN-FORMAT]", show_default=False),
]
WeightsOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="The new file. [default: FILE with .safetensors]", show_default=False),
]
Key = Annotated[str | None, typer.Option("--key", metavar="NAME", help="Where the state_dict stands in it.", show_default=False)]


class _Listing(TyperGroup):
    """A group whose words go to its command "list" unless they begin with the name of another one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return list(super().parse_args(ctx, args))


runs = typer.Typer(
    cls=_Listing, help="List the runs in a folder (options: runs list --help), or make room there.", rich_markup_mode=None
)


@runs.command("list")
def list_runs(
    dir: Folder = Path("runs"), where: Where = None, sort: Sort = "started", limit: Limit = None, debug: Debug = False
) -> None:
    """The runs in a folder: state, model, headline metric, steps, size."""
    from stepwell.recipe.archive.runs import runs as verb
    from stepwell.report.runs import runs_table

    print(runs_table(verb(dir, where=where or (), sort=sort), most=limit))


@runs.command()
def clean(
    dir: Folder = Path("runs"),
    keep: Keep = None,
    max_size: MaxSize = None,
    older: Older = None,
    only: Only = "checkpoints",
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """Say what could go, and with --yes remove it: spare checkpoints, leftovers, or whole runs."""
    from stepwell.recipe.archive.cleaning import carry_out, plan_cleaning
    from stepwell.report.runs import cleaning_text

    plan = plan_cleaning(dir, keep=keep, max_size=max_size, older=older, only=only)
    print(cleaning_text(carry_out(plan), done="removed", root=dir) if yes else cleaning_text(plan, done="planned", root=dir))


def export(run: RunDir, to: To, out: ExportOut = None, debug: Debug = False) -> None:
    """Write a trained model for use elsewhere, with the lines that load it."""
    from stepwell.recipe.archive.export import export as verb
    from stepwell.report.text import plain

    exported = verb(run, to=to, out=out)
    print(f"{', '.join(path.name for path in exported.files)} in {plain(exported.folder)}")
    print("\n".join(exported.notes))
    print(f"\n{plain(exported.snippet, keep=chr(10))}")


def import_weights(file: Foreign, out: WeightsOut = None, key: Key = None, debug: Debug = False) -> None:
    """Convert a foreign file of weights to safetensors, without trusting it."""
    from stepwell.recipe.archive.foreign_weights import import_weights as verb
    from stepwell.report.runs import size
    from stepwell.report.text import amount, plain

    done = verb(file, out=out, key=key)
    inside = f" of {done.key!r}" if done.key is not None else ""
    print(plain(f"{amount(len(done.names), 'tensor')}{inside}, {size(done.num_bytes)}, in {done.path}"))
    if done.left_out:
        print(plain(f"left out, being no tensors: {', '.join(done.left_out[:10])}"))
    print(plain(f"start a job from it with init_from: {done.path}"))
