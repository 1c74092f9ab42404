"""Imports point only downward: the order of the layers in docs/the-step.md, read from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "stepwell"
LAYERS = (
    {"core"},
    {"techniques", "data", "models", "parallel", "precision"},
    {"engine"},
    {"recipe", "presets"},  # one layer in two folders: files of recipes, and what reads them
    {"report"},  # how findings look, too: what finds them stands above
    {"doctor", "study", "language"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# The catalog names the package of the techniques once, to find them; it knows none of them.
DISCOVERY = ("stepwell.core.catalog", "stepwell.techniques")


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every stepwell module that a file imports: at the top, inside functions, for type checking, or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: None if is_package else -1]
            start = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield str(name.value)


def first_party_imports(package: Path) -> list[tuple[str, str]]:
    pairs = []
    for path in sorted(package.rglob("*.py")):
        module = module_name(path, package)
        if module == "stepwell":  # the public names, looked up lazily, stand above every layer
            continue
        for name in imported_by(ast.parse(path.read_text(encoding="utf-8")), module, path.name == "__init__.py"):
            if name.split(".")[0] == "stepwell" and name != "stepwell.__version__":
                pairs.append((module, name))
    return pairs


def complaint(importer: str, imported: str) -> str | None:
    """Why an import is not allowed, or None."""
    if (importer, imported) == DISCOVERY:
        return None
    above, below = importer.split(".")[1], [*imported.split("."), ""][1]
    if below not in LEVEL:
        return f"{importer} imports {imported}, which is in no layer"
    if above == "techniques" == below:
        return None if importer.count(".") == 1 else f"{importer} imports a sibling technique: {imported}"
    if above == below or {above, below} == LAYERS[3] or LEVEL[below] < LEVEL[above]:
        return None
    return f"{importer} (layer {LEVEL[above]}) imports {imported} (layer {LEVEL[below]})"


def test_imports_only_point_down() -> None:
    wrong = [text for importer, imported in first_party_imports(PACKAGE) if (text := complaint(importer, imported))]
    assert not wrong, "\n".join(wrong)


def test_every_part_of_the_package_belongs_to_a_layer() -> None:
    parts = {path.name if path.is_dir() else path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert parts - {"__init__", "__main__", "__pycache__", "py"} <= set(LEVEL)


def test_core_imports_torch_and_the_standard_library_only() -> None:
    import sys

    allowed = set(sys.stdlib_module_names) | {"torch", "stepwell"}
    for path in sorted((PACKAGE / "core").glob("*.py")):
        names = imported_by(ast.parse(path.read_text(encoding="utf-8")), module_name(path, PACKAGE), path.name == "__init__.py")
        assert {name.split(".")[0] for name in names} <= allowed, path.name


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("stepwell.core.batch", "stepwell.engine.train_step.TrainStep"),
        ("stepwell.techniques.average.ema", "stepwell.techniques.average.swa.Swa"),
        ("stepwell.techniques.average.ema", "stepwell.techniques.Swa"),
        ("stepwell.techniques.batch.mixup", "stepwell.data.table"),
        ("stepwell.engine.trainer", "stepwell.recipe.job.Job"),
        ("stepwell.recipe.verbs", "stepwell.report.page.write_report"),
        ("stepwell.cli.main", "stepwell.secret.door"),
    ],
)
def test_an_import_that_points_up_or_sideways_is_reported(importer: str, imported: str) -> None:
    assert complaint(importer, imported) is not None


@pytest.mark.parametrize(
    "source",
    [
        "from stepwell.engine import train_step",
        "import stepwell.engine.train_step",
        "def f():\n    from stepwell.engine import train_step",
        "from ..engine import train_step",
        "import importlib\nimportlib.import_module('stepwell.engine.train_step')",
        "if TYPE_CHECKING:\n    from stepwell.engine import train_step",
    ],
)
def test_an_import_is_seen_however_it_is_written(source: str) -> None:
    found = list(imported_by(ast.parse(source), "stepwell.core.clock", False))
    assert "stepwell.engine.train_step" in found
