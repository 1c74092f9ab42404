"""One self-contained page per run: what was trained, how it went, how good it is, and how to go on."""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from stepwell.core.errors import RunFolderError
from stepwell.engine.records.storage import write_bytes
from stepwell.report.curves import DARK, LIGHT, Picture, pictures, png
from stepwell.report.html import Html, document, join, tag
from stepwell.report.matrix import confusion
from stepwell.report.series import Series
from stepwell.report.style import STYLE
from stepwell.report.tables import RunTables, read_run
from stepwell.report.text import amount, duration, flatten, metric, number

__all__ = ["page", "write_report"]

_ROWS = 40  # of the validation table; the file has them all
_EVENTS = 100
_FACTS = 2000  # of the manifest


def write_report(folder: Path) -> Path:
    """Write report.html and its pictures as PNG files into a run folder.

    Works on runs that are unfinished or have crashed: what is there is shown, what is missing is said.

    Args:
        folder: what `stepwell train` wrote.

    Returns:
        The page's path.

    Raises:
        RunFolderError: the folder holds no run.
        OSError: the folder can't be written.
    """
    run = read_run(Path(folder))
    drawn = []
    for picture in pictures(run):
        light = png(picture, LIGHT)
        _replace(run.folder / f"{picture.name}.png", light)
        drawn.append((picture, light, png(picture, DARK)))
    target = run.folder / "report.html"
    _replace(target, page(run, drawn).encode("utf-8", errors="replace"))
    return target


def page(run: RunTables, drawn: Sequence[tuple[Picture, bytes, bytes]]) -> str:
    """The page as text.

    Args:
        run: what the folder says.
        drawn: each picture with its PNG bytes on light and on dark.
    """
    body = tag(
        "main",
        _header(run),
        _alerts(run),
        _tiles(run),
        _curves(drawn),
        tag("div", _metrics(run), _go_on(run), class_="side"),
        _confusion(run),
        _history(run),
        _code("Job", run.job, "Resolved: every value that was used, defaults included."),
        _derived(run),
        _events(run),
        _environment(run),
        tag("footer", "Written by stepwell from the files in this folder. The page loads nothing and runs nothing."),
    )
    return document(f"{run.name} · stepwell", STYLE, body)


def _replace(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except RunFolderError as error:
        # The caller knows better what a full disk means here: the run itself is whole.
        raise error.__cause__ or error from None


def _header(run: RunTables) -> Html:
    reason = run.stop_reason
    mood = "bad" if "finite" in reason else "good" if run.finished else "warn"
    seed, started = run.manifest.get("seed"), run.manifest.get("started")
    facts = [f"started {started}" if started else "", f"seed {seed}" if seed is not None else "", str(run.folder)]
    return tag(
        "header", tag("h1", run.name), tag("span", reason, class_=f"badge {mood}"), tag("p", " · ".join(filter(None, facts)))
    )


def _alerts(run: RunTables) -> Html:
    alerts = []
    if not run.finished:
        resume = tag("code", f"stepwell resume {shlex.quote(str(run.folder))}")
        alerts.append(
            tag(
                "div", "This run has no result yet: it is still going, or it was cut off. To go on: ", resume, class_="card alert"
            )
        )
    broken = {name: Series.of(run.train, name).num_broken for name in ("loss", "grad_norm")}
    for name, count in broken.items():
        if count:
            text = f"{name} was not finite at {amount(count, 'logged step')}; the curves mark where."
            alerts.append(tag("div", text, class_="card alert failed"))
    alerts += [tag("div", problem, class_="card alert failed") for problem in run.problems]
    return join(*alerts)


def _tiles(run: RunTables) -> Html:
    tiles: list[tuple[str, str, str]] = []
    headline = run.headline
    if headline:
        tiles.append((f"test {headline}", metric(headline, run.test[headline]), "on data that training never saw"))
    best = run.best
    if best is not None:
        tiles.append((f"best validation {best.metric}", metric(best.metric, best.value), f"at step {best.step:,}"))
    tiles.append(("steps", number(run.steps), f"{number(round(run.epochs, 2))} epochs" if run.epochs else "optimizer steps"))
    if run.seconds is not None:
        speed = f"{number(round(run.steps / run.seconds, 1))} steps/s" if run.seconds > 0 else ""
        tiles.append(("time", duration(run.seconds), speed))
    made = [
        tag(
            "div",
            tag("span", label),
            tag("b", value),
            tag("span", note),
            class_="tile main" if place == 0 and headline else "tile",
        )
        for place, (label, value, note) in enumerate(tiles)
    ]
    return tag("div", *made, class_="tiles")


def _curves(drawn: Sequence[tuple[Picture, bytes, bytes]]) -> Html:
    figures = []
    for picture, light, dark in drawn:
        image = tag(
            "picture",
            tag("source", media="(prefers-color-scheme: dark)", srcset=_data(dark)),
            tag("img", src=_data(light), alt=picture.description),
        )
        figures.append(tag("figure", image, tag("figcaption", picture.note) if picture.note else "", class_="card"))
    if not figures:
        return join(tag("h2", "Curves"), tag("div", tag("p", "Nothing has been logged yet."), class_="card"))
    return join(tag("h2", "Curves"), tag("div", *figures, class_="curves"))


def _data(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _metrics(run: RunTables) -> Html:
    names = list(dict.fromkeys([*run.test, *run.final]))
    if not names:
        return Html("")
    head = ["metric", *(["validation"] if run.final else []), *(["test"] if run.test else [])]
    rows = []
    for name in names:
        cells = [part.get(name) for part in (run.final, run.test) if part]
        rows.append([name, *("" if value is None else metric(name, value) for value in cells)])
    return tag("section", tag("h2", "Metrics"), _table(head, rows))


def _go_on(run: RunTables) -> Html:
    folder = shlex.quote(str(run.folder))
    rows = [
        (f"stepwell evaluate {folder}", "measure the delivered weights again on the test part"),
        (f"stepwell predict {folder} new.csv --out predictions.csv", "use the model on new data"),
        (f"stepwell resume {folder}", "go on where it stopped; --budget gives it more"),
    ]
    rows = rows if run.finished else rows[-1:]
    body = [tag("tr", tag("td", tag("code", command), tag("br"), tag("span", what, class_="note"))) for command, what in rows]
    return tag("section", tag("h2", "Go on"), tag("div", tag("table", tag("tbody", *body)), class_="card"))


def _confusion(run: RunTables) -> Html:
    found = confusion(run.result)
    return Html("") if found is None else join(tag("h2", "Confusion matrix"), found)


def _history(run: RunTables) -> Html:
    names = [name for name in ("step", "epoch", *run.metric_names) if name in run.validation]
    rows = len(run.validation.get("step", ()))
    if not rows:
        return Html("")
    best = run.best
    keep = set(np.linspace(0, rows - 1, min(rows, _ROWS)).astype(int).tolist())
    marked = {row for row in range(rows) if best is not None and run.validation["step"][row] == best.step}
    body = []
    for row in sorted(keep | marked):
        cells = [_cell(name, float(run.validation[name][row])) for name in names]
        body.append(tag("tr", *(tag("td", cell, class_="n") for cell in cells), class_="best" if row in marked else None))
    table = tag("table", tag("thead", tag("tr", *(tag("th", name, class_="n") for name in names))), tag("tbody", *body))
    left = rows - len(keep | marked)
    note = tag("p", f"{amount(left, 'evaluation')} between these in metrics/validation.csv.", class_="note") if left else ""
    summary = tag("summary", f"All figures of {amount(len(body), 'evaluation')}")
    return join(tag("h2", "Evaluations"), tag("div", tag("details", summary, table), class_="card"), note)


def _cell(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "" if math.isnan(value) else "not finite"
    return f"{value:,.0f}" if name == "step" else f"{value:.2f}" if name == "epoch" else metric(name, value)


def _code(title: str, text: str, note: str) -> Html:
    if not text.strip():
        return Html("")
    return join(tag("h2", title), tag("div", tag("pre", text.strip("\n")), class_="card code"), tag("p", note, class_="note"))


def _derived(run: RunTables) -> Html:
    told = run.result.get("derived")
    rows = [item for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    if not rows:
        return Html("")
    cells = [[str(item.get("path", "")), _value(item.get("value")), str(item.get("reason", ""))] for item in rows]
    return join(tag("h2", "Derived values"), _table(["setting", "value", "reason"], cells, numeric=(), class_="card wide"))


def _events(run: RunTables) -> Html:
    if not run.event_counts:
        return Html("")
    shown = [event for event in run.events if event.get("kind") not in _ROUTINE][-_EVENTS:]
    rows = [[number(event.get("step", "")), str(event.get("kind", "?")), _detail(event)] for event in shown]
    total = sum(run.event_counts.values())
    counts = ", ".join(f"{count:,} {kind}" for kind, count in run.event_counts.items())
    note = "" if total == len(shown) else tag("p", f"In all: {counts}; events.jsonl has each.", class_="note")
    table = _table(["step", "kind", "detail"], rows, numeric=(0,), class_="card wide") if rows else ""
    return join(tag("h2", "Events"), table, note)


_ROUTINE = ("saved", "best")  # the page shows the best evaluation, and checkpoints are there or not
_SEALS = ("number", "previous", "sha256")  # they hold the log together; `stepwell audit` reads them
_EVERY_PACKAGE = "environment.packages.installed."


def _detail(event: Mapping[str, Any]) -> str:
    told = {key: value for key, value in event.items() if key not in ("kind", "step", *_SEALS)}
    nested = told.pop("detail", None)
    told |= nested if isinstance(nested, dict) else {} if nested is None else {"detail": nested}
    told = {key: value for key, value in told.items() if key not in _SEALS}
    return " · ".join(f"{key.replace('_', ' ')}: {_value(value)}" for key, value in told.items())


def _environment(run: RunTables) -> Html:
    told = islice(flatten(run.manifest).items(), _FACTS)
    rows = [[key.replace("_", " "), _value(value)] for key, value in told if not key.startswith(_EVERY_PACKAGE)]
    if not rows:
        return Html("")
    return join(tag("h2", "Environment"), _table([], rows, class_="card wide"))


def _value(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 400 else text[:399] + "…"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: tuple[int, ...] | None = None, class_: str = "card"
) -> Html:
    """A table whose first column names the rows; other columns are numbers, unless `numeric` says which are."""

    def kind(column: int) -> str | None:
        is_number = column in numeric if numeric is not None else bool(head) and column > 0
        return "n" if is_number else None

    first = "td" if numeric is not None else "th"
    body = [
        tag("tr", tag(first, row[0], class_=kind(0)), *(tag("td", cell, class_=kind(i)) for i, cell in enumerate(row[1:], 1)))
        for row in rows
    ]
    heading = tag("thead", tag("tr", *(tag("th", name, class_=kind(i)) for i, name in enumerate(head)))) if head else ""
    return tag("div", tag("table", heading, tag("tbody", *body)), class_=class_)
