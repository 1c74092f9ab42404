"""The public names and verbs, frozen: adding or dropping one is a decision, and shows up here."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stepwell

PACKAGE = Path(__file__).parents[2] / "src" / "stepwell"
PUBLIC = [
    "Batch",
    "Classifier",
    "Job",
    "Recipe",
    "Regressor",
    "TrainStep",
    "__version__",
    "audit",
    "check",
    "diagnose",
    "diff",
    "evaluate",
    "explain",
    "export",
    "find_lr",
    "fit",
    "import_weights",
    "model",
    "predict",
    "replay",
    "resume",
    "runs",
    "schedule",
    "techniques",
    "train",
    "verify",
    "write_card",
    "write_report",
]
VERBS = {"train", "resume", "evaluate", "predict", "explain", "schedule", "check", "report", "techniques"}
VERBS |= {"doctor", "find-lr", "verify", "replay", "diff", "audit", "runs", "export", "import"}


def test_the_public_names_are_these() -> None:
    assert sorted(stepwell.__all__) == PUBLIC
    assert dir(stepwell) == sorted(stepwell.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_reached_and_says_what_it_is(name: str) -> None:
    value = getattr(stepwell, name)
    assert name == "__version__" or (value.__doc__ or "").strip(), f"stepwell.{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no 'fitt'.*fit"):
        _ = stepwell.fitt


def test_the_names_for_type_checkers_are_the_names_found_at_run_time() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    static = {(alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert static - {("techniques", "stepwell")} == {(name, home) for name, home in stepwell._HOMES.items()}


def test_no_public_name_is_shadowed_by_a_part_of_the_package() -> None:
    parts = {path.stem for path in PACKAGE.iterdir()}
    assert parts & set(stepwell.__all__) == {"techniques"}


def test_the_verbs_of_the_command_line_are_these() -> None:
    shown = subprocess.run([sys.executable, "-m", "stepwell.cli.main", "--help"], capture_output=True, text=True, check=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.stdout)
    listed = set(re.findall(r"^[\s│|]*([a-z][a-z-]+)(?: {2,}|\s*[│|])", plain.split("Commands", 1)[-1], flags=re.MULTILINE))
    assert listed & VERBS == VERBS
    assert listed <= VERBS | {"help"}


def test_each_technique_file_offers_its_class_and_names_what_is_public() -> None:
    from stepwell.core.catalog import discover

    for record in discover().values():
        module = importlib.import_module(record.factory.__module__)
        assert record.factory.__name__ in module.__all__
        assert all(hasattr(module, name) for name in module.__all__)


def test_a_public_name_of_the_techniques_belongs_to_one_file() -> None:
    homes: dict[str, list[str]] = {}
    for path in (PACKAGE / "techniques").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                for name in ast.literal_eval(node.value):
                    homes.setdefault(name, []).append(path.name)
    assert not {name: files for name, files in homes.items() if len(files) > 1}
