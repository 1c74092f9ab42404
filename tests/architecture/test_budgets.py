"""Budgets of size: a change that pushes a file or a function over one splits it, or deletes something."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

from stepwell.core.catalog import discover
from stepwell.core.slots import SLOTS

PACKAGE = Path(__file__).parents[2] / "src" / "stepwell"
MEDIAN_FILE, LONGEST_FILE = 150, 500
LONGEST_FUNCTION, LONGEST_STEP = 60, 80
MOST_ARGUMENTS = 10
MOST_SLOTS = 8
# Records that the engine or a job file fills in, field by field with their names: nobody calls them with a dozen arguments.
RECORDS = {"Job", "StepReport", "Logged"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> dict[str, str]:
    return {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the end, the docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def num_constructor_arguments(node: ast.ClassDef) -> int:
    """Arguments of a class's constructor, self left out: of its __init__, or of the one a dataclass is given."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args
            return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
    if any("dataclass" in ast.unparse(decorator) or "technique" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [
            item for item in node.body if isinstance(item, ast.AnnAssign) and "ClassVar" not in ast.unparse(item.annotation)
        ]
        return sum(1 for item in fields if item.value is None or "init=False" not in ast.unparse(item.value))
    return 0


def test_half_of_the_files_have_at_most_150_lines() -> None:
    lengths = [text.count("\n") for name, text in sources().items() if not name.endswith("__init__.py")]
    assert statistics.median(lengths) <= MEDIAN_FILE


def test_no_file_has_more_than_500_lines() -> None:
    assert not {name: lines for name, text in sources().items() if (lines := text.count("\n")) > LONGEST_FILE}


def test_no_function_has_more_than_60_lines_but_the_step_which_may_have_80() -> None:
    long = {}
    for name, text in sources().items():
        budget = LONGEST_STEP if name == "engine/train_step.py" else LONGEST_FUNCTION
        long |= {f"{name}:{function.name}": length(function) for function in functions(text) if length(function) > budget}
    assert not long


def test_no_constructor_has_more_than_10_arguments() -> None:
    wide = {}
    for name, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name not in RECORDS and num_constructor_arguments(node) > MOST_ARGUMENTS:
                wide[f"{name}:{node.name}"] = num_constructor_arguments(node)
    assert not wide


def test_there_are_at_most_8_slots_and_every_technique_is_in_one() -> None:
    assert len(SLOTS) <= MOST_SLOTS
    assert {record.slot for record in discover().values()} <= set(SLOTS)


def test_the_measures_see_what_they_should() -> None:
    body = "\n".join("    x = 1" for _ in range(60))
    assert [length(function) for function in functions(f"def f():\n{body}\n")] == [61]
    plain = "class A:\n    def __init__(self, a, b, *, c): ...\n"
    data = "@dataclass\nclass B:\n    x: int\n    y: int = 2\n    z: ClassVar[int] = 3\n"
    classes = [node for node in ast.parse(plain + data).body if isinstance(node, ast.ClassDef)]
    assert [num_constructor_arguments(node) for node in classes] == [3, 2]
