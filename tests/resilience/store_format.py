"""Store a run of the present checkpoint format for the tests of later versions: `python tests/resilience/store_format.py`.

Made once for each format, by the version that brings it: a run that was killed at step 40 of 45, with two threads, and what
the same run delivers when nobody kills it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from forked import Marks, ended, forked
from small_runs import MARKS, command, kill_this_process, watch

from stepwell.engine.records.checkpoint import SCHEMA, checkpoints

FORMATS = Path(__file__).parents[1] / "engine" / "formats"
STOPPED = 40
JOB = """\
data: digits
split: {validation: 0.2, test: 0.2}
model: {name: mlp, hidden: [4]}
task: classification
recipe:
  optimizer: {name: adamw, lr: 0.003}
  schedule: one_cycle
  techniques: [mixup, ema]
  batch_size: 256
budget: 9 epochs
checkpoint_every: 5 steps
saving: wait
seed: 0
"""


def store() -> Path:
    """Train, kill, and put what is left where the tests look."""
    torch.set_num_threads(2)
    place = FORMATS / f"checkpoint-{SCHEMA}"
    work = Path(tempfile.mkdtemp())
    os.chdir(work)
    Path("job.yaml").write_text(JOB)

    def killed() -> None:
        os.chdir(work)
        watch(Marks(*MARKS), lambda moment, step: kill_this_process() if (moment, step) == ("stepping", STOPPED) else None)
        command("train", "job.yaml", "--out", "run", "--quiet")

    assert forked(killed).killed
    assert ended(command, "train", "job.yaml", "--out", "whole", "--quiet") == 0
    for old in checkpoints(work / "run" / "checkpoints")[1:]:
        shutil.rmtree(old)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(work / "run", place / "run", ignore=shutil.ignore_patterns("lock", "events.jsonl"))
    path = place / "run" / "manifest.json"  # without what says where and on which machine it was made
    manifest = json.loads(path.read_text())
    kept = {name: manifest[name] for name in ("schema", "seed", "versions", "data")}
    path.write_text(json.dumps({"base": "/home/user", **kept}, indent=2) + "\n")
    shutil.copytree(work / "whole" / "model", place / "delivered")
    shutil.rmtree(work)
    return place


if __name__ == "__main__":
    store()
