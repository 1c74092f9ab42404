"""Links, pipes and open doors that somebody planted where a run writes: nothing behind them is touched."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from counted import report
from forked import forked

from stepwell.core.errors import DataError, RunFolderError
from stepwell.data.registry import existing
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint
from stepwell.recipe.files import read_job
from stepwell.recipe.verbs import resume, train
from stepwell.report.page import write_report
from stepwell.report.tables import read_run

SENTINEL = b"what must stay as it is\n"
TABLE = "a,b,y\n" + "".join(f"{n},{n * n % 7},{n % 2}\n" for n in range(40))
JOB = """\
data: {source: table, path: data.csv, target: y}
model: {name: mlp, hidden: [4]}
task: binary
recipe: {objective: bce, optimizer: {name: sgd, lr: 0.1}, batch_size: 8}
budget: 2 epochs
"""
LIMIT = 60.0  # seconds until a trial counts as hung


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job, its data and the run of it, which a longer budget continues."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "data.csv").write_text(TABLE, encoding="utf-8")
    (folder / "job.yaml").write_text(JOB, encoding="utf-8")
    train(read_job(folder / "job.yaml"), out=folder / "run", base=folder)
    write_report(folder / "run")
    return folder


def names_of(run: Path) -> list[str]:
    """Every file and folder of a run, and those that going on adds."""
    found = [str(path.relative_to(run)) for path in sorted(run.rglob("*"))]
    return [name for name in found if name.count("/") < 2] + [
        "checkpoints/step-9",
        "checkpoints/step-12",
        "checkpoints/.step-9.tmp-1-0",
    ]


KINDS = ("a link to a file", "a link to a folder", "a link to nothing", "a second name of a file", "a pipe")


def plant(place: Path, kind: str, outside: Path) -> None:
    """Put something else where a run has or will have a file or folder."""
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a link to a file":
        place.symlink_to(outside / "sentinel")
    elif kind == "a link to a folder":
        place.symlink_to(outside / "folder")
    elif kind == "a link to nothing":
        place.symlink_to(outside / "nothing")
    elif kind == "a second name of a file":
        os.link(outside / "sentinel", place)
    else:
        os.mkfifo(place)


def outside_of(folder: Path) -> Path:
    """A file and a folder that belong to somebody else."""
    place = folder / "outside"
    (place / "folder").mkdir(parents=True)
    (place / "sentinel").write_bytes(SENTINEL)
    (place / "folder" / "sentinel").write_bytes(SENTINEL)
    return place


def touched(outside: Path) -> list[str]:
    """What changed there."""
    wrong = [str(path) for path in (outside / "sentinel", outside / "folder" / "sentinel") if path.read_bytes() != SENTINEL]
    known = {"sentinel", "folder", "folder/sentinel"}
    return wrong + [str(path) for path in outside.rglob("*") if str(path.relative_to(outside)) not in known]


def trials(names: list[str], share: int) -> Iterator[tuple[str, str]]:
    return itertools.islice(itertools.product(names, KINDS), 0, None, share)


def started(begun: Path, folder: Path, share: int) -> None:
    """Start a run in a folder in which something was planted."""
    counts = {"trials": 0, "refused": 0, "trained": 0, "touched": 0}
    for number, (name, kind) in enumerate(trials(["lock", *names_of(begun / "run")], share)):
        place = folder / str(number)
        outside, run = outside_of(place), place / "run"
        run.mkdir()
        plant(run / name, kind, outside)
        ended = forked(lambda run=run: train(read_job(begun / "job.yaml"), out=run, base=begun).steps, limit=LIMIT)
        assert ended.code == 0 or "RunFolderError" in ended.error, f"{name} is {kind}: {ended.error}\n{ended.trace}"
        assert not touched(outside), f"{name} is {kind}"
        counts["trials"] += 1
        counts["trained" if ended.code == 0 else "refused"] += 1
        shutil.rmtree(place)
    report("T10 planted before", floors={"trials": 20, "refused": 18}, **counts)


def continued(begun: Path, folder: Path, share: int) -> None:
    """Go on with a run in which something was planted, and write its report."""
    counts = {"trials": 0, "refused": 0, "trained": 0, "touched": 0}
    for number, (name, kind) in enumerate(trials(names_of(begun / "run"), share)):
        place = folder / str(number)
        outside = outside_of(place)
        run = place / "run"
        shutil.copytree(begun / "run", run)
        plant(run / name, kind, outside)

        def go_on(run: Path = run) -> int:
            logging.getLogger("stepwell").setLevel(logging.CRITICAL)
            steps = resume(run, budget="4 epochs").steps
            write_report(run)
            return steps

        ended = forked(go_on, limit=LIMIT)
        told = ("RunFolderError", "JobError", "DataError", "TrainingStopped", "OSError", "NotADirectoryError")
        refused = ended.error.split(":")[0] in told
        assert ended.code == 0 or refused, f"{name} is {kind}: {ended.error}\n{ended.trace}"
        assert not touched(outside), f"{name} is {kind}"
        counts["trials"] += 1
        counts["trained" if ended.code == 0 else "refused"] += 1
        shutil.rmtree(place)
    report("T10 planted between", floors={"trials": 20}, **counts)


def test_a_new_run_leaves_what_is_behind_planted_names_alone(begun: Path, tmp_path: Path) -> None:
    started(begun, tmp_path, 5)


def test_a_run_that_goes_on_leaves_what_is_behind_planted_names_alone(begun: Path, tmp_path: Path) -> None:
    continued(begun, tmp_path, 5)


@pytest.mark.slow
def test_a_new_run_leaves_what_is_behind_every_planted_name_alone(begun: Path, tmp_path: Path) -> None:
    started(begun, tmp_path, 1)


@pytest.mark.slow
def test_a_run_that_goes_on_leaves_what_is_behind_every_planted_name_alone(begun: Path, tmp_path: Path) -> None:
    continued(begun, tmp_path, 1)


def open_doors(folder: Path) -> list[str]:
    """Files that aren't 0600 and folders that aren't 0700."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600):
            found.append(f"{path.relative_to(folder)} {mode:o}")
    return found


@pytest.mark.parametrize("parent", [0o700, 0o755, 0o777, 0o1777])
def test_what_a_run_writes_is_its_owner_s_alone_whatever_the_mask_and_the_folder_above(
    begun: Path, tmp_path: Path, parent: int
) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(parent)

    def run_open() -> list[str]:
        os.umask(0)
        train(read_job(begun / "job.yaml"), out=above / "new" / "run", base=begun)
        write_report(above / "new" / "run")
        return open_doors(above / "new")

    ended = forked(run_open, limit=LIMIT)
    assert ended.code == 0, ended.trace
    assert ended.value == []
    report("T10 modes", floors={"parents": 1}, parents=1)


def test_the_folder_that_the_command_line_chooses_is_its_owner_s_alone(tmp_path: Path) -> None:
    from stepwell.cli.folders import next_folder

    def chosen() -> list[str]:
        os.umask(0)
        with next_folder(Path("job.yaml"), None, root=tmp_path / "runs") as folder:
            return open_doors(folder)

    assert forked(chosen).value == []


def test_another_user_can_neither_read_nor_plant(begun: Path) -> None:
    if os.geteuid() != 0:
        report("T10 second user", trials=0, skipped_without_root=1)
        pytest.skip("counted: only root can become another user")
    above = Path(tempfile.mkdtemp())  # the folders of pytest are closed themselves
    try:
        above.chmod(0o777)
        shutil.copytree(begun / "run", above / "run")
        names = [str(path.relative_to(above)) for path in (above / "run").rglob("*")]

        def other_user() -> list[str]:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            done = []
            for name in names:
                for what, attempt in (
                    ("read", lambda path: path.read_bytes()),
                    ("plant", lambda path: path.symlink_to("/etc/passwd")),
                ):
                    try:
                        attempt(above / name)
                        done.append(f"{what} {name}")
                    except PermissionError:
                        pass
            return done

        ended = forked(other_user)
        assert ended.value == [], ended.trace
        report("T10 second user", floors={"trials": 20}, trials=2 * len(names))
    finally:
        shutil.rmtree(above)


def test_no_reader_waits_for_a_pipe_or_follows_a_link_out_of_a_checkpoint(begun: Path, tmp_path: Path) -> None:
    trials = 0
    outside = outside_of(tmp_path)
    newest = checkpoints(begun / "run" / "checkpoints")[0]
    for name, kind in itertools.product(sorted(item.name for item in newest.iterdir()), KINDS[:3] + KINDS[4:]):
        place = tmp_path / "checkpoints" / newest.name
        shutil.copytree(newest, place)
        plant(place / name, kind, outside)
        ended = forked(lambda place=place: str(load_checkpoint(place)), limit=LIMIT)
        assert ended.error.startswith("RunFolderError"), f"{name} is {kind}: {ended.error}"
        shutil.rmtree(place)
        trials += 1
    for name in ("job.yaml", "manifest.json", "result.json", "events.jsonl", "timing.csv"):
        run = tmp_path / "read"
        shutil.copytree(begun / "run", run)
        plant(run / name, "a pipe", outside)
        ended = forked(lambda run=run: len(read_run(run).problems), limit=LIMIT)
        assert ended.code == 0 or "Error" in ended.error, f"{name}: {ended.trace}"
        shutil.rmtree(run)
        trials += 1
    report("T10 readers", floors={"trials": 17}, trials=trials)


def test_a_pipe_or_a_device_is_no_data_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(DataError, match=r"data\.csv.* is a pipe or a device"):
        existing("data.csv", base=tmp_path)
    with pytest.raises(DataError, match="is a pipe or a device"):
        existing("/dev/zero", base=tmp_path)


def test_a_run_folder_that_is_a_link_to_nothing_is_refused(begun: Path, tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunFolderError):
        train(read_job(begun / "job.yaml"), out=tmp_path / "run", base=begun)
    assert not (tmp_path / "nothing").exists()
