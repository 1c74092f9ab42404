"""`stepwell.diff`: what two runs differ in, from their folders alone: nothing is computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from stepwell.core.errors import StepwellError
from stepwell.engine.records.event_log import read_events
from stepwell.engine.records.run_folder import read_metrics
from stepwell.engine.records.same_bytes import RowDifference, same_value, tensor_differences, weight_hash
from stepwell.engine.records.storage import read_json
from stepwell.engine.records.strict_json import number
from stepwell.engine.records.tensors import read_tensors
from stepwell.recipe.evidence.compared import Compared, Part
from stepwell.recipe.evidence.fingerprint import Difference, differences
from stepwell.recipe.evidence.job_record import budgets_told
from stepwell.recipe.evidence.rerun import require_run
from stepwell.recipe.values.compare import Change, mapping_diff

_PACKAGES = "packages.installed."

WATCHED = {"doctor"}  # what somebody who watched a run said of it: a run that nobody watched is the same run


@dataclass(frozen=True)
class MetricPair:
    """A metric of both runs.

    Args:
        name: of the metric, with its part in front: "validation loss", "best accuracy", "test auc".
        a, b: its values; None where a run has none.
    """

    name: str
    a: float | None
    b: float | None


@dataclass
class RunDifference:
    """What two runs differ in. Lists hold differences only.

    Args:
        a, b: the run folders.
        job: setting by setting.
        environment: where they were computed, and the code as git knows it; packages apart.
        packages: installed distributions of other versions; the path is the name.
        data: fingerprints of the data, where they differ.
        metrics: final and best values, and the steps, equal ones too.
        compared: rows that both logged at one step, and delivered weights; tensors furthest apart come first.
        events: kind -> how often in each run, where that differs.
    """

    a: Path
    b: Path
    job: list[Change] = field(default_factory=list)
    environment: list[Difference] = field(default_factory=list)
    packages: list[Difference] = field(default_factory=list)
    data: Difference | None = None
    metrics: list[MetricPair] = field(default_factory=list)
    compared: Compared = field(default_factory=Compared)
    events: dict[str, tuple[int, int]] = field(default_factory=dict)


def diff(a: str | Path, b: str | Path) -> RunDifference:
    """What two runs differ in: job, environment, packages, data, metrics, weights, events.

    Args:
        a, b: run folders, finished or not.

    Raises:
        RunFolderError: one of them holds no run.

    >>> import tempfile, torch, stepwell
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)); y = (x.sum(1) > 0).long()
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for seed in (0, 1):
    ...         run = stepwell.fit(torch.nn.Linear(4, 2), (x, y), budget="2 epochs", seed=seed, out=f"{place}/{seed}")
    ...     found = diff(f"{place}/0", f"{place}/1")
    >>> found.job, found.compared.row.step
    ([Change(path='seed', before=0, after=1, kind='changed')], 1)
    """
    places = Path(a), Path(b)
    jobs = [job | {"budget": budgets_told(place, job.get("budget"))} for place in places for job in [require_run(place)]]
    records, results = ([_read(place / name) for place in places] for name in ("manifest.json", "result.json"))
    found = RunDifference(*places, job=mapping_diff(*jobs))
    environments = differences(*(_environment(record) for record in records))
    found.packages = [
        Difference(item.path.removeprefix(_PACKAGES), item.before, item.now, item.affects)
        for item in environments
        if item.path.startswith(_PACKAGES)
    ]
    found.environment = [item for item in environments if not item.path.startswith("packages.")]
    old, new = ((record.get("data") or {}).get("fingerprint") for record in records)
    found.data = None if old == new else Difference("data.fingerprint", old, new, "bits")
    found.metrics = _metrics(places, results)
    for name in ("train", "validation"):
        row, num_rows = _first_at_common_step(name, *(read_metrics(place, name) for place in places))
        found.compared.num_rows += num_rows
        found.compared.take_row(row)
    weights = [_weights(place) for place in places]
    found.compared.parts = [Part("weights", *(weight_hash(side) if side else "" for side in weights))]
    if all(weights):
        found.compared.tensors = sorted(tensor_differences(*weights), key=lambda item: -item.largest)
    counts = [_counts(place) for place in places]
    kinds = sorted({*counts[0], *counts[1]})
    found.events = {kind: (counts[0][kind], counts[1][kind]) for kind in kinds if counts[0][kind] != counts[1][kind]}
    return found


def _read(path: Path) -> dict[str, Any]:
    # A run that isn't finished has no result; what can't be read of a record is shown as missing.
    try:
        read = read_json(path)
    except (OSError, ValueError, StepwellError):
        return {}
    return read if isinstance(read, dict) else {}


def _environment(record: Mapping[str, Any]) -> dict[str, Any]:
    known = record.get("environment")
    found = dict(known) if isinstance(known, dict) else {name: record.get(name) or {} for name in ("versions", "hardware")}
    return found | {"git": record.get("git") or {}}


def _metrics(places: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> list[MetricPair]:
    sides = [_final(place, result) for place, result in zip(places, results, strict=True)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [MetricPair(name, sides[0].get(name), sides[1].get(name)) for name in names]


def _final(place: Path, result: Mapping[str, Any]) -> dict[str, float]:
    """A run's last and best values; of a run that isn't finished, its last rows'."""
    train, validation = (read_metrics(place, name)[-1:] for name in ("train", "validation"))
    found: dict[str, float] = {}
    if result.get("steps") is not None:
        found["steps"] = number(result["steps"])
    elif train:
        found["steps"] = train[0]["step"]
    found |= {"train loss": train[0]["loss"]} if train and "loss" in train[0] else {}
    rows = {} if not validation else {key: value for key, value in validation[0].items() if key not in ("step", "epoch")}
    final = result.get("metrics") or rows
    found |= {f"validation {key}": number(value) for key, value in final.items()}
    best = result.get("best") or {}
    if "metric" in best:
        found |= {f"best {best['metric']}": number(best["value"]), "best at step": number(best["step"])}
    return found | {f"test {key}": number(value) for key, value in (result.get("test") or {}).items()}


def _first_at_common_step(
    name: str, a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]
) -> tuple[RowDifference | None, int]:
    """The first difference in columns that both have, at steps that both logged; and how many steps those are."""
    others = {int(row["step"]): row for row in b}
    common = [row for row in a if int(row["step"]) in others]
    after: int | None = None
    for row in common:
        step = int(row["step"])
        for column, value in row.items():
            other = others[step].get(column)
            if other is not None and not same_value(value, other):
                return RowDifference(name, step, after, column, value, other), len(common)
        after = step
    return None, len(common)


def _weights(place: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(place / "model" / "model.safetensors")
    except (OSError, StepwellError):
        return {}


def _counts(place: Path) -> Counter[str]:
    try:
        events = read_events(place / "events.jsonl")
    except (OSError, StepwellError):
        events = []
    kinds = {event.kind for event in events} - WATCHED
    return Counter({kind: sum(event.repeated for event in events if event.kind == kind) for kind in kinds})
