"""The wheel and the sdist hold what a stranger needs: installed into an empty environment, a job trains there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOB = """
data: {source: digits}
model: {name: mlp, hidden: [16]}
task: classification
recipe: {objective: cross_entropy, optimizer: {name: adamw, lr: 3e-3}, batch_size: 64}
budget: 2 epochs
"""


def run(*command: object, cwd: Path) -> str:
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ran = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, env=outside)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel built from it; made from a copy, since building writes beside the source."""
    copy, folder = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "build", "--outdir", folder, copy, cwd=folder)
    return folder


@pytest.mark.slow
def test_the_wheel_and_the_sdist_hold_the_package_its_types_and_its_licence(built: Path) -> None:
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "stepwell").rglob("*.py")}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert sources | {"stepwell/py.typed"} <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {f"src/{name}" for name in sources} | {"LICENSE", "README.md", "pyproject.toml"} <= names


@pytest.mark.slow
def test_the_wheel_installs_and_trains_outside_the_checkout(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin = tmp_path / "venv" / "bin"
    run(bin / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    (tmp_path / "job.yaml").write_text(JOB, encoding="utf-8")
    place = run(bin / "python", "-c", "import stepwell; print(stepwell.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(tmp_path)
    run(bin / "stepwell", "train", "job.yaml", "--out", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
    run(bin / "stepwell", "evaluate", "run", cwd=tmp_path)
