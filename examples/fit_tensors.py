"""A model and two tensors: train, look at what came out, predict."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import stepwell

digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val = order[:1400], order[1400:]

model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
recipe = stepwell.Recipe(
    objective="cross_entropy",
    optimizer={"name": "adamw", "lr": 3e-3},
    schedule={"name": "one_cycle"},
    techniques=[{"name": "clip_norm", "max_norm": 1.0}],
    batch_size=64,
)
run = stepwell.fit(model, (x[train], y[train]), val=(x[val], y[val]), recipe=recipe, budget="15 epochs", seed=0, out=None)

print("stopped because:", run.stop_reason)
print("metrics:", run.metrics)
print("best:", run.best)
with torch.no_grad():
    print("predicted:", run.model(x[val[:10]]).argmax(1).tolist(), "true:", y[val[:10]].tolist())
