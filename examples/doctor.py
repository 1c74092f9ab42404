"""Ask why a training fails, mend it, and train what comes out in a loop of your own."""

from __future__ import annotations

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import stepwell

data = load_diabetes()
x = torch.tensor(data.data, dtype=torch.float32) * 4000  # as if in raw units
y = torch.tensor(data.target, dtype=torch.float32)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val = TensorDataset(x[order[:340]], y[order[:340]]), TensorDataset(x[order[340:]], y[order[340:]])

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))  # outputs are (N, 1), targets (N,)
optimizer = {"name": "sgd", "lr": 0.01}

diagnosis = stepwell.diagnose(model, train, val, loss=nn.MSELoss(), optimizer=optimizer, batch_size=32, epochs=30)
print(diagnosis)

repair = diagnosis.repair()
for step in repair.steps:
    print("applied:", step, "|", step.verified)
print("left:", repair.left or "nothing")

setup = repair.setup  # the same keywords: any loop can train it
settings = {key: value for key, value in setup["optimizer"].items() if key not in ("name", "params")}
loop = torch.optim.SGD(setup["model"].parameters(), **settings)
for _ in range(setup["epochs"]):
    for inputs, targets in DataLoader(setup["train"], setup["batch_size"], shuffle=setup["shuffle"]):
        loop.zero_grad()
        loss = setup["loss"](setup["model"](inputs), targets)
        loss.backward()
        loop.step()
setup["model"].eval()
with torch.no_grad():
    inputs, targets = setup["val"].tensors
    error = (setup["model"](inputs).reshape(-1) - targets).square().mean()
print(f"share of the variance that is explained: {1 - float(error / targets.var()):.2f}")
