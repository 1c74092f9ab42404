"""Files from a stranger: whatever they hold, they are read or refused by name, and nothing runs, is written or is spent."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hostile_data as data
import hostile_runs as runs
import pytest
from counted import report
from hostile_data import Case, Files
from hostile_images import images
from hostile_pickles import CONTAINERS, GROWING, PAYLOADS, npz
from watched import Watched

MEBIBYTES = 512
LONGEST = 10_000
Hostile = tuple[str, Files, Case]


@dataclasses.dataclass
class Tally:
    """What came of the files of one test."""

    files: int = 0
    refused: int = 0
    read: int = 0
    code_runs: int = 0
    writes: int = 0
    over_the_limits: int = 0


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small table."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data.csv").write_bytes(data.GOOD_TABLE)
    (folder / "job.yaml").write_text(
        "data: {source: table, path: data.csv, target: y}\nmodel: {name: mlp, hidden: [4]}\ntask: binary\n"
        "recipe: {objective: bce, optimizer: {name: sgd, lr: 0.1}, batch_size: 8}\nbudget: 2 epochs\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "stepwell.cli.main", "train", "job.yaml", "--out", "run", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "run"


def pickles() -> Iterator[Hostile]:
    """Every payload in every container, under names by which stepwell would read it."""
    for payload, container in itertools.product(PAYLOADS | GROWING, CONTAINERS):
        content = CONTAINERS[container]((PAYLOADS | GROWING)[payload])
        yield f"{payload} {container} as .pt", {"model.pt": content}, {"kind": "foreign", "file": "model.pt"}
    disguises = itertools.cycle(
        [
            ("model.safetensors", data.WEIGHTS),
            ("data.npz", data.NPZ),
            ("inputs.npy", data.NPY),
            ("data.csv", data.TABLE),
            ("data.parquet", data.PARQUET),
            ("data.jsonl", data.LINES),
            ("data.txt", data.TEXT),
            ("words.txt", data.THESAURUS),
            ("job.yaml", {"kind": "job", "file": "job.yaml"}),
            ("train-images-idx3-ubyte", data.IDX),
            ("pictures/a/bad.png", data.IMAGES),
        ]
    )
    for payload, container in itertools.product(PAYLOADS, CONTAINERS):
        name, case = next(disguises)
        files = {name: CONTAINERS[container](PAYLOADS[payload])}
        if name == "inputs.npy":
            files["targets.npy"] = data.GOOD_NPZ["targets.npy"]
        elif "pictures" in name:
            files = data.pictures(files[name])
        elif "ubyte" in name:
            files = data.GOOD_IDX | files
        yield f"{payload} {container} as {name}", files, case
    for payload in PAYLOADS:
        yield f"{payload} as objects of an npz", {"data.npz": npz(PAYLOADS[payload])}, data.NPZ
        yield f"{payload} as masks of an npz", {"data.npz": npz(PAYLOADS[payload])}, data.MASKS


def data_files() -> Iterator[Hostile]:
    """Everything of hostile_data."""
    yield from (("weights: " + name, {"model.safetensors": content}, data.WEIGHTS) for name, content in data.weights())
    for name, content in data.arrays():
        yield f"npy: {name}", {"inputs.npy": content, "targets.npy": data.GOOD_NPZ["targets.npy"]}, data.NPY
        yield f"npy, targets: {name}", {"inputs.npy": data.GOOD_NPZ["inputs.npy"], "targets.npy": content}, data.NPY
        inside = data.zipped({"inputs.npy": content, "targets.npy": data.GOOD_NPZ["targets.npy"]})
        yield f"npz of an npy: {name}", {"data.npz": inside}, data.NPZ
    for name, content in data.archives():
        yield f"npz: {name}", {"data.npz": content}, data.NPZ
        yield f"masks: {name}", {"data.npz": content}, data.MASKS
    for name, file, content in data.tables():
        yield f"table: {name}", {file: content}, data.TABLE | {"settings": {"path": file, "target": "y"}}
        if file == "data.csv":
            yield f"series: {name}", {file: content}, data.SERIES
            case = data.LINES | {"settings": {"path": file, "text": "a", "target": "y"}}
            yield f"documents: {name}", {file: content}, case
    yield from (("lines: " + name, {"data.jsonl": content}, data.LINES) for name, content in data.lines())
    for name, file, content in images():
        yield f"images: {name}", data.pictures(content, file), data.IMAGES
        masks = {key: value for key, value in data.MASKED.items() if key != "masks/z.png"}
        yield f"masks: {name}", masks | {f"masks/z{Path(file).suffix}": content}, data.MASK_FILES
    yield from (("idx: " + name, files, data.IDX) for name, files in data.idx())
    yield from data.texts()


def put(files: Files, place: Path) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def prepared(folder: Path, trained: Path) -> None:
    """The good files that the watched process warms up with, and the module that must not be imported."""
    (folder / "canary_module.py").write_text("def run():\n    open('canary', 'w').close()\n", encoding="utf-8")
    cases: list[dict[str, Any]] = []
    for name, (files, case) in data.good().items():
        put(files, folder / "good" / name)
        cases.append(case | {"place": f"good/{name}"})
    place = folder / "good" / "run"
    shutil.copytree(trained, place / "run")
    put({"new.csv": data.GOOD_TABLE}, place)
    tensors = data.safetensors({"w": ("F32", [2], [0, 8])}, b"\0" * 8)
    put(runs.checkpoint(b'{"a": {"tensor": "w"}}', tensors), place)
    put(runs.good_adapter(), place)
    for kind in ("delivered", "record", "report", "checkpoint", "predicted", "adapter"):
        cases.append({"kind": kind, "place": "good/run", "file": "new.csv"})
    put({"job.yaml": (trained / "job.yaml").read_bytes()}, place)
    cases.append({"kind": "job", "place": "good/run", "file": "job.yaml"})
    (folder / "warm_up.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")


def problems(answer: dict[str, Any], files: Files, case: Case) -> list[str]:
    """What is wrong with an answer."""
    wrong = [f"did {event}" for event in answer["events"]]
    if answer["outcome"] in ("crashed", "killed"):
        wrong.append(f"{answer['outcome']}: {answer.get('error')} {answer.get('trace')} {answer.get('signal')}")
    if answer["outcome"] == "refused":
        wrong += [f"has no {part}" for part in ("what", "expected", "fix") if not answer[part].strip()]
        wrong += [f"has {answer['length']} characters"] if answer["length"] > LONGEST else []
        names = {part for name in files for part in (Path(name).name, *Path(name).parts[:1])}
        # What a source refuses without a place gets the line of the job that names the file.
        named = any(name in answer["text"] for name in names) or (case["kind"] == "source" and not answer["where"])
        wrong += [] if named else [f"names no file: {answer['text'][:300]}"]
        wrong += ["is a type's own words"] if re.search(r"<class |object at 0x|Traceback", answer["text"]) else []
    return wrong


def tried(cases: Iterable[Hostile], folder: Path, trained: Path) -> Tally:
    """Read every file in a watched process with limits; nothing of its list may be seen, and no canary appear."""
    prepared(folder, trained)
    before = sorted(item.name for item in folder.iterdir())
    tally, wrong = Tally(), []
    with Watched("hostile_cases", "fork", folder=folder, mebibytes=MEBIBYTES) as process:
        process.started()
        for name, files, case in cases:
            place = folder / "case"
            put(files, place)
            inside = sorted(str(path) for path in place.rglob("*"))
            answer = process.run(case | {"place": "case"})
            wrong += [f"{case['kind']} {name}: {problem}" for problem in problems(answer, files, case)]
            left = sorted(str(path) for path in place.rglob("*"))
            wrong += [f"{name}: left {set(left) ^ set(inside)}"] if left != inside else []
            shutil.rmtree(place)
            tally.files += 1
            tally.refused += answer["outcome"] == "refused"
            tally.read += answer["outcome"] == "read"
            tally.code_runs += len(answer["events"])
            tally.writes += left != inside
            tally.over_the_limits += answer["outcome"] == "killed"
    assert not wrong, f"{len(wrong)} problems of {tally.files} files:\n" + "\n".join(wrong[:40])
    assert sorted(item.name for item in folder.iterdir()) == before, "a canary appeared"
    return tally


def part_of(cases: Iterable[Hostile], share: int) -> list[Hostile]:
    """Every `share`-th one."""
    return list(itertools.islice(cases, 0, None, share))


def test_the_watch_sees_code_network_writes_and_lost_time(tmp_path: Path, trained: Path) -> None:
    prepared(tmp_path, trained)
    put({"there": b"", "there.pt": CONTAINERS["archive"](PAYLOADS["an import"])}, tmp_path / "case")
    seen = {}
    acts = ("exec", "eval", "compile", "system", "start", "connect", "write", "make a folder", "remove", "unpickle", "import")
    with Watched("hostile_cases", "fork", folder=tmp_path, mebibytes=MEBIBYTES) as process:
        for act in acts:
            answer = process.run({"kind": "naughty", "act": act, "place": "case"})
            seen[act] = " ".join(answer["events"])
        spent = process.run({"kind": "naughty", "act": "spend", "place": "case"})
        grown = process.run({"kind": "naughty", "act": "grow", "place": "case"})
    words = (
        "exec",
        "exec",
        "compile",
        "os.system",
        "subprocess.Popen",
        "socket.connect",
        "open for writing",
        "os.mkdir",
        "os.remove",
    )
    for act, word in zip(acts, words, strict=False):
        assert word in seen[act]
    assert "import canary_module" in seen["unpickle"]
    assert "import canary_module" in seen["import"]
    assert spent["outcome"] == "killed"
    assert "MemoryError" in grown["error"]


def test_a_share_of_the_hostile_files_is_refused_or_read_without_harm(tmp_path: Path, trained: Path) -> None:
    cases = [*part_of(pickles(), 13), *part_of(data_files(), 6), *part_of(runs.runs(trained), 13)]
    tally = tried([*cases, *part_of(runs.checkpoints(), 6), *part_of(runs.adapters(), 12)], tmp_path, trained)
    report("T12 hostile files", floors={"files": 150}, **dataclasses.asdict(tally))


@pytest.mark.slow
def test_no_pickle_in_any_disguise_runs(tmp_path: Path, trained: Path) -> None:
    tally = tried(pickles(), tmp_path, trained)
    report("T12 hostile files", floors={"files": 250, "refused": 250}, **dataclasses.asdict(tally))


@pytest.mark.slow
def test_no_data_file_costs_more_than_it_may(tmp_path: Path, trained: Path) -> None:
    tally = tried(data_files(), tmp_path, trained)
    report("T12 hostile files", floors={"files": 250, "refused": 200}, **dataclasses.asdict(tally))


@pytest.mark.slow
def test_no_run_folder_checkpoint_or_adapter_does_harm(tmp_path: Path, trained: Path) -> None:
    cases = itertools.chain(runs.runs(trained), runs.checkpoints(), runs.adapters())
    tally = tried(cases, tmp_path, trained)
    report("T12 hostile files", floors={"files": 600, "refused": 300}, **dataclasses.asdict(tally))
