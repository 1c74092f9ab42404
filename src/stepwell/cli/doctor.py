"""The verb that says why a training fails, from its job or from what a run left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from stepwell.doctor.advice import Advice
    from stepwell.doctor.diagnose import Diagnosis
    from stepwell.doctor.job_repair import JobRepair
    from stepwell.doctor.repair import Repair
    from stepwell.recipe.job import Job

__all__ = ["doctor"]

Target = Annotated[Path, typer.Argument(metavar="JOB|RUN", help="A job file, or the folder of a run.", show_default=False)]
Fix = Annotated[bool, typer.Option("--fix", help="Apply what helps, and write the mended job.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="A folder for diagnosis.html and the mended job.", show_default=False),
]
HowMuch = Annotated[
    str,
    typer.Option("--advice", metavar="none|cheap|all", help="What to try next where all is well; all: each is tried on copies."),
]
AsJson = Annotated[bool, typer.Option("--json", help="All that was found, as JSON.", show_default=False)]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help="Other data than the job's, of the same kind.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the job, e.g. recipe.optimizer.lr=1. Repeatable."),
]
Import = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="FILE", help="A Python file with models or techniques of your own; it is run. Repeatable."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", show_default=False)]


@dataclass(frozen=True)
class _Asked:
    """A job to diagnose: where it came from, and where its data paths start."""

    job: Job
    name: str
    base: Path
    beside: Path  # where a mended job goes unless the call says


def doctor(
    target: Target,
    fix: Fix = False,
    out: Out = None,
    advice: HowMuch = "cheap",
    json_: AsJson = False,
    data: Data = None,
    set_: Set = None,
    import_: Import = None,
    debug: Debug = False,
) -> None:
    """Say why a training fails: of a job, by trials on copies; of a run, from its records. Exits with 1 on findings."""
    from stepwell.core.check import require_one_of
    from stepwell.models.registry import import_file

    require_one_of("--advice", advice, ("none", "cheap", "all"))
    for file in import_ or []:
        import_file(file)
    if target.is_dir() and not fix and data is None and not set_ and advice != "all":
        _run_records(target, out, json_)
        return
    asked = _from_run(target, set_ or []) if target.is_dir() else _from_file(target, set_ or [])
    _diagnose_job(_with_data(asked, data), fix, out, json_, advice=cast("Advice", advice))


def _run_records(folder: Path, out: Path | None, json_: bool) -> None:
    """What a run's own records tell, without training anything."""
    from stepwell.doctor.records import examine_run
    from stepwell.doctor.told import finding_mapping, findings_text
    from stepwell.recipe.run_paths import require_folder
    from stepwell.report.text import plain

    require_folder(folder)
    findings = list(examine_run(folder))
    page = None
    if out is not None:
        from stepwell.doctor.page import write_findings_page

        page = write_findings_page(findings, _folder(out) / "diagnosis.html", title=f"From the records of {folder}.")
    if json_:
        told = [finding_mapping(finding) for finding in findings]
        healthy = all(finding.severity == "note" for finding in findings)
        _json({"healthy": healthy, "findings": told, "asked": ["records"], "page": None if page is None else str(page)})
    else:
        print(plain(findings_text(findings), keep="\n"))
        print("\nasked: the records of the run; nothing was trained")
        if page is not None:
            print(f"page: {plain(page)}")
        print(f"\ntry next:\n  stepwell doctor {plain(folder)} --fix\n      its job, by trials on copies, and a mended job")
    _exit(findings)


def _diagnose_job(asked: _Asked, fix: bool, out: Path | None, json_: bool, *, advice: Advice) -> None:
    from stepwell.doctor.diagnose import diagnose_job
    from stepwell.doctor.told import mapping_of
    from stepwell.report.text import plain

    path = (out or asked.beside) / f"{asked.name}-mended.yaml"
    if fix:
        _require_free(path)
    diagnosis = diagnose_job(asked.job, asked.base, advice=advice)
    repair, mended = _fixed(asked, diagnosis) if fix and not diagnosis.healthy else (None, None)
    written = page = None
    if out is not None:
        page = diagnosis.page(_folder(out) / "diagnosis.html", repair=repair)
    if mended is not None and mended.job is not None:
        from stepwell.doctor.job_repair import write_job

        written = write_job(mended, path, base=asked.base)
    if json_:
        told = {**mapping_of(diagnosis, repair), "page": None if page is None else str(page)}
        if mended is not None:
            told["job"] = {**mended.to_mapping(), "file": None if written is None else str(written)}
        _json(told)
    else:
        print(plain(str(diagnosis), keep="\n"))
        if repair is not None and mended is not None:
            print("\n" + plain(_fix_text(repair, mended, written), keep="\n"))
        if page is not None:
            print(f"\npage: {plain(page)}")
    _exit(diagnosis.findings)


def _fixed(asked: _Asked, diagnosis: Diagnosis) -> tuple[Repair, JobRepair]:
    from stepwell.doctor.job_repair import repaired_job

    repair = diagnosis.repair()
    return repair, repaired_job(asked.job, diagnosis, repair, base=asked.base)


def _fix_text(repair: Repair, mended: JobRepair, written: Path | None) -> str:
    from stepwell.doctor.told import job_text, repair_text

    lines = [repair_text(repair)]
    if written is not None:
        lines += ["", f"mended job: {written}", f"changed:    {job_text(mended.changes)}", f"verified:   {mended.verified}"]
    else:
        lines += ["", "mended job: none was written; what helps is no change of the job"]
        if mended.verified is not None:
            lines.append(f"the job's part alone: {mended.verified}")
    lines += [f"by hand:    {item}" for item in mended.by_hand]
    return "\n".join(lines)


def _from_file(path: Path, overrides: list[str]) -> _Asked:
    from stepwell.recipe.files import read_job

    return _Asked(read_job(path, overrides), path.stem, path.parent, path.parent)


def _from_run(folder: Path, overrides: list[str]) -> _Asked:
    """A run's own job, and where its data lay; a mended job is written here, not into the run."""
    from stepwell.recipe.files import read_job
    from stepwell.recipe.run_records import read_run

    run = read_run(folder)
    job = read_job(folder / "job.yaml", overrides) if overrides else run.job
    return _Asked(job, folder.resolve().name, run.base, Path.cwd())


def _with_data(asked: _Asked, data: Path | None) -> _Asked:
    if data is None:
        return asked
    from stepwell.core.errors import JobError

    if not hasattr(asked.job.data, "path"):
        raise JobError("--data is given for a job whose data isn't a file", expected="data with a path:", fix="Leave --data out")
    return _Asked(asked.job.replace_at("data.path", str(data.resolve())), asked.name, asked.base, asked.beside)


def _require_free(path: Path) -> None:
    """Before anything is trained."""
    from stepwell.core.errors import JobError

    if path.exists():
        raise JobError(f"{path} exists", expected="a new file for the mended job", fix="Remove it, or give another --out")


def _folder(out: Path) -> Path:
    from stepwell.engine.records.storage import make_folder

    make_folder(out)
    return out


def _json(told: dict[str, Any]) -> None:
    print(json.dumps(told, indent=2, allow_nan=False))


def _exit(findings: Any) -> None:
    if any(finding.severity != "note" for finding in findings):
        raise typer.Exit(1)
