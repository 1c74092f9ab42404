"""Sick by what layers do to the signal: its size, its way, its company in the batch."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.utils.data import Subset

from benchmarks.clinic.case import Case, Setup
from benchmarks.clinic.round_2 import builds, nets
from benchmarks.clinic.round_2.builds import Calls, plan, stack, weights_of


def _share_of_variance(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean() / targets.var()


def _lone_variance(seed: int) -> Setup:
    with weights_of(seed):
        model = stack(4, 48, 48, 1, bend=nn.SiLU)
    train, val = builds.terrain(seed)
    return plan((Subset(train, range(897)), val), model, _share_of_variance, "adamw", 0.004, epochs=15)


def _whole_batches(setup: Setup) -> Setup:
    return {**setup, "train": Subset(setup["train"], range(896))}


def _pooled_norm(seed: int) -> Setup:
    with weights_of(seed):
        body = nn.Sequential(nn.Unflatten(1, (1, 30)), nn.Conv1d(1, 12, 5, stride=2), nn.ReLU(), nn.Flatten())
        model = nn.Sequential(body, nn.Linear(156, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 1))
    return plan(builds.slopes(seed, rows=600), model, nn.MSELoss(), "adam", 0.002, epochs=6, batch_size=2)


def _layer_norm(setup: Setup) -> Setup:
    setup["model"][2] = nn.LayerNorm(24)
    return setup


def _across_rows(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Differences()
    return plan(builds.slopes(seed, noise=0.1), model, nn.SmoothL1Loss(), "adam", 0.003, epochs=20)


def _along_time(setup: Setup) -> Setup:
    setup["model"].axis = 1
    return setup


def experts(seed: int) -> Setup:
    """Eight linear experts, one gate."""
    with weights_of(seed):
        model = Calls(nets.mixture, gate=nn.Linear(4, 8), experts=nn.ModuleList(nn.Linear(4, 1) for _ in range(8)))
    return plan(builds.terrain(seed), model, nn.MSELoss(), "adam", 0.03, epochs=30)


def _copied_experts(seed: int) -> Setup:
    setup = experts(seed)
    model = setup["model"]
    model.experts = nn.ModuleList(copy.deepcopy(model.experts[0]) for _ in range(8))
    nn.init.zeros_(model.gate.weight)
    nn.init.zeros_(model.gate.bias)
    return setup


def _drawn_experts(setup: Setup) -> Setup:
    with weights_of(1):
        for expert in setup["model"].experts:
            expert.reset_parameters()
    return setup


def _loud_words(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Writer(6.0)
    return plan(builds.chains(seed), model, builds.places_entropy, "adam", 0.005, epochs=20, batch_size=25)


def _quiet_words(setup: Setup) -> Setup:
    with weights_of(2):
        nn.init.normal_(setup["model"].words.weight, std=0.1)
    return setup


def _gates(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Gates(16)
    return plan(builds.soils(seed), model, nn.CrossEntropyLoss(), "adam", 0.002, epochs=12)


def _around(setup: Setup) -> Setup:
    setup["model"].around = True
    setup["model"].norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(16))
    return setup


def molecules(seed: int, how: str) -> Setup:
    """Graphs as pairs of tensors."""
    with weights_of(seed):
        model = nets.Messages(how)
    return plan(builds.molecules(seed), model, nn.MSELoss(), "adamw", 0.004, epochs=24)


def _by_mean(setup: Setup) -> Setup:
    setup["model"].how = "mean"
    return setup


def _prototypes(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Prototypes()
    return plan(builds.soils(seed), model, nn.CrossEntropyLoss(), "adam", 0.02, epochs=15)


def _bells(setup: Setup) -> Setup:
    setup["model"].act = nets.Bell()
    return setup


def _summed(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Ear()
    return plan(builds.pulses(seed, noise=0.8), model, nn.CrossEntropyLoss(), "sgd", 0.02, epochs=12, momentum=0.9)


def _averaged(setup: Setup) -> Setup:
    setup["model"].pool = "mean"
    return setup


def _unassigned(seed: int) -> Setup:
    with weights_of(seed):
        model = nets.Unassigned()
    return plan(builds.terrain(seed), model, nn.HuberLoss(), "adam", 0.005, epochs=20)


def _assigned(setup: Setup) -> Setup:
    setup["model"].assigned = True
    return setup


CASES: tuple[Case, ...] = (
    Case(
        "terrain-variance-of-one",
        _lone_variance,
        ("last_batch_of_one", "unstable_loss"),
        "r2",
        "threads on a share of variance as the loss: the last batch is one row, whose variance is NaN, and so are the weights",
        fix=_whole_batches,
    ),
    Case(
        "slopes-normed-in-pairs",
        _pooled_norm,
        ("batchnorm_small_batch",),
        "r2",
        "forum threads on batch_size=2 for want of memory: two rows say little of a layer's mean, so levels are lost",
        architecture="cnn",
        data="sequence",
        tolerate=("batch_too_small",),
        fix=_layer_norm,
    ),
    Case(
        "slopes-differenced-across-rows",
        _across_rows,
        ("batch_dependence",),
        "r2",
        "threads on torch.diff and roll with the wrong dim: steps in time were meant, rows of the batch were subtracted",
        data="sequence",
        fix=_along_time,
    ),
    Case(
        "terrain-copied-experts",
        _copied_experts,
        ("symmetric_init",),
        "r2",
        "threads on [copy.deepcopy(expert)] * n behind a gate of zeros: all experts learn the same",
        tolerate=("underfitting", "capacity_too_small", "missing_nonlinearity"),
        fix=_drawn_experts,
    ),
    Case(
        "chains-loud-tied-words",
        _loud_words,
        ("init_too_large",),
        "accuracy",
        "threads on tied word tables: their scale fits inputs and makes scores of tens, so that the loss begins far above ln(24)",
        architecture="rnn",
        data="sequence",
        tolerate=("too_few_epochs", "saturated_activation", "exploding_gradient", "lr_too_low"),
        fix=_quiet_words,
    ),
    Case(
        "soils-sixteen-gated-layers",
        _gates,
        ("vanishing_gradient",),
        "accuracy",
        "forum threads on stacked GLU layers: each gate halves what passes, sixteen leave next to nothing",
        tolerate=("too_few_epochs", "lr_too_low"),
        fix=_around,
    ),
    Case(
        "molecules-neighbours-summed",
        lambda seed: molecules(seed, "sum"),
        ("exploding_gradient", "init_too_large"),
        "r2",
        "questions on graph nets with a raw adjacency matrix: four sums over seven neighbours each",
        tolerate=("lr_too_high", "unstable_gradient"),
        fix=_by_mean,
    ),
    Case(
        "soils-prototypes-behind-relu",
        _prototypes,
        ("dead_relu",),
        "accuracy",
        "threads on layers of distances whose outputs are all zero: minus a square never passes a ReLU",
        tolerate=("vanishing_gradient",),
        fix=_bells,
    ),
    Case(
        "pulses-summed-into-tanh",
        _summed,
        ("saturated_activation",),
        "accuracy",
        "questions on pooling by sum: forty moments add up to where tanh is flat",
        architecture="cnn",
        data="sequence",
        tolerate=("init_too_large", "vanishing_gradient", "exploding_gradient", "lr_too_high"),
        fix=_averaged,
    ),
    Case(
        "terrain-bend-thrown-away",
        _unassigned,
        ("missing_nonlinearity",),
        "r2",
        "questions on F.gelu(x) as a line of its own: what it returns is not kept",
        tolerate=("underfitting", "capacity_too_small"),
        fix=_assigned,
    ),
)
