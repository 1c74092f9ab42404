"""The command as people meet it: help that is quick, mistakes in three lines, exit codes, pipes that close."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.cli.main import main

JOB = """\
data: {source: digits}
split: {validation: 0.2, test: 0.2, by: stratified}
model: {name: mlp, hidden: [16]}
task: classification
recipe:
  objective: {name: cross_entropy}
  optimizer: {name: adamw, lr: 3e-3}
  batch_size: 256
budget: 2 epochs
"""
# Not pydantic: where it is installed, the parser itself loads it to read the arguments of a verb.
HEAVY = "{'torch', 'numpy', 'pandas', 'matplotlib', 'sklearn', 'rich', 'yaml', 'torchmetrics'}"


def call(*arguments: str) -> int:
    """The exit code of a command that runs in this process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def three_lines(text: str) -> tuple[str, str, str]:
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "expected", "fix"], text
    what, expected, fix = (line.split(":", 1)[1].strip() for line in lines)
    assert all((what, expected, fix))
    return what, expected, fix


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["techniques", "show", "--help"], ["--version"], ["trian"]]
)
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom stepwell.cli.main import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', sorted({HEAVY} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("verb", ["train", "resume", "evaluate", "predict", "explain", "check", "report", "techniques"])
def test_every_verb_has_help_in_whole_sentences(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [verb]]
    assert line.endswith(".")
    assert not line.endswith("...")  # cut by the parser for being too long
    assert call(verb, "--help") == 0
    assert "Usage: stepwell " + verb in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["train", "explain", "check"])
def test_a_job_s_values_can_be_set_wherever_a_job_is_taken(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    assert "--set PATH=VALUE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["trian", "job.yaml"], "trian"),
        (["train"], "JOB"),
        (["train", "job.yaml", "--bogus"], "--bogus"),
        (["train", "job.yaml", "--set"], "--set"),
        (["train", "job.yaml", "second.yaml"], "second.yaml"),
        (["techniques", "show"], "ID"),
        (["techniques", "show", "mixpu"], "mixpu"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "job.yaml", "--set", "recipe.optimizer.lrr=1"], "lrr"),
        (["train", "job.yaml", "--import", "nowhere.py"], "nowhere.py"),
        (["resume", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "new.csv"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_three_lines_and_exit_code_2(
    arguments: list[str], part: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    what, _, _ = three_lines(shown.err)
    assert part in what
    assert shown.out == ""
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())


def test_a_mistake_in_a_job_is_told_with_its_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "job.yaml").write_text(JOB.replace("batch_size", "batchsize"), encoding="utf-8")
    assert call("explain", "job.yaml") == 2
    what, _, fix = three_lines(capsys.readouterr().err)
    assert what.startswith("job.yaml:8: ")
    assert "batch_size" in fix


def test_debug_shows_the_traceback_and_without_it_there_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "nowhere.yaml") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert call("train", "nowhere.yaml", "--debug") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    three_lines("\n".join(shown.splitlines()[-3:]))


def test_the_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 2
    assert "Commands:" in capsys.readouterr().err


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    import stepwell

    assert call("--version") == 0
    assert capsys.readouterr().out == f"stepwell {stepwell.__version__}\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "stepwell.cli.main", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_on_a_full_disk_is_told_in_three_lines(unbuffered: str) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "stepwell.cli.main", "--help"]
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        shown = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert shown.returncode == 2
    what, _, fix = three_lines(shown.stderr)
    assert what == "No space left on device"
    assert "Free some space" in fix


def test_a_terminal_of_few_letters_gets_an_answer_all_the_same(here: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "stepwell.cli.main", "report", "jöb"]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=here)
    assert shown.returncode == 2
    assert three_lines(shown.stderr)[0] == "there is no folder j?b"


def test_training_prints_the_result_the_report_and_three_commands_that_exist(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", "job.yaml", "--set", "seed=4") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    result = json.loads((here / "runs" / "job-1" / "result.json").read_text(encoding="utf-8"))
    assert lines[0].startswith(f"test accuracy {100 * result['test']['accuracy']:.2f} %")
    assert lines[1] == f"{result['steps']} steps, {result['stop_reason']}"
    assert lines[2] == "report: runs/job-1/report.html"
    assert (here / "runs" / "job-1" / "report.html").is_file()
    commands = [line.strip() for line in lines if line.startswith("  stepwell ")]
    assert len(commands) == 3
    assert commands[0] == "stepwell train job.yaml --set seed=4 --set seed=5"
    assert shown.err.splitlines()[0].startswith("training for ")
    assert "\r" not in shown.err


def test_each_training_gets_a_folder_of_its_own_and_quiet_says_only_the_result(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert call("train", "job.yaml", "--quiet", "--set", "budget=1 steps") == 0
    shown = capsys.readouterr()
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["job-1", "job-2"]
    assert shown.err == ""
    assert len(shown.out.splitlines()) == 6


def test_an_interrupted_training_says_how_to_go_on_and_going_on_finishes_it(here: Path) -> None:
    command = [sys.executable, "-m", "stepwell.cli.main", "train", "job.yaml", "--out", "run", "--set", "budget=100000 epochs"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait() == 143
    _, _, fix = three_lines("\n".join(rest.splitlines()[-3:]))
    assert "stepwell resume run" in fix
    assert call("resume", "run", "--max-time", "0.01 s", "--quiet") == 0
    assert (here / "run" / "result.json").is_file()
