"""What the pages show works: Python blocks run, YAML blocks are jobs, commands and links exist."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What a YAML block leaves out is taken from this job; a block is a job as soon as it holds one of its keys.
BASE = {
    "data": {"source": "digits"},
    "model": {"name": "mlp"},
    "task": "classification",
    "recipe": {"objective": "cross_entropy", "optimizer": {"name": "adamw"}},
    "budget": "1 epoch",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of its first line of text."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    found, inside, language, start, held = [], False, "", 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```") and not inside:
            inside, language, start, held = True, line[3:].strip(), number + 1, []
        elif line.startswith("```"):
            found.append(Block(language, "\n".join(held) + "\n", start))
            inside = False
        elif inside:
            held.append(line)
    assert not inside, f"{page.name} leaves a block open"
    return found


def script(page: Path) -> str:
    """A page's Python blocks as one script, each at its line of the page, so that a traceback names the page's lines."""
    text = ""
    for block in blocks(page):
        if block.language == "python":
            text += "\n" * (block.line - 1 - text.count("\n")) + block.text
    return text


def with_block(language: str) -> list[Path]:
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


def name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", with_block("python"), ids=name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = script(page)
    file = tmp_path / f"{page.stem.replace('-', '_').lower()}_page.py"
    file.write_text(text, encoding="utf-8")
    if "@technique(" in text or "@stepwell.model(" in text:  # what it registers shall not be there for other tests
        ran = subprocess.run([sys.executable, file.name], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    else:
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(file), run_name="__main__")


@functools.cache
def help_of(*verbs: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "stepwell.cli.main", *verbs, "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("page", with_block("yaml"), ids=name)
def test_the_yaml_of_a_page_is_a_job(page: Path) -> None:
    import stepwell
    from stepwell.recipe.values.yaml_reader import parse

    for block in blocks(page):
        if block.language == "yaml":
            given = parse(block.text, lambda line, first=block.line: f"{page.name}:{first + line - 1}")
            assert isinstance(stepwell.Job.from_mapping(BASE | given), stepwell.Job)


@pytest.mark.parametrize("page", with_block("bash"), ids=name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for block in blocks(page):
        if block.language != "bash":
            continue
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["make"]:
                assert set(words[1:]) <= set(targets), line
            if words[:1] == ["stepwell"]:
                verbs = words[1:3] if words[1:3] == ["techniques", "show"] else words[1:2]
                shown = help_of(*verbs)
                assert not [word for word in words if word.startswith("--") and word.split("=")[0] not in shown], line
            if words[:1] and words[0].startswith("examples/"):
                assert (ROOT / words[0]).exists(), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        assert (page.parent / target).exists(), target


def test_what_the_pages_take_from_the_code_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    marked = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marked |= set(re.findall(r"<!-- from the code: (\w+) -->", text))
        assert generate.renewed(text) == text, f"{page.name} is out of date; renew it with: python docs/generate.py"
    assert marked == set(generate.BLOCKS)


def test_the_coverage_page_has_every_row_and_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    numbers = {"A": 12, "B": 16, "C": 4, "D": 10, "E": 12, "F": 12, "G": 10, "H": 6, "I": 6, "J": 5, "K": 6, "L": 7, "M": 7}
    numbers |= {"N": 4, "O": 6, "P": 5}
    expected = {f"{letter}{number}" for letter, count in numbers.items() for number in range(1, count + 1)}
    rows = re.findall(r"^\| ([A-P]\d+) \|", text, flags=re.MULTILINE)
    assert sorted(rows) == sorted(expected)
    unproven = [row for row in text.splitlines() if re.match(r"\| [A-P]\d+ \|", row) and row.endswith("|  |")]
    assert not unproven, "a row that is there names the test that proves it"
    paths = re.findall(r"`((?:tests|src|benchmarks|examples|docs)/[^`:]+)`", text)
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]
