"""Rules of the house that the source must keep, and that a reader can check by eye only in a small package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepwell.core.catalog import discover

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "stepwell"


def trees(*skipped: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name.split("/")[0] not in skipped:
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    return ((ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def pickle_uses(tree: ast.AST) -> list[str]:
    """Everything in a file that would read or write a pickle."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [
            name
            for name in names
            if name.split(".")[0] in ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
        ]
    for name, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.save" or (name == "torch.load" and keywords.get("weights_only") != "True"):
            found.append(name)
        if name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
            found.append(name)
        if name.endswith((".read_pickle", ".to_pickle")):
            found.append(name)
    return found


OF_OS = ("replace", "rename", "mkdir", "makedirs", "unlink", "remove", "rmdir", "symlink", "link", "truncate", "write", "open")
OF_PATHS = ("write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch", "symlink_to", "hardlink_to")


def writes(tree: ast.AST) -> list[str]:
    """Every call that changes files without going through the storage module."""
    found = []
    for name, call in calls(tree):
        owner, _, method = name.rpartition(".")
        given = [*(call.args if owner else call.args[1:]), *(keyword.value for keyword in call.keywords)]
        modes = [item.value for item in given if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        opens = method == "open" and any(re.fullmatch("[rb+]*[wxa][wxab+]*|r?b?\\+b?", mode) for mode in modes)
        by_path = method in OF_PATHS and owner not in ("", "storage")
        if opens or by_path or (owner == "os" and method in OF_OS) or (owner == "shutil" and method != "get_terminal_size"):
            found.append(f"{name}, line {call.lineno}")
    return found


def prints(tree: ast.AST) -> list[str]:
    names = ("print", "sys.stdout.write", "sys.stderr.write", "rich.print")
    return [f"{name}, line {call.lineno}" for name, call in calls(tree) if name in names]


def test_files_are_changed_in_the_storage_module_alone() -> None:
    # The others write to pipes of their children and of the terminal.
    allowed = {
        "engine/records/storage.py",
        "data/workers.py",
        "cli/errors.py",
        "cli/main.py",
        "recipe/archive/foreign_weights.py",
    }
    found = {name: told for name, tree in trees() if name not in allowed and (told := writes(tree))}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "open('x', 'w')",
        "path.open(mode='ab')",
        "Path('x').write_text('y')",
        "os.replace(a, b)",
        "shutil.rmtree(a)",
        "place.mkdir()",
    ],
)
def test_a_change_to_a_file_is_seen(source: str) -> None:
    assert writes(ast.parse(source))


@pytest.mark.parametrize("source", ["open('x')", "storage.write_bytes(a, b)", "write_bytes(a, b)", "text.replace('w', 'x')"])
def test_reading_and_the_storage_module_are_left_alone(source: str) -> None:
    assert not writes(ast.parse(source))


def test_nothing_but_cli_and_report_prints() -> None:
    assert not {name: found for name, tree in trees("cli", "report") if (found := prints(tree))}


def test_no_pickle_is_read_or_written() -> None:
    assert not {name: found for name, tree in trees() if (found := pickle_uses(tree))}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import dump",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.save(model, path)",
        "np.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
    ],
)
def test_a_use_of_pickle_is_found(source: str) -> None:
    assert pickle_uses(ast.parse(source))


def test_a_print_is_found() -> None:
    assert prints(ast.parse("def f():\n    print(1)"))


def test_no_code_is_evaluated_from_text() -> None:
    found = {name: called for name, tree in trees() for called, _ in calls(tree) if called in ("eval", "exec", "yaml.load")}
    assert not found


def test_the_global_generators_are_seeded_only_where_they_are_put_back() -> None:
    banned = re.compile(
        r"(torch\.manual_seed|torch\.default_generator\.manual_seed|torch\.(cuda\.)?set_rng_state|random\.seed|np\.random\.seed|numpy\.random\.seed)"
    )
    found = {
        f"{name}: {called}"
        for name, tree in trees()
        for called, _ in calls(tree)
        if banned.fullmatch(called) and name not in ("core/randomness.py", "data/loading.py")
    }
    assert not found


def test_every_technique_has_a_test_file_of_its_name() -> None:
    tested = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    ours = [record.id for record in discover().values() if record.factory.__module__.startswith("stepwell.")]
    assert not [name for name in ours if f"test_{name}" not in tested]


def test_a_technique_is_a_file_of_its_own_name_in_its_slot_s_folder() -> None:
    for record in discover().values():
        module = record.factory.__module__
        if module.startswith("stepwell."):
            assert module == f"stepwell.techniques.{record.slot}.{record.id}"


def test_every_technique_cites_a_paper_and_shows_an_example() -> None:
    for record in discover().values():
        card = record.factory.__doc__ or ""
        assert record.paper, record.id
        assert ">>>" in card, f"{record.id} shows no example"


def test_no_file_promises_what_is_not_there() -> None:
    # A test of what an operating system may refuse (another user, a namespace, tracing) counts itself as skipped there.
    promise = re.compile(
        r"NotImplementedError|\bTODO\b|\bFIXME\b|pytest\.skip(?!\(\"counted: )|pytest\.xfail|mark\.(skip|xfail)|importorskip"
    )
    here = Path(__file__)
    folders = ("src", "tests", "examples", "benchmarks", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != here]
    assert len(files) > 30
    assert not [str(path.relative_to(ROOT)) for path in files if promise.search(path.read_text(encoding="utf-8"))]


def test_the_command_line_uses_no_private_name_of_another_part() -> None:
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stepwell"):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                assert not [part for part in parts if part.startswith("_") and part != "__version__"], (
                    f"{path.name}: {node.module}"
                )
