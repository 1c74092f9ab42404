"""`stepwell.verify`: compute a stretch of a run again and say whether every bit comes out as it is on record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from stepwell.data.sampling import Sampling
from stepwell.engine.records.run_folder import read_layers, read_metrics
from stepwell.engine.records.same_bytes import first_row_difference, tensor_differences
from stepwell.recipe.evidence.compared import Compared, Verdict, comparable, first_difference, parts_of
from stepwell.recipe.evidence.fingerprint import Difference
from stepwell.recipe.evidence.rerun import Given, require_run, rerun_of
from stepwell.recipe.evidence.stretch import Computed, Stretch, compute, last_stretch
from stepwell.recipe.job import Recipe


@dataclass
class Verification:
    """What computing a stretch of a run again has shown.

    Args:
        verdict: "identical"; "changed" where bits differ and something that can change bits isn't as it was;
            "unexplained" where bits differ and all that is known is as it was: a fault in stepwell, or code or data of
            one's own that isn't a function of the seed.
        first_step, last_step: the stretch, in completed optimizer steps.
        changes: what isn't as it was when the run started, what can change bits first.
        compared: rows on the way, and the state at `last_step` where it was reached.
        chance: of two computations of today the last step at which they still agreed, None where they agree to the end.
        repeated: whether a second computation of today was made; it is where the verdict is "unexplained".
        stopped: why the end of the stretch was not reached, or None.
        damaged: checkpoints that aren't whole, which were passed over.
    """

    verdict: Verdict
    first_step: int
    last_step: int
    changes: list[Difference] = field(default_factory=list)
    compared: Compared = field(default_factory=Compared)
    chance: int | None = None
    repeated: bool = False
    stopped: str | None = None
    damaged: list[str] = field(default_factory=list)

    @property
    def causes(self) -> list[Difference]:
        """Those of the changes that can change bits."""
        return [change for change in self.changes if change.affects == "bits"]


def verify(
    folder: str | Path,
    *,
    steps: int | None = None,
    model: nn.Module | None = None,
    data: Any = None,
    val: Any = None,
    recipe: Recipe | None = None,
    weights: Any = None,
    sampling: Sampling = "once",
) -> Verification:
    """Compute the steps between a run's last two checkpoints again, in memory, and compare every bit.

    Compared are weights, optimizer state, averages, what techniques keep, and the metric values logged in between. With
    one checkpoint alone the stretch begins at the start of the run. Nothing is written to the folder.

    Args:
        folder: a run folder that no process works in.
        steps: at most so many are computed, >= 1; None for any stretch between two checkpoints, and 1000 from the start.
        model, data, val, recipe, weights, sampling: of a run of `fit`, as `fit` had them; recipe only where it holds
            functions or classes of one's own. For a stretch from the start the model must have the weights it had then.

    Raises:
        RunFolderError: no run there, it is in use, it has no whole checkpoint, or the stretch has too many steps.
        JobError, DataError: the job can't be read by this version, or its data is gone.

    >>> import tempfile, torch, stepwell
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)); y = (x.sum(1) > 0).long()
    >>> with tempfile.TemporaryDirectory() as place:
    ...     run = stepwell.fit(torch.nn.Linear(4, 2), (x, y), budget="3 epochs", out=f"{place}/run")
    ...     answer = verify(f"{place}/run", model=torch.nn.Linear(4, 2), data=(x, y))
    >>> answer.verdict, answer.first_step, answer.last_step
    ('identical', 4, 6)
    """
    folder = Path(folder)
    require_run(folder)
    stretch = last_stretch(folder, steps)
    given = Given(model=model, data=data, val=val, recipe=recipe, weights=weights, sampling=sampling)
    rerun = rerun_of(folder, given, verb="verify", step=stretch.first_step)
    if stretch.start is None:
        rerun.changes[:0] = rerun.initial_change()
    answer = Verification("identical", stretch.first_step, stretch.last_step, rerun.changes, damaged=stretch.damaged)
    if any(change.path == "data.fingerprint" for change in rerun.changes):
        answer.verdict, answer.stopped = "changed", "the data isn't what it was, so nothing was computed"
        return answer
    first = compute(rerun, stretch)
    answer.compared, answer.stopped = _compared(folder, stretch, first), first.stopped
    if answer.stopped or not answer.compared.same:
        answer.verdict = "changed" if answer.causes else "unexplained"
    if answer.verdict == "unexplained":
        answer.repeated, answer.chance = True, _parting(first, compute(rerun, stretch), stretch.first_step)
    return answer


def _compared(folder: Path, stretch: Stretch, done: Computed) -> Compared:
    found = Compared()
    for name, before in _recorded_rows(folder, stretch).items():
        found.num_rows += min(len(before), len(done.rows[name]))
        found.take_row(first_row_difference(name, before, done.rows[name], after=stretch.first_step))
    if done.state is not None and done.stopped is None:
        (old, old_rest), (new, new_rest) = (comparable(state) for state in (stretch.end, done.state))
        found.parts, found.tensors = parts_of(old, new), tensor_differences(old, new)
        value = first_difference(old_rest, new_rest)
        found.values = [] if value is None else [value]
    return found


def _recorded_rows(folder: Path, stretch: Stretch) -> dict[str, list[dict[str, Any]]]:
    """The rows that were written between the two states: each knows how many there were by then."""
    rows = {name: read_metrics(folder, name) for name in ("train", "validation")} | {"layers": read_layers(folder)}
    first = {} if stretch.start is None else stretch.start["recorder"]["rows"]
    return {name: found[first.get(name, 0) : stretch.end["recorder"]["rows"].get(name, 0)] for name, found in rows.items()}


def _parting(first: Computed, second: Computed, start: int) -> int | None:
    """The last step at which two computations agreed; None where they agree throughout."""
    if first.sums == second.sums:
        return None
    agreed = start
    for one, other in zip(first.sums, second.sums, strict=False):
        if one != other:
            break
        agreed = one[0]
    return agreed
