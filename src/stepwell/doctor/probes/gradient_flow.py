"""vanishing_gradient, exploding_gradient: the first layers get thousands of times less, or more, than the last ones.

Rule: of the untrained model, gradient norm, and gradient norm over weight norm, of each tensor with two dimensions or more.
Vanishing: the smallest of the first half is less than a thousandth of the largest of the last half, of either; or the
largest of all is less than a thousandth of a bias's; or the gradient in the first tenth of a sequence is less than a
thousandth of that in the last tenth. Exploding: a gradient is more than
300 times its weights (of quantities after division by the targets' size: a loss in their unit isn't the network's fault), or not
finite. Remedies that must help: rectified units in place of units with rails, a norm
behind each layer, gates in place of a plain recurrence, weights drawn anew.
Source: Hochreiter 1991; Pascanu, Mikolov & Bengio, ICML 2013, arXiv:1211.5063; ratios as in AutoTrainer (ICSE 2021), without
its scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Number, Remedy, Suspicion
from stepwell.doctor.remedies.flow import gated, normed, rectified
from stepwell.doctor.remedies.modules import drawn_anew
from stepwell.doctor.rows import Rows
from stepwell.doctor.setup import Setup

VANISHED = 1e-3
EXPLODED = 300.0
SHORTEST = 6  # moments of a sequence


@dataclass(frozen=True)
class Flow:
    """Gradients of a model by tensor.

    Args:
        ratios: weight tensor -> gradient norm over weight norm, in the model's order.
        norms: weight tensor -> gradient norm.
        biases: the largest gradient norm of a tensor with one dimension.
        through_time: gradient norm in the first tenth of a sequence over that in the last, None where inputs are no sequence.
    """

    ratios: dict[str, float]
    norms: dict[str, float]
    biases: float
    through_time: float | None

    @property
    def decay(self) -> float:
        """The least of the first half over the most of the last half; 1 where there is one tensor."""
        half = len(self.ratios) // 2
        if half < 1:
            return 1.0
        both = [list(self.ratios.values()), list(self.norms.values())]
        return min(min(values[:half]) / max(*values[half:], 1e-30) for values in both)

    @property
    def beside_biases(self) -> float:
        """The largest gradient of all weights over that of the biases: next to nothing where outputs hardly depend on inputs."""
        return max(self.norms.values()) / self.biases if self.norms and self.biases > 0 else 1.0

    @property
    def most(self) -> float:
        return max(self.ratios.values(), default=0.0)


def probe(bench: Bench) -> Iterator[Suspicion]:
    if not bench.unfit:
        return
    flow = flow_of(bench.setup, bench.first_batch)
    evidence: dict[str, Number] = {
        "tensors": list(flow.ratios),
        "gradient_over_weight": [round(value, 8) for value in flow.ratios.values()],
        "decay": flow.decay,
        "through_time": flow.through_time,
    }
    least = min(flow.decay, flow.beside_biases, 1.0 if flow.through_time is None else flow.through_time)
    if least < VANISHED:
        for remedy in _against_vanishing(bench):
            yield Suspicion(
                "vanishing_gradient",
                f"the first layers, or moments, get {least:.1g} of the gradient that the last ones get",
                "what the first layers should learn hardly reaches them",
                evidence,
                remedy,
                proof="mechanism",
                weight=0.75,
                explains=(
                    "lr_too_low",
                    "too_few_epochs",
                    "underfitting",
                    "saturated_activation",
                    "dead_relu",
                    "capacity_too_small",
                ),
            )
    if flow.most > EXPLODED * _unit(bench) or not torch.isfinite(torch.tensor(flow.most)):
        for remedy in (Remedy("Leave weights as their layers draw them", drawn_anew()), _norm()):
            yield Suspicion(
                "exploding_gradient",
                f"a gradient has {flow.most:.3g} times the norm of its weights",
                "each layer, or each moment of a sequence, makes it larger",
                evidence,
                remedy,
                proof="mechanism",
                weight=0.75,
                explains=("lr_too_high", "unstable_gradient", "dead_relu", "saturated_activation", "underfitting"),
            )


def _unit(bench: Bench) -> float:
    """Size of the targets where they are quantities, 1 at least."""
    targets = bench.some.targets
    if bench.task.kind != "quantity" or not bool(torch.isfinite(targets).all()):
        return 1.0
    return max(1.0, float(targets.double().square().mean().sqrt()))


def _against_vanishing(bench: Bench) -> Iterator[Remedy]:
    if any(isinstance(part, nn.RNN) for part in bench.setup.model.modules()):
        yield Remedy("Use a gated recurrence (GRU or LSTM)", gated)
    else:
        yield Remedy("Use rectified units in place of sigmoids and tanhs", rectified)
    yield Remedy("Leave weights as their layers draw them", drawn_anew())
    yield _norm()


def _norm() -> Remedy:
    return Remedy("Put a norm behind each layer but the last", normed)


def tables_of(model: nn.Module) -> set[int]:
    """Ids of the weights of embeddings: a batch touches few of their rows, so their gradient says little."""
    return {id(part.weight) for part in model.modules() if isinstance(part, (nn.Embedding, nn.EmbeddingBag))}


def flow_of(setup: Setup, rows: Rows) -> Flow:
    """One backward pass of a copy over some rows, in training mode."""
    copied = setup.copied()
    copied.model.zero_grad()
    inputs = rows.inputs
    sequence = isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.dim() == 3 and inputs.shape[1] >= SHORTEST
    with seeded_defaults(0), torch.enable_grad():
        copied.model.train()
        if sequence:
            inputs = inputs.clone().requires_grad_(True)
        copied.loss(copied.model(inputs), rows.targets).backward()  # type: ignore[no-untyped-call]
    parts = {name: part for name, part in copied.model.named_parameters() if part.grad is not None}
    norms = {name: float(part.grad.norm()) for name, part in parts.items() if part.grad is not None}
    biases = max((norm for name, norm in norms.items() if parts[name].dim() < 2), default=0.0)
    # Weights that start at zero on purpose (heads, branches) have no ratio, and what lies before them no gradient yet.
    tables = tables_of(copied.model)
    sizes = {
        name: float(part.detach().norm())
        for name, part in parts.items()
        if part.dim() >= 2 and norms[name] > 0 and id(part) not in tables
    }
    ratios = {name: norms[name] / size for name, size in sizes.items() if size > 0}
    norms = {name: norms[name] for name in ratios}
    through_time = None
    if sequence and inputs.grad is not None:
        moments = inputs.grad.norm(dim=2).mean(0)
        tenth = max(1, len(moments) // 10)
        if bool(moments.any()):  # where no moment gets any, nothing has vanished on the way
            through_time = float(moments[:tenth].mean() / moments[-tenth:].mean().clamp(min=1e-30))
    return Flow(ratios, norms, biases, through_time)
