"""Names that try to be markup, formulas or commands: in the page, the card, tables, and on the terminal they are only text."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import html5lib
import pandas
import pytest
from counted import report
from markdown_it import MarkdownIt

from stepwell.cli.errors import explain_failure
from stepwell.core.errors import DataError
from stepwell.core.reports import EvalReport, Event
from stepwell.recipe.verbs import csv_text
from stepwell.report import page as page_module
from stepwell.report.card import card
from stepwell.report.page import write_report
from stepwell.report.progress import ProgressLine
from stepwell.report.tables import comparison, read_run, summary
from stepwell.report.text import aligned

MARK = "PWNED"
SCRIPT = f"document.title='{MARK}'"
PAYLOADS = [
    f"<script>{SCRIPT}</script>",
    f'"><script>{SCRIPT}</script>',
    f"'><img src=x onerror={SCRIPT}>",
    f'<img src=x onerror="{SCRIPT}">',
    f"<svg/onload={SCRIPT}>",
    f"<svg><script>{SCRIPT}</script></svg>",
    f"<svg><animate onbegin={SCRIPT} attributeName=x dur=1s>",
    f"<math><mtext></table><img src onerror={SCRIPT}>",
    f"<body onload={SCRIPT}>",
    f"<details open ontoggle={SCRIPT}>",
    f"<input autofocus onfocus={SCRIPT}>",
    f"<iframe srcdoc='<script>{SCRIPT}</script>'>",
    f"<iframe src=javascript:{SCRIPT}>",
    "<iframe src=//evil.example></iframe>",
    "<object data=//evil.example></object>",
    "<embed src=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x.css';</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><button>x</button></form>",
    f"<a href=javascript:{SCRIPT}>x</a>",
    f"javascript:{SCRIPT}",
    f"data:text/html,<script>{SCRIPT}</script>",
    f"</title><script>{SCRIPT}</script>",
    f"</style><script>{SCRIPT}</script>",
    f"</pre></td></table><script>{SCRIPT}</script>",
    f"--><script>{SCRIPT}</script><!--",
    f"]]><script>{SCRIPT}</script>",
    f"<!--><script>{SCRIPT}</script>",
    f"<![CDATA[<script>{SCRIPT}</script>]]>",
    f"<noscript><p title='</noscript><img src=x onerror={SCRIPT}>'>",
    f"<template><script>{SCRIPT}</script></template>",
    f"<x/onclick={SCRIPT}>",
    f"' onmouseover='{SCRIPT}",
    f'" onmouseover="{SCRIPT}',
    f"` onmouseover=`{SCRIPT}",
    f"x style=animation-name:x onanimationstart={SCRIPT}",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "\\u003cscript\\u003e",
    f"<scr\0ipt>{SCRIPT}</scr\0ipt>",
    f"<\u2028script>{SCRIPT}</script>",
    f"\uff1cscript\uff1e{SCRIPT}",
    "+ADw-script+AD4-",
    "{{7*7}}",
    "${7*7}",
    "<%= 7*7 %>",
    "\u202egpj.exe\u202c",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m\x90x\x9c",
    "a\rb\x08\x08c\x7f",
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-1+1",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    '=HYPERLINK("http://evil.example","x")',
    "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "[x]: http://evil.example 'y'",
    "<http://evil.example>",
    "```\n# x\n```",
    "| a | b |\n|---|---|\n| c | d |",
    "`x` **y** _z_ ~~w~~ \\",
    "# heading\n- list\n1. item\n> quote\n---",
    "https://evil.example/x",
]
WORD = "harmless word"
FIELDS = 15  # at least so many different places of a run's files


def make_run(place: Path, text: str) -> Path:
    """A finished run in which `text` stands wherever a text from elsewhere can stand."""
    name = re.sub(r"[\0/]", "_", text)[:80] or "x"
    folder = place / name
    (folder / "metrics").mkdir(parents=True)
    quoted = '"' + text.replace('"', '""').replace("\n", " ").replace("\r", " ") + '"'
    (folder / "job.yaml").write_text(
        f"data: {{source: digits}}\nmodel: {{name: {json.dumps(text)}}}\n# {text!r}\n", encoding="utf-8"
    )
    manifest = {
        "seed": 3,
        "started": "2026-01-01T00:00:00+00:00",
        "command": ["stepwell", text],
        "base": text,
        "data": {"name": text, text: text, "rows": {text: 3}},
        "hardware": {"machine": text},
        "git": {"branch": text, "commit": text},
        "notes": text,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "metrics" / "train.csv").write_text("step,epoch,loss,lr,grad_norm\n1,1,2,0.1,3\n2,2,1,0.1,2\n", encoding="utf-8")
    rows = f"step,epoch,loss,{quoted}\n1,1,2,0.5\n2,2,1,0.75\n"
    (folder / "metrics" / "validation.csv").write_text(rows, encoding="utf-8")
    events = [
        {"kind": text, "step": 1, "detail": {text: text}},
        {"kind": "failed", "step": 2, "detail": {"error": f"ValueError: {text}", "sample": text, "parameter": text}},
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    result = {
        "stop_reason": text,
        "headline": text,
        "steps": 2,
        "best": {"metric": text, "step": 2, "value": 0.75},
        "metrics": {text: 0.75},
        "test": {text: 0.5},
        "seconds": 4.0,
        "confusion_matrix": [[3, 1], [0, 4]],
        "classes": [text, "other"],
        "derived": [{"path": text, "value": text, "reason": text}],
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures cost most of a report's time, and hold no text of the page."""
    monkeypatch.setattr(page_module, "png", lambda picture, theme: b"png")


def elements(document: str) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every element with its attributes in order, as a browser's parser sees them; the words of `alt` left out."""
    tree = html5lib.parse(document, treebuilder="etree", namespaceHTMLElements=False)
    found = []
    for item in tree.iter():
        attributes = tuple(sorted((str(key), "" if key == "alt" else value) for key, value in item.attrib.items()))
        found.append((str(item.tag), attributes))
    return found


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_the_same_elements_whatever_the_names_are(tmp_path: Path) -> None:
    harmless = write_report(make_run(tmp_path / "0", WORD)).read_text(encoding="utf-8")
    expected, places = elements(harmless), harmless.count(WORD)
    assert places >= FIELDS
    tags = {name for name, _ in expected}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "a", "svg"}
    different = {}
    for number, payload in enumerate(PAYLOADS, 1):
        document = write_report(make_run(tmp_path / str(number), payload)).read_text(encoding="utf-8")
        found = elements(document)
        if found != expected:
            different[payload] = (Counter(found) - Counter(expected), Counter(expected) - Counter(found))
        assert not set(document) & set("\0\x07\x08\x1b\x7f\x90\x9b\x9c\u2028\u202e")
    assert not different
    report("T13 page", floors={"injections": 300}, injections=len(PAYLOADS) * places, payloads=len(PAYLOADS), places=places)


@pytest.mark.usefixtures("undrawn")
def test_the_page_carries_its_policy_and_no_address(tmp_path: Path) -> None:
    document = write_report(make_run(tmp_path, WORD)).read_text(encoding="utf-8")
    policies = [
        dict(attributes) for name, attributes in elements(document) if name == "meta" and dict(attributes).get("http-equiv")
    ]
    assert len(policies) == 1
    assert policies[0]["http-equiv"] == "Content-Security-Policy"
    rules = {rule.split()[0]: rule.split()[1:] for rule in policies[0]["content"].split("; ")}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    assert "script-src" not in rules  # no script: default-src stands
    assert rules["base-uri"] == rules["form-action"] == ["'none'"]
    addresses = [value for _, attributes in elements(document) for key, value in attributes if key in ("src", "srcset", "href")]
    assert all(value.startswith("data:image/png;base64,") for value in addresses)


def test_no_picture_is_written_as_svg_and_no_name_breaks_one(tmp_path: Path) -> None:
    for number, payload in enumerate((r"$\frac{1}{0$", "$x_{", PAYLOADS[0], "\x1b[2J", "\u202egpj")):
        folder = make_run(tmp_path / str(number), payload)
        write_report(folder)
        pictures = [path for path in folder.iterdir() if path.suffix not in (".yaml", ".json", ".jsonl", ".html", "")]
        assert {path.suffix for path in pictures} == {".png"}
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    report("T13 pictures", floors={"injections": 5}, injections=5)


def unsafe(text: str) -> list[str]:
    """Characters that a terminal may obey, or that turn text around."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"]


def test_nothing_reaches_the_terminal_but_printable_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = 0
    for number, payload in enumerate(PAYLOADS):
        run = read_run(make_run(tmp_path / str(number), payload))
        header, *rows = comparison([run, run])
        told = [aligned(summary(run)), aligned(rows, header=header)]
        assert all(len(text.split("\n")) == count for text, count in zip(told, (len(summary(run)), 3), strict=True))
        explain_failure(DataError(payload, expected=payload, fix=payload, where=payload))
        explain_failure(ValueError(payload))
        explain_failure(FileNotFoundError(2, "x", payload))
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 9
        stream = io.StringIO()
        progress = ProgressLine(stream=stream, style="log")
        progress.start(10, 5)
        progress.step({"step": 1, "epoch": 0.1, "loss": 1.0, payload: 1.0})
        progress.evaluated(EvalReport(1, 0.1, {payload: 0.5}))
        progress.event(Event(payload, 1, {payload: payload}))
        progress.note(payload)
        progress.finish()
        told += [errors, stream.getvalue()]
        assert not [text for text in told if unsafe(text)]
        lines += 9
    report("T13 terminal", floors={"injections": 300}, injections=lines)


def test_no_cell_of_a_table_begins_a_formula() -> None:
    cells = 0
    for payload in PAYLOADS:
        text = csv_text(pandas.DataFrame({"class": [payload, "benign", "-5"], payload: [-1.5, 2.0, 3.0], "x": [1, -2, 3]}))
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len(rows) == 4
        for row, expected in zip(rows[1:], (-1.5, 2.0, 3.0), strict=True):
            assert float(row[1]) == expected
        assert rows[2][0] == "benign"
        assert rows[3][0] == "-5"
        for cell in (rows[1][0], rows[0][1]):
            assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
            assert not [c for c in cell if unicodedata.category(c) == "Cc" and c not in "\n\t"]
            cells += 1
    report("T13 tables", floors={"injections": 120}, injections=cells)


def test_the_card_for_reviewers_is_the_same_markdown_whatever_the_names_are(tmp_path: Path) -> None:
    reader = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])

    def shape(text: str) -> list[tuple[str, tuple[Any, ...]]]:
        # A value is a code span or text: which of the two is left open.
        found = elements(reader.render(text))
        return [item for item in found if item[0] != "code"]

    harmless = card(make_run(tmp_path / "0", WORD))
    expected, places = shape(harmless), harmless.count(WORD)
    different = []
    for number, payload in enumerate(PAYLOADS, 1):
        text = card(make_run(tmp_path / str(number), payload))
        assert not unsafe(text)
        if shape(text) != expected:
            different.append(payload)
    assert not different
    report("T13 Markdown", floors={"injections": 300}, injections=len(PAYLOADS) * places)


@pytest.mark.slow
def test_a_browser_shows_the_names_and_runs_or_requests_nothing(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        report("T13 browser", pages=0, skipped_without_browser=1)
        pytest.skip("counted: no headless browser on this machine")

    def rendered(page: Path) -> tuple[str, str]:
        log = tmp_path / "net.json"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--virtual-time-budget=2000", "--dump-dom"]
        shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
        return shown, log.read_text(encoding="utf-8", errors="replace")

    open_page = tmp_path / "open.html"
    open_page.write_text(
        f"<title>x</title>{PAYLOADS[0]}<img src=//evil.example/x.png>".replace("//", "http://"), encoding="utf-8"
    )
    shown, log = rendered(open_page)
    assert f"<title>{MARK}" in shown  # so it would be seen
    assert "evil.example" in log
    thirds = [PAYLOADS[start::3] for start in range(3)]
    for number, payloads in enumerate(thirds):
        folder = make_run(tmp_path / str(number), payloads[0])
        events = [{"kind": payload, "step": 1, "detail": {payload: payload}} for payload in payloads]
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        page = write_report(folder)
        shown, log = rendered(page)
        assert f"<title>{MARK}" not in shown
        assert not re.search(r"<(script|svg|iframe|object|embed|form|base|a)[\s>/]", shown)
        assert elements(shown)[0][0] == "html"
        assert "evil.example" not in log
    report("T13 browser", floors={"pages": 3}, pages=3, payloads=len(PAYLOADS))
