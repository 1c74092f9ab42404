"""One self-contained page per diagnosis: what is wrong, the evidence with its numbers and pictures, what mends it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.core.errors import RunFolderError
from stepwell.doctor.findings import Finding
from stepwell.doctor.pictures import EVIDENCE, pictures
from stepwell.doctor.repair import Repair
from stepwell.doctor.told import STAGE_WORDS, advice_text, job_text, tried_text, value_text, verdict
from stepwell.engine.records.storage import write_bytes
from stepwell.report.curves import DARK, LIGHT, Picture, png
from stepwell.report.html import Html, document, join, tag
from stepwell.report.style import STYLE
from stepwell.report.text import amount

if TYPE_CHECKING:
    from stepwell.doctor.diagnose import Diagnosis

__all__ = ["findings_page", "page", "write_page"]

_STYLE = (
    STYLE
    + """
.finding { padding: 14px 18px 8px; margin-bottom: 14px; border-left: 4px solid var(--warn); }
.finding.blocker { border-left-color: var(--bad); } .finding.note { border-left-color: var(--line); }
.finding h3 { font-size: 16px; margin: 0 0 2px; overflow-wrap: anywhere; }
.finding h3 + p { margin: 0 0 8px; }
.finding figure { padding: 4px 0 10px; max-width: 640px; }
.facts th { width: 110px; }
.tile.main b { font-size: 25px; line-height: 1.25; }
"""
)


def write_page(diagnosis: Diagnosis, path: Path, *, repair: Repair | None = None) -> Path:
    """Write the page of a diagnosis.

    Args:
        path: of the file, in a folder that is there.
        repair: what was applied, if it shall be told.

    Raises:
        RunFolderError: it can't be written there.
    """
    return _write(path, page(diagnosis, pictures(diagnosis.bench), repair=repair))


def write_findings_page(findings: Sequence[Finding], path: Path, *, title: str) -> Path:
    """Write a page of findings alone, as the records of a run give them."""
    return _write(path, findings_page(findings, title=title))


def page(diagnosis: Diagnosis, drawn: Sequence[Picture], *, repair: Repair | None = None) -> str:
    """The page as text.

    Args:
        drawn: pictures of the diagnosis; each stands with the first finding that it is evidence for, else below.
    """
    figures = {picture.name: _figure(picture) for picture in drawn}
    placed: set[str] = set()
    cards = []
    for finding in diagnosis.findings:
        name = EVIDENCE.get(finding.id, "curves")
        name = name if name in figures else "curves"
        shown = figures.get(name, Html("")) if name not in placed else Html("")
        placed.add(name)
        cards.append(_card(finding, shown))
    rest = [tag("div", figure, class_="card") for name, figure in figures.items() if name not in placed]
    body = tag(
        "main",
        _header(diagnosis.findings),
        _tiles(diagnosis),
        *([tag("h2", "Findings"), *cards] if cards else []),
        _repair(repair),
        _advice(diagnosis),
        *([tag("h2", "Pictures"), tag("div", *rest, class_="curves")] if rest else []),
        _asked(diagnosis),
        _footer(),
    )
    return document("Diagnosis · stepwell", _STYLE, body)


def findings_page(findings: Sequence[Finding], *, title: str) -> str:
    """A page of findings without pictures."""
    cards = [_card(finding, Html("")) for finding in findings]
    body = tag("main", _header(findings), tag("p", title, class_="note"), *cards, _footer())
    return document("Diagnosis · stepwell", _STYLE, body)


def _write(path: Path, text: str) -> Path:
    try:
        write_bytes(path, text.encode("utf-8", errors="replace"))
    except (OSError, RunFolderError) as error:
        reason = error.what if isinstance(error, RunFolderError) else f"{path} can't be written: {error.strerror or error}"
        raise RunFolderError(reason, expected="a place that can be written", fix="Give another path") from error
    return path


def _header(findings: Sequence[Finding]) -> Html:
    told = [finding for finding in findings if finding.severity != "note"]
    mood = "good" if not told else "bad" if told[0].severity == "blocker" else "warn"
    badge = "healthy" if not told else "nothing is learnt" if mood == "bad" else "something is wrong"
    return tag("header", tag("h1", "Diagnosis"), tag("span", badge, class_=f"badge {mood}"), tag("p", verdict(findings)))


def _tiles(diagnosis: Diagnosis) -> Html:
    setup, first = diagnosis.setup, next((one for one in diagnosis.findings if one.severity != "note"), None)
    num_parameters = sum(part.numel() for part in setup.model.parameters())
    planned = f"{amount(setup.epochs, 'epoch')} of {amount(setup.steps_per_epoch, 'step')}, batches of {setup.batch_size}"
    if not diagnosis.whole:
        planned += f"; of these the first {diagnosis.bench.trial_steps:,} were tried"
    tiles = [
        (
            "first finding",
            first.id.replace("_", " ") if first else "none",
            f"confidence {first.confidence:.0%}" if first else "nothing is wrong",
        ),
        ("training rows", f"{setup.train.num_there:,}", f"{num_parameters:,} parameters"),
        ("planned", amount(setup.num_steps, "step"), planned),
        ("asked in", f"{diagnosis.seconds:.1f} s", f"of the CPU, {amount(diagnosis.num_steps, 'step')} of trials"),
    ]
    made = [
        tag(
            "div",
            tag("span", label),
            tag("b", value),
            tag("span", note),
            class_="tile main" if label == "first finding" else "tile",
        )
        for label, value, note in tiles
    ]
    return tag("div", *made, class_="tiles")


def _card(finding: Finding, figure: Html) -> Html:
    rows: list[tuple[str, object]] = [
        ("seen", finding.symptom),
        ("cause", finding.cause),
        ("remedy", finding.remedy.text),
        ("line", tag("code", finding.remedy.line) if finding.remedy.line else ""),
        ("in a job", tag("code", job_text(finding.remedy.job)) if finding.remedy.job else ""),
        ("tried", tried_text(finding)),
        ("numbers", _numbers(finding)),
    ]
    body = [tag("tr", tag("th", name), tag("td", value)) for name, value in rows if value]
    return tag(
        "div",
        tag("h3", finding.id),
        tag("p", f"confidence {finding.confidence:.0%}", class_="note"),
        figure,
        tag("table", tag("tbody", *body), class_="facts"),
        class_=f"card finding {finding.severity}",
    )


def _numbers(finding: Finding) -> Html:
    known = [(name, value) for name, value in finding.evidence.items() if value is not None]
    return join(
        *(
            join(name.replace("_", " "), " ", tag("b", value_text(value)), "" if place == len(known) - 1 else " · ")
            for place, (name, value) in enumerate(known)
        )
    )


def _repair(repair: Repair | None) -> Html:
    if repair is None:
        return Html("")
    rows = [("applied", f"{step}. {step.verified}") for step in repair.steps]
    rows += [("in all", str(repair.verified))] if len(repair.steps) > 1 else []
    rows += [] if repair.steps else [("applied", "nothing that helps")]
    rows += [("in the job", job_text(repair.job))] if repair.job else []
    rows += [("left", item) for item in repair.left]
    body = [tag("tr", tag("th", name), tag("td", text)) for name, text in rows]
    return join(tag("h2", "Repair"), tag("div", tag("table", tag("tbody", *body), class_="facts"), class_="card"))


def _advice(diagnosis: Diagnosis) -> Html:
    if not diagnosis.advice:
        return Html("")
    rows = [tag("tr", tag("th", finding.id.replace("_", " ")), tag("td", advice_text(finding))) for finding in diagnosis.advice]
    return join(tag("h2", "What may be tried next"), tag("div", tag("table", tag("tbody", *rows), class_="facts"), class_="card"))


def _asked(diagnosis: Diagnosis) -> Html:
    asked = ", ".join(STAGE_WORDS.get(name, name) for name in diagnosis.asked)
    left_out = f" Left out of the job: {', '.join(diagnosis.notes)}." if diagnosis.notes else ""
    return join(tag("h2", "Asked"), tag("div", tag("p", f"In this order: {asked}.{left_out}"), class_="card"))


def _footer() -> Html:
    return tag("footer", "Written by stepwell. The page loads nothing and runs nothing; what was tried was tried on copies.")


def _figure(picture: Picture) -> Html:
    light, dark = _data(png(picture, LIGHT)), _data(png(picture, DARK))
    image = tag(
        "picture",
        tag("source", media="(prefers-color-scheme: dark)", srcset=dark),
        tag("img", src=light, alt=picture.description),
    )
    return tag("figure", image, tag("figcaption", picture.note) if picture.note else "")


def _data(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
