"""The mutation tool changes what a test should notice, leaves the rest alone, and tells living mutants from dead ones."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from benchmarks.mutants import mutants

from benchmarks import mutants as finder
from benchmarks import mutation

ROOT = Path(__file__).parents[2]


def changed(source: str) -> list[str]:
    """The changed lines of a file's mutants."""
    return [mutant.after for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = a + b", ["x = a - b"]),
        ("x = a - b", ["x = a + b"]),
        ("x = a * b / c", ["x = a / b / c", "x = a * b * c"]),
        ("x = (a) ** (b)", ["x = (a) * (b)"]),
        ("x += a", ["x -= a"]),
        ("x = a < b <= c", ["x = a <= b <= c", "x = a < b < c"]),
        ("x = a > b", ["x = a >= b"]),
        ("x = a == b", ["x = a != b"]),
        ("x = a is not b", ["x = a is b"]),
        ("x = a not in b", ["x = a in b"]),
        ("x = a and b or c", ["x = a or b or c", "x = a and b and c"]),
        ("x = not a", ["x = a"]),
        ("x = -a", ["x = +a"]),
        ("x = 7", ["x = 8"]),
        ("x = 0.5", ["x = 1.5"]),
        ("x = 1e300", ["x = 2e+300"]),
        ("x = f(low=-1)", ["x = f(low=+1)", "x = f(low=-2)"]),
        (
            "def f(x: float = 0.1, *, y: int = 2): ...",
            ["def f(x: float = 1.1, *, y: int = 2): ...", "def f(x: float = 0.1, *, y: int = 3): ..."],
        ),
        ("x = 'é' if a < b else 'ö'", ["x = 'é' if a <= b else 'ö'"]),
    ],
)
def test_each_kind_of_token_is_changed_alone(line: str, expected: list[str]) -> None:
    assert changed(line) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text with 1 + 2 and x < y."""',
        "x = 'a' + b",
        'x = f"{a + 1:5.2f}"',
        'raise JobError(f"it is {a - 1}", expected="3", fix="write " + str(4))',
        "def f(x: Literal[1, 2]) -> int | None: ...",
        "x: tuple[int, Literal[3]]",
        "Tree = Tensor | dict",
        "Pair = tuple[Literal[1], int]",
        "@technique(id='x', search={'lr': (1e-3, 1.0)})\nclass X: ...",
        "@cached(3)\ndef f(): ...",
        "if TYPE_CHECKING:\n    x = 1",
        "isinstance(x, int | float)",
        "x = a @ b",
        "x = True",
    ],
)
def test_text_types_records_and_errors_are_left_alone(source: str) -> None:
    assert changed(source) == []


@pytest.mark.parametrize("module", [finder, mutation])
def test_the_examples_in_the_tool_hold(module: ModuleType) -> None:
    ran = doctest.testmod(module)
    assert (ran.attempted > 0, ran.failed) == (True, 0)


def test_an_operator_is_found_across_lines_and_beside_comments() -> None:
    source = "x = (\n    a  # less - than\n    < (b)\n)\n"
    [mutant] = mutants(source)
    assert (mutant.line, mutant.before, mutant.after) == (3, "< (b)", "<= (b)")
    assert mutant.applied(source) == source.replace("<", "<=")


def test_every_mutant_of_a_technique_is_python_and_differs_in_one_line() -> None:
    source = (ROOT / "src/stepwell/techniques/schedule/one_cycle.py").read_text(encoding="utf-8")
    found = mutants(source)
    assert len(found) > 30
    for mutant in found:
        text = mutant.applied(source)
        compile(text, "mutant", "exec")
        assert sum(a != b for a, b in zip(source.splitlines(), text.splitlines())) == 1


def test_the_list_of_equivalents_is_read_with_its_reasons() -> None:
    text = "# why\n\ngrad/x.py: a < b => a <= b\n    they are never\n    the same\n"
    assert mutation.equivalents(text) == {("grad/x.py", "a < b", "a <= b"): "they are never the same"}
    with pytest.raises(SystemExit, match="no reason"):
        mutation.equivalents("grad/x.py: a < b => a <= b\n")


def test_the_committed_list_fits_the_techniques() -> None:
    for file, before, after in mutation.equivalents(mutation.read(ROOT / mutation.EQUIVALENTS)):
        found = mutants((ROOT / "src/stepwell/techniques" / file).read_text(encoding="utf-8"))
        assert (before, after) in [(mutant.before, mutant.after) for mutant in found], f"{file} has no such mutant: {after}"


@pytest.mark.parametrize(
    ("node", "belongs"),
    [
        ("tests/contract/test_a.py::test_x[sgd]", True),
        ("tests/contract/test_a.py::test_x[sgd.lr-nan]", True),
        ("tests/contract/test_a.py::test_x[sgd-40 steps]", True),
        ("tests/contract/test_a.py::test_x[lars_sgd]", False),
        ("tests/contract/test_a.py::test_x", False),
    ],
)
def test_contract_tests_are_told_apart_by_the_whole_id(node: str, belongs: bool) -> None:
    assert mutation.Contract("sgd").holds(node) is belongs


TECHNIQUE = '''"""Clamp."""


def clamp(x: float, top: float = 10.0) -> float:
    """At most `top`.

    >>> clamp(12.0)
    10.0
    """
    if x > top:
        return top
    return x + 0


def spin(x: int) -> int:
    while x > 0:
        x -= 1
    return x
'''
TESTS = """from stepwell.techniques.grad.clamp import clamp, spin


def test_a_small_number_stays():
    assert clamp(3.0) == 3.0
    assert spin(3) == 0
"""


def test_a_run_finds_what_lives_what_is_killed_and_what_is_the_same(tmp_path: Path) -> None:
    for folder in ("", "core", "techniques", "techniques/grad"):
        (tmp_path / "src/stepwell" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "src/stepwell" / folder / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "tests/techniques").mkdir(parents=True)
    (tmp_path / "benchmarks").mkdir()
    file = tmp_path / "src/stepwell/techniques/grad/clamp.py"
    file.write_text(TECHNIQUE, encoding="utf-8")
    (tmp_path / "tests/techniques/test_clamp.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--doctest-modules"\n', encoding="utf-8")
    listed = "grad/clamp.py: if x > top: => if x >= top:\n    at x == top both give top\n"
    listed += "grad/clamp.py: return x + 0 => return x + 1\n    wrong: the test notices\n"
    (tmp_path / mutation.EQUIVALENTS).write_text(listed, encoding="utf-8")

    command = [
        sys.executable,
        "-m",
        "benchmarks.mutation",
        "--root",
        str(tmp_path),
        "--list-survivors",
        "--workers",
        "1",
        "--limit",
        "4",
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})

    # 10.0 + 1, x > top as >=, x + 0 as x - 0, 0 + 1; then x > 0 as >=, 0 + 1, x -= 1 as += (which never ends), 1 + 1.
    assert ran.stdout.splitlines()[1].split()[:5] == ["clamp", "7", "6", "1", "1"], ran.stdout + ran.stderr
    assert "- return x + 0\n      + return x - 0" in ran.stdout
    assert "a test notices what benchmarks/mutation_equivalents.txt lists: return x + 0 => return x + 1" in ran.stdout
    assert "1 of 7 mutants live: 14.3%" in ran.stdout
    assert ran.returncode == 1
    assert file.read_text(encoding="utf-8") == TECHNIQUE
