"""A run made once more of what its folder says: to check that it still comes out the same, and what has changed if not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stepwell.core.catalog import record_of
from stepwell.core.errors import JobError, RunFolderError
from stepwell.data.content import facts_of
from stepwell.data.sampling import Sampling
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.folder_lock import holder_of, in_use
from stepwell.engine.records.storage import read_json, sha256
from stepwell.recipe import verbs
from stepwell.recipe.evidence.fingerprint import Difference, differences
from stepwell.recipe.evidence.job_record import JobOnRecord, job_on_record, require_job
from stepwell.recipe.evidence.manifest import manifest
from stepwell.recipe.files import dump, read_job, read_mapping
from stepwell.recipe.fit import ingredients as fit_ingredients
from stepwell.recipe.initial import initialised, weights_file
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.record import same_job
from stepwell.recipe.run import Ingredients
from stepwell.recipe.run_paths import require_folder

_OLD = ("versions", "hardware")  # what manifests said of the environment before there was "environment"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What Python gave `fit`, and has to give again, for no file holds it.

    Args:
        model: the module. It stays as it is: a copy of it is trained.
        data, val, weights, sampling: as `fit` took them.
        recipe: needed where it holds functions or classes of one's own.
    """

    model: nn.Module | None = None
    data: Any = None
    val: Any = None
    recipe: Recipe | None = None
    weights: Any = None
    sampling: Sampling = "once"

    @property
    def nothing(self) -> bool:
        return all(item is None for item in (self.model, self.data, self.val, self.recipe, self.weights))


@dataclass
class Rerun:
    """A run's job, its record, and what makes it anew.

    Args:
        base: where relative paths of the job start.
        ingredients: makes all parts anew; the model has the weights that it was built with.
        changes: what isn't as it was when the run started.
    """

    folder: Path
    job: Job
    record: dict[str, Any]
    base: Path
    ingredients: Callable[[], Ingredients]
    changes: list[Difference]

    @property
    def causes(self) -> list[Difference]:
        """Those of the changes that can change bits."""
        return [change for change in self.changes if change.affects == "bits"]

    def from_start(self) -> Ingredients:
        """All parts, with the weights that the run started from."""
        parts = self.ingredients()
        initialised(parts, self.base)
        return parts

    def initial_change(self) -> list[Difference]:
        """Whether the file that `init_from` names is another one now."""
        before = (self.record.get("init_from") or {}).get("sha256")
        if before is None or self.job.init_from is None:
            return []
        now = sha256(weights_file(self.job.init_from.path, self.base).read_bytes())
        return [] if now == before else [Difference("init_from.sha256", before, now, "bits")]


def rerun_of(folder: Path, given: Given, *, verb: str, step: int = 0) -> Rerun:
    """Read a run folder and get ready to compute it again. Nothing in the folder changes.

    Args:
        verb: "verify" or "replay", for messages.
        step: where the computation will start: a run that was continued with another budget has that one from there.

    Raises:
        RunFolderError: no run there, it is in use, or its record can't be read.
        JobError, DataError: the job can't be read by this version, or its data is gone.
    """
    mapping = require_run(folder)
    _refuse_if_in_use(folder)
    record, known = _record(folder), require_job(folder)
    if mapping.get("data") is None or mapping.get("model") is None:
        return _from_python(folder, record, known, given, step, verb)
    if not given.nothing:
        raise JobError(
            f"{folder} is the run of a job that names its own model and data",
            expected="nothing beside the folder",
            fix=f"Write stepwell.{verb}({str(folder)!r})",
        )
    base = Path(record.get("base") or Path.cwd())
    job = _job_at(known, step, Job.from_mapping(known.started) if known.edited else read_job(folder / "job.yaml"))
    loaded, first = verbs.prepared(job, base)
    fresh = [first]
    changes = [*_edits(known), *_changes(folder, record, job, base, step)]
    changes[:0] = _data_change(record, loaded.fingerprint)
    return Rerun(folder, job, record, base, lambda: fresh.pop() if fresh else verbs.prepared(job, base)[1], changes)


def require_run(folder: Path) -> dict[str, Any]:
    """What stands in the job file of a run folder.

    Raises:
        RunFolderError: it holds no run.
    """
    require_folder(folder)
    begun = any((folder / name).exists() for name in ("manifest.json", "checkpoints", "metrics"))
    if not begun or not (folder / "job.yaml").exists():
        raise RunFolderError(
            f"{folder} holds no run",
            expected="a run folder, with job.yaml and manifest.json",
            fix="Give the folder that `stepwell train` printed",
        )
    return dict(read_mapping(folder / "job.yaml"))


def budget_changes(folder: Path) -> list[tuple[int, str]]:
    """Where a run was continued with another budget, and with which one."""
    return job_on_record(folder).budgets


def _job_at(known: JobOnRecord, step: int, job: Job) -> Job:
    """The job with the budget that the steps after this one were trained under."""
    budget = known.budget_at(step)
    return job if budget == job.budget else job.replace_at("budget", budget)


def _edits(known: JobOnRecord) -> list[Difference]:
    """What was edited in job.yaml: limits alone, and the run is computed with those that it had."""
    return [Difference(f"job.{item.path}", item.before, item.after, "nothing known") for item in known.changes or ()]


def _data_change(record: dict[str, Any], now: str | None) -> list[Difference]:
    before = (record.get("data") or {}).get("fingerprint")
    return [] if before is None or before == now else [Difference("data.fingerprint", before, now, "bits")]


def _from_python(folder: Path, record: dict[str, Any], known: JobOnRecord, given: Given, step: int, verb: str) -> Rerun:
    model, data = given.model, given.data
    if model is None or data is None:
        raise RunFolderError(
            f"{folder} was made by `fit`, with a model or data given from Python",
            expected="both, for they are in no file",
            fix=f"Write in Python: stepwell.{verb}({str(folder)!r}, model=..., data=...), with val= and recipe= as fit had them",
        )
    job = _job_at(known, step, _job_of_fit(folder, known, given.recipe))

    def ingredients() -> Ingredients:
        return fit_ingredients(copy.deepcopy(model), data, given.val, job, weights=given.weights, sampling=given.sampling)

    base, fresh = Path.cwd(), [ingredients()]
    changes = [*_edits(known), *_changes(folder, record, job, base, step)]
    if (record.get("data") or {}).get("fingerprint") is not None:
        changes[:0] = _data_change(record, facts_of(fresh[0].train, fresh[0].validation)["fingerprint"])
    return Rerun(folder, job, record, base, lambda: fresh.pop() if fresh else ingredients(), changes)


def _job_of_fit(folder: Path, known: JobOnRecord, recipe: Recipe | None) -> Job:
    python = ("data", "model", "task")
    if recipe is None:
        return Job.from_mapping(known.started, given=python) if known.edited else read_job(folder / "job.yaml", given=python)
    job = Job.from_mapping({**known.started, "recipe": recipe}, given=python)
    if not same_job(dump(known.started), job):
        raise JobError(
            f"{folder} was trained by another recipe than the one given",
            expected="the recipe that fit had",
            fix=f"Compare it with {folder / 'job.yaml'}",
        )
    return job


def _refuse_if_in_use(folder: Path) -> None:
    holder = holder_of(folder / "lock")
    if holder is not None:
        raise in_use(folder, holder)


def _record(folder: Path) -> dict[str, Any]:
    try:
        read = read_json(folder / "manifest.json")
        if isinstance(read, dict):
            return read
        problem = "it holds no record"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise RunFolderError(
        f"{folder / 'manifest.json'} can't be read: {problem}",
        expected="the file as the run wrote it",
        fix=f"Put it back, or train anew: stepwell train {folder / 'job.yaml'}",
    )


def _changes(folder: Path, record: dict[str, Any], job: Job, base: Path, step: int) -> list[Difference]:
    """What isn't as it was: the environment, techniques and models, and code of one's own as far as git knows it."""
    now = manifest(job, "", base=base)
    own = job.model is None or any(not _ours(item) for item in _parts(job))
    code = differences({"git": record.get("git") or {}}, {"git": now["git"] or {}})
    telling = ("git.commit", "git.diff_sha256") if own else ()
    found = [Difference(item.path, item.before, item.now, "bits" if item.path in telling else "nothing known") for item in code]
    found += [Difference(item.path, item.before, item.now, "bits") for item in differences(_sources(record), _sources(now))]
    if not isinstance(record.get("environment"), dict):
        old, new = ({name: item.get(name) or {} for name in _OLD} for item in (record, now))
        return found + [Difference(item.path, item.before, item.now, "bits") for item in differences(old, new)]
    found += _environment_changes(folder, record["environment"], now["environment"], step)
    return sorted(found, key=lambda item: item.affects)


def _environment_changes(folder: Path, started: dict[str, Any], now: dict[str, Any], step: int) -> list[Difference]:
    """What is not as it was where the steps after `step` were computed: a resumed run told what had changed by then."""
    told: dict[str, Difference] = {}
    for event in read_events(folder / "events.jsonl"):
        if event.step <= step and event.kind == "resumed":
            told = {}
        elif event.step <= step and event.kind == "environment_changed":
            told = {item["path"]: Difference(**item) for item in event.detail["differences"]}
    since = {item.path: item for item in differences(started, now)}
    found = []
    for path in {**since, **told}:
        affects = (since.get(path) or told[path]).affects
        before = told[path].now if path in told else since[path].before
        after = since[path].now if path in since else told[path].before
        found += [Difference(path, before, after, affects)] if before != after else []
    return found


def _sources(record: dict[str, Any]) -> dict[str, Any]:
    """The hash of each technique's and the model's source file, as far as a manifest has them."""
    techniques = {str(item.get("id")): item.get("sha256") for item in record.get("techniques") or ()}
    model = (record.get("model_code") or {}).get("sha256")
    return {"techniques": techniques, "model": {} if model is None else {"code": model}}


def _parts(job: Job) -> list[Any]:
    recipe = job.recipe
    return [part for part in (recipe.objective, recipe.optimizer, recipe.schedule, *recipe.techniques) if part is not None]


def _ours(part: Any) -> bool:
    record = record_of(part)
    return record is not None and record.factory.__module__.startswith("stepwell.")
