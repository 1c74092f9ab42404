"""Several layers with nothing between them that bends.

Rule: the model is affine in its inputs, f(a) + f(b) - f(a + b - c) = f(c) to 1e-3 of the outputs' spread, in evaluation and in
training mode, at a thousandfold inputs (units at their rails are nearly affine), at standardised ones (all units may lie on one
side for inputs far from zero) and after its training (branches that start at zero bend then); it has two weight layers at
least; and nearest neighbours or a ridge over rectified features beat the linear one by 0.1 of validation skill. The first part
is mechanical, the second says what is missed: certain. Source: seed 002 section 7.8; GitHub questions on XOR.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.calls import calls_of
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.remedies.modules import rewired, then

LEAST_GAIN = 0.1
STRAIGHT = 1e-3  # of the outputs' spread
LAYERS = ("linear", "conv1d", "conv2d", "conv3d", "matmul", "addmm", "bmm", "__matmul__")


def probe(bench: Bench) -> Iterator[Suspicion]:
    inputs = bench.some.inputs
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or len(inputs) < 8:
        return
    model = bench.setup.copied().model
    centred = (inputs - inputs.mean(0)) / inputs.std(0).clamp(min=1e-6)
    asked = [size * part for part in (inputs, centred) for size in (1.0, 1e3)]
    bend = max(bending(model, part, training=mode) for mode in (False, True) for part in asked)
    if bend > STRAIGHT or max(bending(bench.own.model, part, training=False) for part in asked) > STRAIGHT:
        return
    with torch.no_grad():
        _, calls = calls_of(model.eval(), inputs[:4])
    layers = [call for call in calls if call.name in LAYERS and call.weighted]
    found = bench.reference
    if len(layers) < 2 or found is None:
        return
    better = max(found.neighbours, found.features)
    if better - max(found.linear, found.trivial) < LEAST_GAIN:
        return
    yield Suspicion(
        "missing_nonlinearity",
        f"{len(layers)} layers in a row are one linear map: f(a) + f(b) - f(a + b - c) = f(c) to {bend:.1g}",
        f"a linear map reaches {found.linear:.2f} on validation rows, simple bent ones {better:.2f}",
        {
            "bend": bend,
            "num_layers": len(layers),
            "linear": found.linear,
            "neighbours": found.neighbours,
            "features": found.features,
        },
        Remedy(
            "Put an activation such as ReLU between the layers", rewired({call.key: then(torch.relu) for call in layers[:-1]})
        ),
        proof="certain",
        weight=0.9,
        explains=("underfitting", "capacity_too_small", "too_few_epochs", "lr_too_low"),
    )


def bending(model: nn.Module, inputs: Tensor, *, training: bool) -> float:
    """How far the model is from affine, over the spread of its outputs; large where that can't be told."""
    model.train(training)
    for module in model.modules():  # statistics of a batch aren't affine in its rows; what is learnt with them is
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    a, b, c = inputs[: len(inputs) // 3 * 3].tensor_split(3)
    found = []
    with torch.no_grad():
        for part in (a, b, a + b - c, c):
            with seeded_defaults(0):
                outputs = model(part)
            if not isinstance(outputs, Tensor) or not bool(torch.isfinite(outputs).all()):
                return float("inf")
            found.append(outputs.double())
    spread = float(torch.cat([found[0], found[3]]).std(0).max())
    rest = float((found[0] + found[1] - found[2] - found[3]).abs().max())
    return rest / spread if spread > 1e-12 else float("inf")
