"""Training runs of some tens of milliseconds, one for each kind of state, watched from outside, and what remains of them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forked import Marks
from system_calls import Calls, put_in
from torch import Tensor, nn
from torch.utils.data import Dataset

ROWS, BATCH, EPOCHS = 96, 16, 4
EPOCH = ROWS // BATCH  # steps
STEPS = EPOCH * EPOCHS
INTERVAL = 5  # steps between two checkpoints: not a divisor of an epoch, so that they fall everywhere in it
MARKS = ("began", "step", "in_step", "begun_save", "in_save", "in_evaluation", "saved", "done")

Aim = Callable[[str, int], None]
"""Called with a moment's name and the completed steps; it may end the process there."""


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Samples that cost work, which draws from every global generator."""

    def __init__(self) -> None:
        self.inputs, self.targets = rows(0, ROWS)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(6) + random.random() + float(np.random.rand())
        return self.inputs[index] + 0.1 * noise, self.targets[index]


def rows(seed: int, number: int) -> tuple[Tensor, Tensor]:
    """Inputs (number, 6) and classes of a problem that can be learned in part."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(number, 6, generator=generator)
    return inputs, (inputs[:, 0] * inputs[:, 1] + 0.5 * torch.randn(number, generator=generator) > 0).long()


def network() -> nn.Module:
    """A small network with dropout and a norm that keeps statistics, always with the same weights."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


ADAMW = {"name": "adamw", "lr": 1e-2}
EMA = {"name": "ema", "half_life": "4 steps"}
STAGES = [{"modules": ["4"], "at": "0 steps"}, {"modules": ["0", "1"], "at": "9 steps"}]
VARIANTS: dict[str, dict[str, Any]] = {
    "dropout": {"optimizer": ADAMW, "schedule": {"name": "one_cycle"}},
    "mixup": {"optimizer": ADAMW, "schedule": {"name": "warmup_cosine"}, "techniques": [{"name": "mixup", "alpha": 0.4}]},
    "ema": {"optimizer": ADAMW, "techniques": [EMA, {"name": "clip_norm", "max_norm": 0.5}]},
    "swa": {
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "techniques": [{"name": "swa", "start": "40%", "every": "2 steps"}],
    },
    "accumulation": {"optimizer": ADAMW, "micro_batch_size": 6, "techniques": [EMA]},
    "plateau": {"optimizer": ADAMW, "schedule": {"name": "plateau", "patience": 0, "factor": 0.5}},
    "early_stopping": {"optimizer": {"name": "adamw", "lr": 0.1}, "techniques": [{"name": "early_stopping", "patience": 2}]},
    "fp16": {"optimizer": ADAMW, "precision": "fp16", "schedule": {"name": "warmup_cosine"}},
    "samples": {"optimizer": ADAMW, "techniques": [EMA]},
    "workers": {"optimizer": ADAMW, "techniques": [EMA]},
    "unfreezing": {"optimizer": ADAMW, "techniques": [{"name": "unfreezing", "stages": STAGES}]},
    "schedule_free": {"optimizer": {"name": "schedule_free_adamw", "lr": 1e-2}},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plateau": {"evaluate_every": "3 steps"},
    "early_stopping": {"evaluate_every": "3 steps"},
    "workers": {"workers": 2},
}
SAMPLED = ("samples", "workers")


def train(variant: str, folder: Path, *, marks: Marks | None = None, aim: Aim | None = None, **changes: Any) -> dict[str, Any]:
    """Begin or go on with a variant's run; what came of it, as far as JSON can tell.

    Args:
        variant: a key of VARIANTS.
        folder: the run's.
        marks: kept up to date with where the run is.
        aim: hears of moments, see `watch`.
        changes: of what `fit` is called with.
    """
    import stepwell

    if marks is not None or aim is not None:
        watch(marks or Marks(*MARKS), aim)
    recipe = stepwell.Recipe(objective="cross_entropy", batch_size=BATCH, **VARIANTS[variant])
    settings = {"evaluate_every": "1 epochs", "checkpoint_every": f"{INTERVAL} steps", "log_every": "2 steps"}
    settings |= {"budget": f"{EPOCHS} epochs", "seed": 7} | SETTINGS.get(variant, {}) | changes
    data = settings.pop("data", None) or (Noisy() if variant in SAMPLED else rows(0, ROWS))
    val = settings.pop("val", None) or rows(1, 40)
    model = settings.pop("model", None) or network()
    run = stepwell.fit(model, data, val=val, recipe=recipe, out=folder, existing="resume", **settings)
    if marks is not None:
        marks["done"] = 1
    return {"steps": run.steps, "reason": run.stop_reason, "best": run.best.get("step")}


def watch(marks: Marks, aim: Aim | None) -> None:
    """For the rest of this child's life, note where the run is and tell `aim` of each moment.

    Moments: "began" (the loop is entered, after loading), "stepping" and "stepped", "evaluating", "evaluated", "saving", "saved",
    "pruned" and "call" (before and after each of storage's calls). Only functions that other modules import are wrapped.
    """
    from stepwell.engine import trainer
    from stepwell.engine.records import saver
    from stepwell.recipe import run as run_module

    tell: Aim = aim or (lambda moment, step: None)

    def wrapped(owner: Any, name: str, around: Callable[..., Any]) -> None:
        before = getattr(owner, name)
        setattr(owner, name, lambda *args, **settings: around(before, *args, **settings))

    def run(go_on: Any, self: Any) -> Any:
        marks["step"] = marks["began"] = self.step.clock.steps
        tell("began", marks["began"])
        return go_on(self)

    def step(go_on: Any, self: Any, batch: Any) -> Any:
        marks["in_step"] = 1
        tell("stepping", self.clock.steps)
        report = go_on(self, batch)
        marks["step"], marks["in_step"] = self.clock.steps, 0
        tell("stepped", self.clock.steps)
        return report

    def evaluate(go_on: Any, model: Any, batches: Any, **settings: Any) -> Any:
        marks["in_evaluation"] = 1
        tell("evaluating", marks["step"])
        metrics = go_on(model, batches, **settings)
        tell("evaluated", marks["step"])
        marks["in_evaluation"] = 0
        return metrics

    def start(go_on: Any, self: Any, state: Any, *, step: int, **settings: Any) -> None:
        self.wait()
        marks["begun_save"] = step
        go_on(self, state, step=step, **settings)

    def save(go_on: Any, folder: Path, state: Any, *, step: int) -> Any:
        marks["in_save"] = 1
        tell("saving", step)
        try:
            saved = go_on(folder, state, step=step)
        except BaseException:
            marks["in_save"] = 0
            raise
        marks["saved"] = step
        tell("saved", step)
        return saved

    def prune(go_on: Any, *args: Any, **settings: Any) -> Any:
        try:
            return go_on(*args, **settings)
        finally:
            tell("pruned", marks["saved"])
            marks["in_save"] = 0

    wrapped(trainer.Trainer, "run", run)
    wrapped(trainer.TrainStep, "__call__", step)
    wrapped(run_module, "evaluate", evaluate)
    wrapped(saver.Saver, "start", start)
    wrapped(saver, "save_checkpoint", save)
    wrapped(saver, "prune", prune)


class Counting(Calls):
    """Tells of each call of storage before and after it, with its number from 0."""

    def __init__(self, tell: Callable[[int, str, Any], None]) -> None:
        super().__init__()
        self.number, self._tell = 0, tell

    def at(self, call: Any, go_on: Callable[..., Any]) -> Any:
        number, self.number = self.number, self.number + 1
        self._tell(number, "before", call)
        try:
            return go_on()
        finally:  # a refused call is one too: a folder can't be unlinked as a file
            self._tell(number, "after", call)


def count_calls(tell: Callable[[int, str, Any], None]) -> Counting:
    """Put a counting stand-in in for the rest of this child's life."""
    stand_in = Counting(tell)
    put_in(stand_in)
    return stand_in


def remains(folder: Path) -> dict[str, bytes]:
    """What must be the same after any number of interruptions, by file name: the delivered model, the whole state of the
    last checkpoint, which checkpoints there are, the metrics, and the result but for its seconds."""
    places = sorted((folder / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:]))
    files = [folder / "model" / "model.safetensors", folder / "model" / "model.json"]
    files += [path for path in sorted((folder / "metrics").rglob("*")) if path.is_file()]
    files += sorted(places[-1].iterdir())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    found["checkpoints"] = " ".join(place.name for place in places).encode()
    result = json.loads((folder / "result.json").read_text())
    result.pop("seconds")
    found["result.json"] = json.dumps(result, sort_keys=True).encode()
    return found


def without_names(found: dict[str, bytes]) -> dict[str, bytes]:
    """The same without the list of checkpoints: one that a signal asked for, or that could not be saved, shows there."""
    return {name: content for name, content in found.items() if name != "checkpoints"}


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of what isn't the same to the byte."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def temporaries(folder: Path) -> list[str]:
    """Files and folders that a save left behind, and nobody needs."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".tmp-" in path.name)


def kill_this_process() -> None:
    """As `kill -9` would: nothing of Python or C runs any more."""
    os.kill(os.getpid(), 9)


JOB = """\
data: {source: table, path: rows.csv, target: kind}
split: {validation: 0.2, test: 0.2}
model: {name: mlp, hidden: [6]}
task: classification
recipe:
  optimizer: {name: adamw, lr: 0.01}
  techniques: [{name: ema, half_life: 4 steps}]
  batch_size: 16
budget: 4 epochs
checkpoint_every: 5 steps
seed: 3
"""


def write_job(folder: Path) -> Path:
    """A job file with its table of 120 rows; the job's path."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs, targets = rows(2, 120)
    lines = [",".join(f"{value:.4f}" for value in row) + f",{['no', 'yes'][kind]}" for row, kind in zip(inputs.tolist(), targets)]
    (folder / "rows.csv").write_text("a,b,c,d,e,f,kind\n" + "\n".join(lines) + "\n")
    (folder / "job.yaml").write_text(JOB)
    return folder / "job.yaml"


def command(*arguments: str | Path) -> None:
    """`stepwell ARGUMENTS`; ends the child."""
    from stepwell.cli.main import main

    main([str(argument) for argument in arguments])
