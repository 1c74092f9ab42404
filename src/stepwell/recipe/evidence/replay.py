"""`stepwell.replay`: train a whole run again into a new folder and compare everything that it leaves, byte by byte."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from stepwell.core.errors import DataError, RunFolderError
from stepwell.data.sampling import Sampling
from stepwell.engine.records.checkpoint import checkpoints, load_checkpoint, step_of, verify_checkpoint
from stepwell.engine.records.run_folder import read_layers, read_metrics
from stepwell.engine.records.same_bytes import first_row_difference, tensor_differences, weight_hash
from stepwell.engine.records.storage import read_json
from stepwell.engine.records.tensors import read_tensors
from stepwell.recipe import verbs
from stepwell.recipe.evidence.compared import Compared, Part, Verdict, comparable, first_difference
from stepwell.recipe.evidence.fingerprint import Difference
from stepwell.recipe.evidence.rerun import Given, Rerun, budget_changes, require_run, rerun_of
from stepwell.recipe.fit import fit
from stepwell.recipe.job import Job, Recipe
from stepwell.recipe.values.parts import StopRules

_OF_RESULT = ("steps", "stop_reason", "metrics", "test", "best")


@dataclass
class Replay:
    """What training a run again has shown.

    Args:
        verdict: as of `stepwell.recipe.evidence.verify.Verification`.
        folder, out: the run, and the new one.
        changes: what isn't as it was when the run started, what can change bits first.
        compared: delivered weights, all logged rows, and places in other files such as "checkpoints/step-40: step.cursor".
        checkpoints: steps of those that were compared.
    """

    verdict: Verdict
    folder: Path
    out: Path
    changes: list[Difference] = field(default_factory=list)
    compared: Compared = field(default_factory=Compared)
    checkpoints: list[int] = field(default_factory=list)

    @property
    def causes(self) -> list[Difference]:
        """Those of the changes that can change bits."""
        return [change for change in self.changes if change.affects == "bits"]


def replay(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    model: nn.Module | None = None,
    data: Any = None,
    val: Any = None,
    recipe: Recipe | None = None,
    weights: Any = None,
    sampling: Sampling = "once",
    progress: Any = None,
) -> Replay:
    """Train a finished run again from its job, and compare weights, metric rows and checkpoints.

    Args:
        folder: of a finished run that no process works in.
        out: the new run folder; None for the first free one of RUN-replay, RUN-replay-2, ...
        model, data, val, recipe, weights, sampling: of a run of `fit`, as `fit` had them; the model with the weights that
            it had before, for it is trained in a copy.
        progress: a live watcher, see `stepwell.engine.records.history.Progress`.

    Raises:
        RunFolderError: no finished run there, it is in use, or it can't be trained again as one run.
        JobError, DataError: the job can't be read by this version, or its data is gone or has changed.
    """
    folder = Path(folder)
    require_run(folder)
    result = _result(folder)
    for place in checkpoints(folder / "checkpoints"):
        verify_checkpoint(place)
    given = Given(model=model, data=data, val=val, recipe=recipe, weights=weights, sampling=sampling)
    rerun = rerun_of(folder, given, verb="replay")
    rerun.changes[:0] = rerun.initial_change()
    data_change = next((change for change in rerun.changes if change.path == "data.fingerprint"), None)
    if data_change is not None:
        raise DataError(
            f"the data has changed since {folder} was started",
            expected=f"data with fingerprint {data_change.before[:12]}, found {(data_change.now or 'none')[:12]}",
            fix="Put the old data back; a run of other data is another run",
        )
    place = Path(out) if out is not None else _free_name(folder)
    _train(rerun, given, place, progress)
    answer = Replay("identical", folder, place, rerun.changes)
    _compare(answer, result)
    if not answer.compared.same:
        answer.verdict = "changed" if answer.causes else "unexplained"
    return answer


def _train(rerun: Rerun, given: Given, place: Path, progress: Any) -> None:
    job = dataclasses.replace(rerun.job, stop=StopRules())  # by the clock on the wall a replay could end elsewhere
    if given.nothing:
        verbs.train(job, out=place, base=rerun.base, progress=progress)
        return
    kept = {item.name for item in dataclasses.fields(Job)} - {"data", "split", "model", "recipe", "budget", "seed"}
    settings: dict[str, Any] = {name: getattr(job, name) for name in kept}
    started = copy.deepcopy(given.model)
    assert started is not None, "a run of fit has a model"
    fit(
        started,
        given.data,
        val=given.val,
        recipe=job.recipe,
        budget=job.budget,
        seed=job.seed,
        out=place,
        progress=progress,
        weights=given.weights,
        sampling=given.sampling,
        **settings,
    )


def _result(folder: Path) -> dict[str, Any]:
    try:
        read = read_json(folder / "result.json")
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{folder} holds no finished run: result.json can't be read ({error})",
            expected="a run that was trained to its end",
            fix=f"Finish it: `stepwell resume {folder}`; or check its last stretch: `stepwell verify {folder}`",
        ) from error
    problem = None
    if str(read.get("stop_reason", "")).startswith("max time"):
        problem = "was ended by its limit in time, which falls on another step each time"
    elif budget_changes(folder):
        problem = "was continued with another budget, so no job trains it in one go"
    if problem is not None:
        raise RunFolderError(
            f"{folder} {problem}",
            expected="a run that its job alone determines",
            fix=f"Check its last stretch instead: `stepwell verify {folder}`",
        )
    return dict(read)


def _free_name(folder: Path) -> Path:
    names = (f"{folder.resolve().name}-replay" + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(place for name in names if not (place := folder.resolve().parent / name).exists())


def _compare(answer: Replay, result: dict[str, Any]) -> None:
    found = answer.compared
    old, new = (read_tensors(place / "model" / "model.safetensors") for place in (answer.folder, answer.out))
    found.parts, found.tensors = [Part("weights", weight_hash(old), weight_hash(new))], tensor_differences(old, new)
    for name in ("train", "validation", "layers"):
        before, now = (read_layers(at) if name == "layers" else read_metrics(at, name) for at in (answer.folder, answer.out))
        found.num_rows += min(len(before), len(now))
        found.take_row(first_row_difference(name, before, now))
    there = {place.name: place for place in checkpoints(answer.out / "checkpoints")}
    for place in reversed(checkpoints(answer.folder / "checkpoints")):
        if place.name in there:
            answer.checkpoints.append(step_of(place))
            found.values += _checkpoint_difference(place, there[place.name])
    both = [json.loads(json.dumps({key: item.get(key) for key in _OF_RESULT})) for item in (result, _result(answer.out))]
    value = first_difference(*both)
    found.values += [] if value is None else [f"result.json: {value}"]


def _checkpoint_difference(before: Path, now: Path) -> list[str]:
    files = [verify_checkpoint(place)["files"] for place in (before, now)]
    if files[0] == files[1]:
        return []
    (old, old_rest), (new, new_rest) = (comparable(load_checkpoint(place)) for place in (before, now))
    found = [*(item.name for item in tensor_differences(old, new)), first_difference(old_rest, new_rest)]
    return [f"checkpoints/{before.name}: {item}" for item in found if item is not None][:1]
