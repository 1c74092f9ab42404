"""The page: whole, self-contained, and deaf to whatever names try to be markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stepwell.report import page as page_module
from stepwell.report.page import write_report

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></pre><iframe src=//evil.example>",
    "<!-- --><svg/onload=alert(1)>",
    "&lt;b&gt; ]]> \u2028 \u202e \x1b[31m",
    "javascript:alert(1)",
]
STRUCTURE = "html head meta title style body main header h1 h2 span p div b section footer"
CONTENT = "figure figcaption picture source img table thead tbody tr th td code br pre details summary"
KNOWN = {*STRUCTURE.split(" "), *CONTENT.split(" ")}
KNOWN_ATTRIBUTES = {
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "lang",
    "media",
    "srcset",
    "src",
    "alt",
    "scope",
    "style",
}


class Reader(HTMLParser):
    """Elements, attributes and text as a browser's tokenizer sees them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open
    return reader


def make_run(folder: Path, *, name: str = "accuracy", finished: bool = True) -> Path:
    """A run folder by hand; `name` stands wherever a name from data can stand."""
    (folder / "metrics").mkdir(parents=True)
    quoted = '"' + name.replace('"', '""') + '"'
    (folder / "job.yaml").write_text(f"data: {{source: digits}}\nnote: {name!r}\n", encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps({"seed": 3, "started": name, "data": {name: name}}), encoding="utf-8")
    (folder / "metrics" / "train.csv").write_text("step,epoch,loss,lr,grad_norm\n1,1,2,0.1,3\n2,2,1,0.1,2\n", encoding="utf-8")
    validation = f"step,epoch,loss,{quoted}\n1,1,2,0.5\n2,2,1,0.75\n"
    (folder / "metrics" / "validation.csv").write_text(validation, encoding="utf-8")
    event = {"kind": name, "step": 1, "detail": {name: name}}
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    result = {
        "stop_reason": name,
        "steps": 2,
        "best": {"metric": name, "step": 2, "value": 0.75},
        "metrics": {name: 0.75},
        "test": {name: 0.5},
        "seconds": 4.0,
        "confusion_matrix": [[3, 1], [0, 4]],
        "classes": [name, "other"],
        "derived": [{"path": name, "value": name, "reason": name}],
    }
    if finished:
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures cost most of a report's time; where a test is about the page's text, any bytes stand for them."""
    monkeypatch.setattr(page_module, "png", lambda picture, theme: picture.name.encode() + theme.background.encode())


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_how_good_the_model_is_and_how_the_run_ended(tmp_path: Path) -> None:
    run = make_run(tmp_path / "digits-1")
    result = json.loads((run / "result.json").read_text(encoding="utf-8")) | {"stop_reason": "budget spent"}
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    page = write_report(run)
    assert page == run / "report.html"
    text = " ".join(read(page).text)
    for expected in ("digits-1", "budget spent", "test accuracy", "50.00 %", "75.00 %", "Confusion matrix", "source: digits"):
        assert expected in text


def test_every_picture_is_in_the_folder_and_in_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    reader = read(write_report(run))
    assert sorted(path.name for path in run.glob("*.png")) == [
        "gradient_norm.png",
        "learning_rate.png",
        "loss.png",
        "validation.png",
    ]
    sources = [value for name, value in reader.attributes if name in ("src", "srcset")]
    assert len(sources) == 8  # light and dark
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert all(value for name, value in reader.attributes if name == "alt")


@pytest.mark.usefixtures("undrawn")
def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "a"))
    reader = read(page)
    policies = [value for name, value in reader.attributes if name == "content" and "default-src" in value]
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    ]
    assert not set(reader.elements) & {"script", "link", "iframe", "object", "form", "base", "a"}
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page.read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//|url\(|@import", without_pictures)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_name_becomes_markup(tmp_path: Path, payload: str) -> None:
    folder = tmp_path / (payload.replace("/", "").replace("\x1b", "") or "x")[:60]
    reader = read(write_report(make_run(folder, name=payload)))
    assert set(reader.elements) <= KNOWN
    assert {name for name, _ in reader.attributes} <= KNOWN_ATTRIBUTES
    assert {value for name, value in reader.attributes if name == "style"} <= {"--share: 0.750", "--share: 1.000"}
    text = "".join(reader.text)
    visible = re.sub("[\x1b\u2028\u202e]", "\ufffd", payload)
    assert text.count(visible) >= 12  # shown as written, wherever a name stands
    assert not set(text) & {"\x1b", "\u2028", "\u202e"}


@pytest.mark.parametrize(
    "broken", [[[1, 2]], [[1, -1], [0, 1]], [["a", "b"], [1, 2]], [[1]], "x", [[1, 2], [3]], [[float("nan"), 1], [1, 1]]]
)
@pytest.mark.usefixtures("undrawn")
def test_what_is_no_confusion_matrix_is_not_shown_as_one(tmp_path: Path, broken: object) -> None:
    run = make_run(tmp_path / "a")
    (run / "result.json").write_text(json.dumps({"steps": 2, "confusion_matrix": broken}), encoding="utf-8")
    assert "Confusion matrix" not in "".join(read(write_report(run)).text)


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_was_cut_off_gets_a_page_that_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    text = "".join(read(write_report(make_run(tmp_path / "my run", finished=False))).text)
    assert "unfinished" in text
    assert f"stepwell resume '{tmp_path}/my run'" in text


def test_a_run_that_has_logged_nothing_gets_a_page(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("budget: 1 epochs\n", encoding="utf-8")
    assert "Nothing has been logged yet." in "".join(read(write_report(tmp_path)).text)


@pytest.mark.usefixtures("undrawn")
def test_steps_that_were_not_finite_are_said_on_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (run / "metrics" / "train.csv").write_text("step,loss\n1,2\n2,nan\n3,inf\n", encoding="utf-8")
    assert "loss was not finite at 2 logged steps" in "".join(read(write_report(run)).text)


def test_a_report_can_be_written_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not list(run.glob(".*"))


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_can_not_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "a")
    old = write_report(run).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert (run / "report.html").read_bytes() == old
    assert not list(run.glob(".*"))
