"""Files of weights that other programs pickled: what is taken from them, and that nothing in them runs."""

from __future__ import annotations

import ast
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import stepwell
from stepwell.core.errors import DataError
from stepwell.recipe.archive import foreign_weights
from stepwell.recipe.archive.foreign_weights import import_weights, read_foreign

PACKAGE = Path(stepwell.__file__).parent


class Code:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch ran",))


def archive(value: Any) -> bytes:
    held = io.BytesIO()
    torch.save(value, held)
    return held.getvalue()


def test_tensors_keep_their_bits_wherever_they_shared_memory(tmp_path: Path) -> None:
    memory = torch.arange(6.0)
    given = {"all": memory, "left": memory[:2], "odd": memory[1::2], "half": memory.bfloat16(), "count": torch.tensor(7)}
    torch.save({"epoch": 3, "state_dict": OrderedDict(given) | {"steps": 5}, "optimizer": {"lr": 0.1}}, tmp_path / "old.pth")
    imported = import_weights(tmp_path / "old.pth", out=tmp_path / "new.safetensors")
    read = load_file(tmp_path / "new.safetensors")
    assert set(read) == set(given)
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in given.items())
    assert (imported.key, imported.left_out, imported.num_bytes) == (
        "state_dict",
        ["steps"],
        (tmp_path / "new.safetensors").stat().st_size,
    )


def test_code_in_a_file_is_refused_by_name_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(archive({"a": Code()}))
    with pytest.raises(DataError, match=r"it needs posix\.system, which is more than tensors"):
        import_weights(tmp_path / "w.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"], "neither run, nor half a file left"


HOSTILE: dict[str, bytes] = {f"protocol {number}": pickle.dumps({"a": Code()}, protocol=number) for number in range(6)} | {
    "legacy": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + pickle.dumps(Code(), 2),
    "module": archive(torch.nn.Linear(2, 1)),
    "empty": b"",
    "text": b"{}",
    "no zip": b"PK\x03\x04",
    "list": archive([torch.ones(1)]),
    "numbers": archive({"a": 1}),
    "half": archive({"a": torch.ones(100)})[:600],
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_anything_but_a_state_dict_is_refused_in_three_parts(content: bytes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"w.pt can't be imported") as raised:
        read_foreign(tmp_path / "w.pt")
    assert "weights_only" not in str(raised.value), "no advice to trust the file"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"hello"], ids=["nothing", "a word"])
def test_a_file_that_is_no_pickle_is_called_so_and_not_by_the_code_that_its_reader_met(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"can't be imported \(its content is no state_dict\)"):
        read_foreign(tmp_path / "w.pt")


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**11)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 10_000
    with pytest.raises(DataError, match="needs more memory than it may"):
        import_weights(tmp_path / "w.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"took more than 0\.01 seconds"):
        import_weights(tmp_path / "w.pt", seconds=0.01)


def test_a_state_dict_under_another_key_is_asked_for_by_name(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "net": {"a": torch.ones(1)}, "ema": {"a": torch.zeros(1)}}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"--key net; it holds net, ema"):
        read_foreign(tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"no state_dict under 'nett'.*Did you mean 'net'"):
        read_foreign(tmp_path / "w.pt", key="nett")
    assert read_foreign(tmp_path / "w.pt", key="ema").tensors["a"].item() == 0.0


@pytest.mark.parametrize(("version", "known"), [("2.9.1+cu128", False), ("2.10.0a0", True), ("2.10.0", True), ("3.0", True)])
def test_a_torch_with_known_holes_reads_no_foreign_file(version: str, known: bool, tmp_path: Path, monkeypatch) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    monkeypatch.setattr(torch, "__version__", version)
    if known:
        assert list(read_foreign(tmp_path / "w.pt").tensors) == ["a"]
    else:
        with pytest.raises(DataError, match=r"known holes.*Update torch"):
            read_foreign(tmp_path / "w.pt")


def test_links_wrong_names_and_files_that_are_there_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    (tmp_path / "link.pt").symlink_to(tmp_path / "w.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "w.safetensors").write_bytes(b"mine")
    for name, out, said in [
        ("link.pt", None, "is a link"),
        ("pipe.pt", None, "is no file"),
        ("gone.pt", None, "does not exist"),
        ("w.safetensors", None, "needs no import"),
        ("w.pt", None, "exists already"),
        ("w.pt", "w.bin", r"does not end in \.safetensors"),
        ("w.pt", "no/w.safetensors", "can't be written"),
    ]:
        with pytest.raises(DataError, match=said):
            import_weights(tmp_path / name, out=None if out is None else tmp_path / out)
    assert (tmp_path / "w.safetensors").read_bytes() == b"mine"


def pickle_readers(source: str) -> set[str]:
    """Names in a file's code (not in its comments and texts) that read or write pickles."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
        for name in names:
            if name.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal") or name == "torch.load":
                found.add(name)
    return found


def test_pickles_are_read_in_one_file_and_there_with_the_safe_reader_alone() -> None:
    here = Path(foreign_weights.__file__)
    found = {path: names for path in PACKAGE.rglob("*.py") if (names := pickle_readers(path.read_text(encoding="utf-8")))}
    assert found == {here: {"torch.load"}}
    source = here.read_text(encoding="utf-8")
    assert source.count("torch.load(") == source.count("weights_only=True)") == 1
    planted = "import torch\ntorch.load(x)\nfrom joblib import dump\nimport pickle"
    assert pickle_readers(planted) == {"torch.load", "joblib", "pickle"}
