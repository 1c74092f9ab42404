"""Pages and pictures of a diagnosis: whole, self-contained, and deaf to names that try to be markup."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import stepwell
from stepwell.core.errors import RunFolderError
from stepwell.doctor.bench import Bench
from stepwell.doctor.diagnose import Diagnosis
from stepwell.doctor.findings import Finding, Remedy
from stepwell.doctor.looks import activations_of, gradients_of, pattern_of
from stepwell.doctor.page import findings_page, page
from stepwell.doctor.pictures import EVIDENCE, pictures
from stepwell.doctor.setup import setup_of
from stepwell.doctor.told import findings_text, mapping_of, verdict
from stepwell.doctor.trials import Course
from stepwell.report.curves import DARK, LIGHT, png

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style><iframe src=//evil.example>",
    "\x1b[31m \u202e",
)


def bench_of(model: nn.Module | None = None, **changes: Any) -> Bench:
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    rows = (inputs, (inputs[:, 0] > 0).long())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)) if model is None else model
    given: dict[str, Any] = {"loss": nn.CrossEntropyLoss(), "optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 16}
    return Bench(setup_of(model, rows, rows, **{**given, "epochs": 4, "shuffle": True, **changes}))


def finding(text: str, **changes: Any) -> Finding:
    remedy = Remedy(text, job={f"recipe.{text}": text}, line=text)
    return Finding(
        **{"id": text, "confidence": 0.9, "symptom": text, "cause": text, "evidence": {text: [text]}, **changes}, remedy=remedy
    )


def diagnosis_of(bench: Bench, *findings: Finding) -> Diagnosis:
    return Diagnosis(bench.setup, list(findings), ["data", "run"], bench, [], ["mixup"])


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_a_finding_says_is_only_ever_text(payload: str) -> None:
    for text in (page(diagnosis_of(bench_of(), finding(payload)), []), findings_page([finding(payload)], title=payload)):
        elements = Elements()
        elements.feed(text)
        assert not {"script", "iframe", "img"} & set(elements.seen)
        assert not [name for name in elements.attributes if name.startswith("on")]
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_page_holds_all_that_it_shows_and_may_load_nothing(tmp_path: Path) -> None:
    bench = bench_of()
    target = diagnosis_of(bench, finding("lr_too_high")).page(tmp_path / "diagnosis.html")
    text = target.read_text(encoding="utf-8")
    assert "default-src 'none'" in html.unescape(text)
    assert not re.findall(r"(?:src|srcset|href)=\"(?!data:image/png;base64,)", text)
    assert text.count("<figure>") == len(pictures(bench))
    assert "Left out of the job: mixup" in text


def test_a_page_that_cannot_be_written_is_an_error_in_three_parts(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError):
        diagnosis_of(bench_of()).page(tmp_path / "nowhere" / "diagnosis.html")


def test_each_picture_is_drawn_for_light_and_dark_and_says_in_words_what_it_shows() -> None:
    bench = bench_of()
    _ = bench.course(bench.with_rate(0.1))  # another rate was tried
    drawn = {picture.name: picture for picture in pictures(bench)}
    assert list(drawn) == ["curves", "rates", "gradients", "activations", "one_batch"]
    assert set(EVIDENCE.values()) <= set(drawn)
    for picture in drawn.values():
        assert png(picture, LIGHT).startswith(b"\x89PNG")
        assert png(picture, DARK) != png(picture, LIGHT)
        assert picture.description.endswith(".")


def test_a_setup_that_crashes_at_once_has_a_page_without_pictures() -> None:
    bench = bench_of(nn.Linear(3, 2))
    assert pictures(bench) == []
    assert "nothing is learnt" in page(diagnosis_of(bench, finding("target_shape_mismatch", severity="blocker")), [])


def test_the_pattern_of_losses_that_end_in_nan_is_diverging() -> None:
    course = Course(bench_of().setup, losses=[2.0, 1.0, 4.0, float("nan")], nonfinite=4)
    found = pattern_of(course)
    assert (found.pattern, found.first_step) == ("diverging", 4)


def test_gradients_by_layer_are_those_of_the_first_batch() -> None:
    bench = bench_of()
    flow = gradients_of(bench)
    assert flow.names == ["0.weight", "2.weight"]
    model, rows = bench.setup.copied().model, bench.first_batch
    nn.functional.cross_entropy(model(rows.inputs), rows.targets).backward()
    expected = [float(part.grad.norm() / part.detach().norm()) for part in model.parameters() if part.dim() == 2]
    assert flow.before == pytest.approx(expected)


def test_activations_are_looked_at_from_the_start_to_the_end_and_their_shares_add_up() -> None:
    [layer] = activations_of(bench_of())
    assert layer.name == "relu 1"
    assert (layer.steps[0], layer.steps[-1]) == (0, 16)  # 4 epochs of 4 steps
    assert torch.allclose(layer.shares.sum(1), torch.ones(len(layer.steps)), atol=1e-5)
    assert float(layer.edges[0]) <= 0


def test_a_sound_setup_learns_one_batch_and_a_reversed_loss_does_not() -> None:
    sound = bench_of(optimizer={"name": "adam", "lr": 0.05})
    assert sound.one_batch.verdict == "fits"
    (own, *_) = sound.one_batch.attempts
    assert own.learnt is not None
    assert own.learnt >= 0.95
    assert own.losses[-1] < own.losses[0] / 2
    reversed_ = bench_of(loss=lambda outputs, targets: -nn.functional.cross_entropy(outputs, targets))
    assert reversed_.one_batch.verdict == "stuck"
    assert [picture.name for picture in pictures(reversed_) if "stuck" in picture.description] == ["one_batch"]


def test_the_text_tells_each_finding_with_numbers_cause_and_remedy() -> None:
    one = Finding(
        "lr_too_high", 0.9, "it jumps", "steps overshoot", {"lr": 3.0, "rows": [1] * 9}, Remedy("Set it to 1", job={"a.b": 1})
    )
    text = findings_text([one])
    assert text.splitlines()[0] == "lr_too_high (confidence 90%)"
    for words in ("it jumps", "lr 3", "1, 1, 1, 1, 1, 1 and 3 more", "steps overshoot", "Set it to 1", "a.b = 1", "not tried"):
        assert words in text
    assert verdict([]) == "healthy: nothing was found"


def test_a_diagnosis_as_plain_values_is_strict_json() -> None:
    import json

    told = mapping_of(diagnosis_of(bench_of(), finding("x", evidence={"loss": float("inf")})))
    assert json.loads(json.dumps(told, allow_nan=False))["findings"][0]["evidence"] == {"loss": "inf"}


def test_a_diagnosis_prints_as_its_text_without_control_characters() -> None:
    inputs = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    inputs[4, 0] = float("nan")
    given: dict[str, Any] = {"loss": "cross_entropy", "optimizer": "adam", "batch_size": 10, "epochs": 1}
    text = str(stepwell.diagnose(nn.Linear(2, 2), (inputs, torch.zeros(30).long()), **given))
    assert text.startswith("nan_in_inputs (confidence ")
    assert "train rows 4" in text
    assert max(map(len, text.splitlines())) <= 100
