"""A loop of your own around stepwell's step: uneven micro-batches, warmup, clipping and an average come with it."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from stepwell import Batch, TrainStep
from stepwell.core.clock import Horizon
from stepwell.techniques import AdamW, ClipNorm, CrossEntropy, Ema, WarmupCosine

digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
generator = torch.Generator().manual_seed(0)
order = torch.randperm(len(x), generator=generator)
x_train, y_train, x_test, y_test = x[order[:1400]], y[order[:1400]], x[order[1400:]], y[order[1400:]]

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
step = TrainStep(
    model,
    objective=CrossEntropy(),
    optimizer=AdamW(lr=3e-3, weight_decay=0.01),
    techniques=[WarmupCosine(warmup="5%"), ClipNorm(max_norm=1.0), Ema(half_life="5%")],
    horizon=Horizon.of("300 steps"),
    seed=0,
)

for _ in range(300):
    index = torch.randint(0, len(x_train), (64,), generator=generator)
    report = step(Batch(x_train[index], y_train[index]))
    if report.step % 100 == 0:
        print(f"step {report.step}  loss {report.loss.item():.3f}  grad norm {report.grad_norm.item():.3f}  lr {report.lr:.2e}")

model.eval()
[average] = step.parts.averages.values()
with average.swapped(), torch.no_grad():
    print(f"test accuracy of the average: {(model(x_test).argmax(1) == y_test).float().mean():.3f}")
