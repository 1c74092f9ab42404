"""What the pictures of a diagnosis show, measured after it: gradients by layer, activations over time, one batch alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor import curves
from stepwell.doctor.bench import SEEDS, Bench
from stepwell.doctor.calls import Call, calls_of
from stepwell.doctor.probes.gradient_flow import flow_of, tables_of
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup
from stepwell.doctor.trials import Course, index_batches, take_step

MOST_STEPS = 400  # of the training that is watched, and SNAPSHOTS looks at it
SNAPSHOTS = 12
BINS = 41
MOST_LAYERS = 4
_LAYERS = ("linear", "conv1d", "conv2d", "conv3d")
_UNITS = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "softsign"),
    *("tanh", "sigmoid", "logsigmoid", "hardtanh", "hardsigmoid", "hardswish", "rnn_tanh", "rnn_relu", "lstm", "gru"),
)


@dataclass(frozen=True)
class Gradients:
    """Norm of each weight's gradient over the weight's own norm, in the order of the model.

    Args:
        names: of tensors with two dimensions or more.
        before, after: of the untrained model, and at the end of its training; nan where there is none to tell.
    """

    names: list[str]
    before: list[float]
    after: list[float]


@dataclass(frozen=True)
class Activations:
    """Where the values of one layer lie, over the training.

    Args:
        name: of its function, with its number.
        steps: at which they were looked at.
        edges: of the bins, (BINS + 1,).
        shares: share of the values in each bin, (snapshots, BINS).
    """

    name: str
    steps: list[int]
    edges: Tensor
    shares: Tensor


def pattern_of(course: Course) -> curves.Verdict:
    """Which of the six patterns a course shows."""
    seen = [look for look in course.looks if math.isfinite(look.val_loss)]
    return curves.verdict(
        curves.Logged(
            steps=list(range(1, len(course.losses) + 1)),
            losses=course.losses,
            val_steps=[look.step for look in seen],
            val_losses=[look.val_loss for look in seen],
            clean_steps=[look.step for look in course.looks],
            clean_losses=[look.train_loss for look in course.looks],
            compared="raised",
            bad_steps=[] if course.nonfinite is None else [course.nonfinite],
        )
    )


def gradients_of(bench: Bench) -> Gradients:
    """Two backward passes over the first batch."""
    before, after = (flow_of(setup, bench.first_batch).ratios for setup in (bench.setup, bench.own.setup))
    model = bench.setup.model
    tables = tables_of(model)
    names = [name for name, part in model.named_parameters() if part.dim() >= 2 and id(part) not in tables]
    return Gradients(names, [before.get(name, math.nan) for name in names], [after.get(name, math.nan) for name in names])


def activations_of(bench: Bench) -> list[Activations]:
    """The own training once more, with a look at some layers on the way; at most `MOST_STEPS` steps of it."""
    num_steps = min(bench.trial_steps, MOST_STEPS)
    due = sorted({round(number * num_steps / (SNAPSHOTS - 1)) for number in range(SNAPSHOTS)})
    setup = bench.setup.copied()
    some = bench.some.take(slice(0, 128))
    found: list[list[Tensor]] = []
    names: list[str] = []
    with seeded_defaults(SEEDS[0]), torch.enable_grad():
        optimizer = setup.build_optimizer()
        batches = index_batches(setup, SEEDS[0])
        for step in range(num_steps + 1):
            if step in due:
                seen = _shown(setup, some)
                names = names or [f"{call.key[0]} {call.key[1] + 1}" for call in seen]
                found.append([_sampled(call) for call in seen])
            if step < num_steps:
                setup.model.train()
                loss, _ = take_step(setup, optimizer, setup.train.take(next(batches)))
                if not math.isfinite(loss):
                    break
    steps = due[: len(found)]
    if not all(len(values) == len(names) for values in found):
        return []
    return [_histogram(name, steps, [values[place] for values in found]) for place, name in enumerate(names)]


def _shown(setup: Setup, rows: Rows) -> list[Call]:
    """Activation functions, or layers where there are none; a few, spread over the depth."""
    with torch.no_grad(), seeded_defaults(0):
        _, calls = calls_of(setup.model.eval(), rows.inputs)
    units = [call for call in calls if call.key[0].rstrip("_") in _UNITS and _values(call) is not None]
    chosen = units or [call for call in calls if call.key[0] in _LAYERS and _values(call) is not None]
    places = torch.linspace(0, len(chosen) - 1, min(len(chosen), MOST_LAYERS)).round().long().tolist()
    return [chosen[place] for place in places]


def _values(call: Call) -> Tensor | None:
    output = call.output[0] if isinstance(call.output, (tuple, list)) and call.output else call.output
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def _sampled(call: Call) -> Tensor:
    values = _values(call)
    assert values is not None
    flat = values.detach().reshape(-1).float()
    return flat if len(flat) <= 20_000 else flat[torch.linspace(0, len(flat) - 1, 20_000).long()]


def _histogram(name: str, steps: list[int], values: list[Tensor]) -> Activations:
    joined = torch.cat(values)
    joined = joined[torch.isfinite(joined)]
    chosen = joined[torch.linspace(0, len(joined) - 1, min(len(joined), 50_000)).long()] if len(joined) else torch.zeros(1)
    low, high = (float(torch.quantile(chosen, share)) for share in (0.002, 0.998))
    room = 0.02 * (high - low) or 0.5
    edges = torch.linspace(low - room, high + room, BINS + 1)
    shares = [torch.histogram(part[torch.isfinite(part)].clamp(low, high), edges).hist / max(len(part), 1) for part in values]
    return Activations(name, steps, edges, torch.stack(shares))


def rates_tried(bench: Bench) -> list[tuple[float, float]]:
    """Learning rates whose trainings were made, ascending, each with the validation skill that it ended with."""
    own = (bench.setup.lr, bench.own.skill())
    others = [(setup.lr, bench.course(setup, seed=SEEDS[0]).skill()) for setup in bench.rates.values()]
    return sorted([own, *others])
