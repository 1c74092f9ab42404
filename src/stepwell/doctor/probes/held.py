"""Parameters that never move: the optimizer doesn't hold them, or they don't ask for gradients.

Rules: (1) none of the model's trainable tensors is held: certain. (2) some trainable ones aren't held: mechanism; (3)
parameters without requires_grad that take part in the outputs, a tenth of all at least: symptom. In (2) and (3) training all
must help, for a backbone may be frozen on purpose. Identity of tensors, no thresholds of values.
Source: GitHub microsoft/nni#4521, pytorch/pytorch#14467; TrainCheck (OSDI 2025), forum case 84911.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from stepwell.core.randomness import seeded_defaults
from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Remedy, Suspicion
from stepwell.doctor.hidden import matters
from stepwell.doctor.remedies.modules import hold_all
from stepwell.doctor.rows import tree
from stepwell.doctor.setup import Setup

LEAST_SHARE = 0.1
_FOLLOWS = ("underfitting", "capacity_too_small", "lr_too_low", "too_few_epochs", "vanishing_gradient")


def held_tensors(setup: Setup) -> list[Tensor] | None:
    """What the optimizer was given; None where it holds all that the model has."""
    held = setup.optimizer.get("params")
    if held is None:
        return None
    found: list[Tensor] = []
    for part in held:
        found += list(part["params"]) if isinstance(part, dict) else [part]
    return found


def probe(bench: Bench) -> Iterator[Suspicion]:
    model = bench.setup.model
    trainable = {id(part): name for name, part in model.named_parameters() if part.requires_grad}
    held = held_tensors(bench.setup)
    frozen = [part for part in model.parameters() if not part.requires_grad]
    total = sum(part.numel() for part in model.parameters())
    if held is not None and trainable:
        theirs = {id(part) for part in held}
        missing = [name for key, name in trainable.items() if key not in theirs]
        foreign = sum(1 for key in theirs if key not in trainable and key not in {id(part) for part in frozen})
        if missing:
            yield _missing(bench, missing, foreign, total, num_held=len(trainable) - len(missing))
    if frozen and sum(part.numel() for part in frozen) >= LEAST_SHARE * total and _used(bench):
        names = [name for name, part in model.named_parameters() if not part.requires_grad]
        num_frozen = sum(part.numel() for part in frozen)
        yield Suspicion(
            "frozen_params",
            f"{num_frozen} of {total} parameters have requires_grad=False: {', '.join(names[:3])}",
            "they keep the values of their start",
            {"num_frozen": num_frozen, "num_parameters": total, "share": num_frozen / max(total, 1), "names": names[:20]},
            Remedy("Let them train: requires_grad_(True), and give the optimizer all parameters", hold_all),
            proof="symptom" if len(frozen) < len(list(model.parameters())) else "certain",
            weight=0.8,
            explains=_FOLLOWS,
        )


def _missing(bench: Bench, missing: list[str], foreign: int, total: int, *, num_held: int) -> Suspicion:
    sizes = dict(bench.setup.model.named_parameters())
    num_missing = sum(sizes[name].numel() for name in missing)
    return Suspicion(
        "params_not_in_optimizer",
        f"the optimizer holds {num_held} of the model's {num_held + len(missing)} trainable tensors"
        + (f", and {foreign} that aren't the model's" if foreign else ""),
        "what it doesn't hold never moves",
        {"num_held": num_held, "num_missing": len(missing), "missing_share": num_missing / max(total, 1), "names": missing[:20]},
        Remedy("Make the optimizer from model.parameters() after the model is complete", hold_all),
        proof="certain" if num_held == 0 else "mechanism",
        weight=0.95 if num_held == 0 else 0.8,
        explains=(*_FOLLOWS, "frozen_params", "detached_graph"),
    )


def _used(bench: Bench) -> bool:
    """Whether frozen parameters take part in the outputs."""
    model = bench.setup.copied().model.eval()
    inputs = tree(bench.some.inputs, lambda part: part[:16])
    with seeded_defaults(0):
        parts = list[Tensor](part for part in model.parameters() if not part.requires_grad and part.is_floating_point())
        return bool(parts) and matters(model, inputs, parts)
