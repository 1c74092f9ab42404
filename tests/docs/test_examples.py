"""The examples run, each in seconds: jobs with a shortened budget, scripts as they are."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.cli.main import main

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHORT = {
    "digits.yaml": "2 epochs",
    "breast_cancer.yaml": "2 epochs",
    "char_lm.yaml": "3 steps",
    "series.yaml": "1 epoch",
    "own_model.yaml": "2 epochs",
}
SCRIPTS = ("fit_tensors.py", "own_loop.py", "doctor.py")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples with their data, in a folder of their own beside the licence that one of them reads."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("data", "__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    arguments = sys.argv
    try:
        sys.argv = ["make_data.py"]
        runpy.run_path(str(folder / "examples" / "make_data.py"), run_name="__main__")
    finally:
        sys.argv = arguments
    return folder


def files_of_a_run(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} & {"job.yaml", "manifest.json", "model", "report.html"}


@pytest.mark.parametrize("job", sorted(SHORT.keys() - {"own_model.yaml"}))
def test_an_example_job_trains(job: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", f"examples/{job}", "--set", f"budget={SHORT[job]}", "--out", str(out)])
    assert ended.value.code == 0
    assert len(files_of_a_run(out)) == 4


def test_a_job_with_a_model_of_one_s_own_trains(checkout: Path, tmp_path: Path) -> None:
    # In a process of its own: the name that it registers shall not be there for other tests.
    job = ["examples/own_model.yaml", "--import", "examples/own_model.py", "--set", f"budget={SHORT['own_model.yaml']}"]
    command = [sys.executable, "-m", "stepwell.cli.main", "train", *job, "--out", str(tmp_path / "run")]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(files_of_a_run(tmp_path / "run")) == 4


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_script_runs_and_reports(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_example_is_run_by_a_test() -> None:
    jobs = {path.name for path in EXAMPLES.glob("*.yaml")}
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert jobs == set(SHORT)
    assert scripts == {*SCRIPTS, "make_data.py", "own_model.py"}
