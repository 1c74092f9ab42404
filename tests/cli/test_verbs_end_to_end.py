"""The verbs in the order in which people use them, on a table with categories and gaps."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from table_job import HEADER, JOB, Answer, call, content, row, rows, write

from stepwell.core.catalog import discover
from stepwell.data.split import SplitSpec, split_indices
from stepwell.engine.records.event_log import read_events
from stepwell.engine.trainer import Trainer

SAME = ("model/model.safetensors", "model/model.json", "metrics/train.csv", "metrics/validation.csv")


def same_run(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in SAME)


def predictions(answer: Answer) -> list[dict[str, str]]:
    assert answer.code == 0, answer.err
    return list(csv.DictReader(io.StringIO(answer.out)))


def test_rows_of_the_test_part_never_influence_training(with_run: Path) -> None:
    parts = split_indices(40, SplitSpec(validation=0.2, test=0.2, by="random"), seed=0)

    def train_with(changed: torch.Tensor, out: str) -> Path:
        lines = [row(number) for number in range(40)]
        for number in changed.tolist():
            lines[number] = f"9{number},-5000,purple,{lines[number].split(',')[-1]}"
        (with_run / "credit.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
        assert call("train", "job.yaml", "--out", out, "--quiet").code == 0
        return with_run / out

    other_test = train_with(parts.test, "other-test")
    assert same_run(with_run / "run", other_test)
    tests = [json.loads((folder / "result.json").read_text())["test"] for folder in (with_run / "run", other_test)]
    assert tests[0] != tests[1]
    assert not same_run(with_run / "run", train_with(parts.train[:1], "other-train"))


def test_evaluate_gives_the_numbers_that_training_gave(with_run: Path) -> None:
    before = content(with_run, but=("lock",))
    result = json.loads((with_run / "run" / "result.json").read_text(encoding="utf-8"))
    for part, known in (("test", result["test"]), ("validation", result["metrics"])):
        shown = call("evaluate", "run", "--split", part)
        assert shown.code == 0
        assert f"{part} accuracy  {100 * known['accuracy']:.2f} %" in shown.out
    assert call("evaluate", "run", "--split", "training").mistake()[0] == "the run has no training part"
    assert content(with_run, but=("lock",)) == before


def test_predict_reads_columns_by_name_and_knows_gaps_and_unseen_categories(with_run: Path) -> None:
    (with_run / "known.csv").write_text(HEADER + rows(6), encoding="utf-8")
    known = predictions(call("predict", "run", "known.csv"))
    assert [sorted(item) for item in known] == [["prediction", "probability_no", "probability_yes"]] * 6
    assert all(abs(float(item["probability_no"]) + float(item["probability_yes"]) - 1) < 1e-9 for item in known)
    cells = [row(number).strip().split(",") for number in range(6)]
    shuffled = "colour,note,income,age\n" + "".join(f"{colour},x,{income},{age}\n" for age, income, colour, _ in cells)
    (with_run / "other.csv").write_text(shuffled, encoding="utf-8")
    assert predictions(call("predict", "run", "other.csv")) == known
    (with_run / "strange.csv").write_text("age,income,colour\n30,1200,purple\n30,1200,\n,,\n", encoding="utf-8")
    answer = call("predict", "run", "strange.csv", "--out", "answers.csv")
    warned = answer.err.splitlines()
    assert all(line.startswith("warning: column ") for line in warned)
    assert "'purple'" in warned[-1]
    assert answer.out == "3 predictions in answers.csv\n"
    with open(with_run / "answers.csv", encoding="utf-8") as file:
        strange = list(csv.DictReader(file))
    assert strange[0] == strange[1]  # an unseen category is an unknown one


def test_predict_does_not_look_at_targets(with_run: Path) -> None:
    (with_run / "bare.csv").write_text("age,income,colour\n30,1200,red\n50,1300,blue\n", encoding="utf-8")
    (with_run / "full.csv").write_text(HEADER + "30,1200,red,\n50,1300,blue,maybe\n", encoding="utf-8")
    assert predictions(call("predict", "run", "full.csv")) == predictions(call("predict", "run", "bare.csv"))


def test_predictions_are_the_model_s_own(with_run: Path) -> None:
    (with_run / "new.csv").write_text(HEADER + rows(9), encoding="utf-8")
    shown = predictions(call("predict", "run", "new.csv"))
    from stepwell.recipe.delivered import load_delivered

    delivered = load_delivered(with_run / "run")
    inputs = delivered.preparation.examples_from(with_run / "new.csv").batch(torch.arange(9)).inputs
    with torch.no_grad():
        chances = delivered.model(**inputs).reshape(-1).sigmoid()
    assert [float(item["probability_yes"]) for item in shown] == pytest.approx(chances.tolist(), abs=1e-6)


def test_report_can_be_written_again_and_two_runs_compared(with_run: Path) -> None:
    page = with_run / "run" / "report.html"
    page.unlink()
    shown = call("report", "run")
    assert shown.code == 0
    assert "budget spent" in shown.out
    assert page.is_file()
    shutil.copytree(with_run / "run", with_run / "twin")
    assert "twin" in call("report", "run", "twin").out


def test_resume_of_a_finished_run_changes_neither_weights_nor_metrics(with_run: Path) -> None:
    before = {name: (with_run / "run" / name).read_bytes() for name in SAME}
    result = json.loads((with_run / "run" / "result.json").read_text(encoding="utf-8"))
    assert call("resume", "run", "--quiet").code == 0
    assert {name: (with_run / "run" / name).read_bytes() for name in SAME} == before
    again = json.loads((with_run / "run" / "result.json").read_text(encoding="utf-8"))
    told = ("stop_reason", "steps", "best", "metrics", "test")
    assert [again[name] for name in told] == [result[name] for name in told]


def test_a_longer_budget_goes_on_from_a_finished_run(with_run: Path) -> None:
    assert call("train", "job.yaml", "--out", "long", "--quiet", "--set", "budget=6 epochs").code == 0
    assert call("resume", "run", "--budget", "6 epochs", "--quiet").code == 0
    assert same_run(with_run / "run", with_run / "long")


KILLED = """
import os, signal
from stepwell.engine.records import {module} as module
real = module.{name}
def killing(path, *rest):
    if {part!r} in str(path):
        {half}
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, *rest)
module.{name} = killing
from stepwell.cli.main import main
main(["train", "job.yaml", "--out", "killed", "--quiet"])
"""


@pytest.mark.parametrize(
    ("module", "name", "part", "half"),
    [
        # in the middle of a checkpoint's files, and between two of them with half a line in the metrics
        ("checkpoint", "write_into", "step-9", "open(str(path) + '.half', 'wb').write(b'x' * 99)"),
        ("storage", "flush_folder", "step-9", "open('killed/metrics/train.csv', 'a').write('7,2.33')"),
    ],
)
def test_a_run_that_was_killed_resumes_to_the_same_bits(with_run: Path, module: str, name: str, part: str, half: str) -> None:
    code = KILLED.format(module=module, name=name, part=part, half=half)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (with_run / "killed" / "result.json").exists()
    assert "stepwell resume killed" in call("evaluate", "killed").mistake()[2]
    assert call("resume", "killed", "--quiet").code == 0
    assert same_run(with_run / "run", with_run / "killed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_says_how_to_go_on(
    with_run: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    real = Trainer._after

    def interrupted(self: Trainer, report: Any) -> None:
        real(self, report)
        if report.step == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after", interrupted)
        answer = call("train", "job.yaml", "--out", "cut", "--quiet")
    assert answer.code == code
    what, _, fix = answer.mistake()
    assert "interrupted after step 5" in what
    assert "stepwell resume cut" in fix
    assert (with_run / "cut" / "checkpoints" / "step-5" / "manifest.json").is_file()
    assert call("resume", "cut", "--quiet").code == 0
    assert same_run(with_run / "run", with_run / "cut")


def test_ctrl_c_before_training_began_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = content(here)
    with monkeypatch.context() as patch:
        patch.setattr("stepwell.data.table_source.read_table", interrupted)
        answer = call("train", "job.yaml")
    assert answer.code == 130
    answer.mistake()
    assert content(here) == before


def test_check_and_explain_leave_no_trace(here: Path) -> None:
    before = content(here)
    checked = call("check", "job.yaml")
    assert checked.code == 0
    assert checked.out.splitlines()[-1] == "ready to train for 12 steps"
    explained = call("explain", "job.yaml")
    assert explained.code == 0
    for word in ("bce", "sgd", "12 optimizer steps", "model.outputs"):
        assert word in explained.out
    assert content(here) == before


def test_every_technique_has_a_card() -> None:
    listed = call("techniques")
    for id in discover():
        card = call("techniques", "show", id)
        assert card.code == 0
        assert card.out.startswith(f"{id}  (")
        assert "In a job file" in card.out
        assert id in listed.out
    assert "Known: " in call("techniques", "show", "nothing").mistake()[2]


def test_set_reaches_any_value_of_a_job(here: Path) -> None:
    changes = ["recipe.optimizer.lr=3e-3", "recipe.techniques=[{name: ema, half_life: 5 steps}]"]
    changes += ["recipe.techniques.ema.half_life=2 steps"]
    changes += ["model.hidden=[4, 4]", "split.test=0", "budget=2 steps", "seed=7", "data.drop=[colour]"]
    options = [word for change in changes for word in ("--set", change)]
    assert call("train", "job.yaml", "--out", "run", "--quiet", *options).code == 0
    stored = (here / "run" / "job.yaml").read_text(encoding="utf-8")
    for text in ("lr: 0.003", "half_life: 2 steps", "hidden: [4, 4]", "test: 0", "budget: 2 steps", "seed: 7", "drop: [colour]"):
        assert text in stored
    shapes = [tuple(tensor.shape) for tensor in load_file(here / "run" / "model" / "model.safetensors").values()]
    assert sorted(shape for shape in shapes if len(shape) == 2) == [(1, 4), (4, 3), (4, 4)]  # age, income and its gaps


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("recipe.optimizer.lr", "--set got"),
        ("=3", "--set got"),
        ("recipe.optimizer.lr=", "--set recipe.optimizer.lr: recipe.optimizer.lr is null"),
        ("recipe.optimizer.lr=fast", "--set recipe.optimizer.lr: recipe.optimizer.lr is 'fast'"),
        ("recipe.optimizer.lrr=3", "--set recipe.optimizer.lrr: unknown key 'lrr'"),
        ("recipe.optimiser.lr=3", "--set recipe.optimiser.lr: the path"),
        ("recipe.techniques.mixup.alpha=1", "--set recipe.techniques.mixup.alpha: the path"),
        ("recipe..lr=3", "--set recipe..lr: the path"),
        ("recipe.batch_size=999", "--set recipe.batch_size: batch_size is 999"),
        ("data.path=!!python/name:os.system x", "--set data.path: tag:"),
        ("device=mps", "--set device: device is mps"),
    ],
)
def test_a_wrong_change_is_told_with_its_path(here: Path, change: str, what: str) -> None:
    before = content(here)
    answer = call("train", "job.yaml", "--set", change)
    assert answer.code == 2
    assert answer.mistake()[0].startswith(what)
    assert content(here) == before


OWN_MODEL = Path(__file__).parents[2] / "examples" / "own_model.py"


def test_a_model_of_one_s_own_trains_resumes_evaluates_and_predicts(here: Path) -> None:
    # In a process of its own: the name that it registers shall not be there for other tests.
    code = "\n".join(
        [
            "from table_job import call",
            f"own = ['--import', {str(OWN_MODEL)!r}]",
            "change = ['--set', 'model=gated_mlp', '--set', 'data.drop=[colour]', '--set', 'budget=1 epochs']",
            "assert call('train', 'job.yaml', '--out', 'run', '--quiet', *change).code == 2, 'a job can not name code'",
            "for words in (['train', 'job.yaml', '--out', 'run', '--quiet', *change], ['resume', 'run', '--budget', '2 epochs'],",
            "              ['evaluate', 'run'], ['predict', 'run', 'credit.csv']):",
            "    answer = call(*words, *own)",
            "    assert answer.code == 0, (words, answer)",
        ]
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (None, "own.py", "missing"),
        ("def (:\n", "own.py:1", "SyntaxError"),
        ("x = 1\ny = x / 0\n", "own.py:2", "ZeroDivisionError"),
        ("import stepwell\n@stepwell.model('mlp', kinds=('vector',))\ndef mine(signature): ...\n", "own.py:2", "two models"),
    ],
)
def test_a_file_that_can_not_be_imported_is_told_at_its_line(here: Path, text: str | None, place: str, what: str) -> None:
    if text is not None:
        (here / "own.py").write_text(text, encoding="utf-8")
    answer = call("check", "job.yaml", "--import", "own.py")
    assert answer.code == 2
    assert answer.mistake()[0].startswith(place)
    assert what in answer.mistake()[0]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("stop: {max_time: 0.2 s}\n", "max time of 0.2 s reached"),
        ("target", "target_reached: accuracy"),
        ("patience", "early_stopping: loss has not improved for 2 evaluations"),
    ],
)
def test_the_reason_for_stopping_is_recorded(here: Path, rule: str, reason: str) -> None:
    techniques = {
        "target": "[{name: target_reached, monitor: accuracy, value: 0.1}]",
        "patience": "[{name: early_stopping, monitor: loss, patience: 2}]",
    }
    text = JOB.replace("4 epochs", "100000 epochs").replace("lr: 0.1", "lr: 1.0")
    text += rule if rule.endswith("\n") else ""
    if rule in techniques:
        text = text.replace("  batch_size", f"  techniques: {techniques[rule]}\n  batch_size")
    write(here, job=text)
    assert call("train", "job.yaml", "--out", "run", "--quiet").code == 0
    result = json.loads((here / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["stop_reason"].startswith(reason)
    *_, stopped, finished = read_events(here / "run" / "events.jsonl")
    assert (stopped.kind, finished.kind) == ("stopped", "finished")
    assert stopped.detail["reason"] == finished.detail["reason"] == result["stop_reason"]
    if rule in techniques:  # a rule of the recipe ended it: it stays ended
        before = {name: (here / "run" / name).read_bytes() for name in SAME}
        assert call("resume", "run", "--quiet").code == 0
        assert {name: (here / "run" / name).read_bytes() for name in SAME} == before
        again = json.loads((here / "run" / "result.json").read_text(encoding="utf-8"))
        assert (again["stop_reason"], again["steps"]) == (result["stop_reason"], result["steps"])
