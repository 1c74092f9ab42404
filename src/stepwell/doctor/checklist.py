"""The checklist in its order, from what costs nothing to what costs trainings."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stepwell.doctor.bench import Bench
from stepwell.doctor.findings import Suspicion

logger = logging.getLogger("stepwell.doctor")
Probe = Callable[[Bench], Iterable[Suspicion]]


@dataclass(frozen=True)
class Stage:
    """Questions that cost about the same, asked together.

    Args:
        name: "data", "static", "start", "fit", "course", "run".
        probes: names of files in `doctor/probes`, each of which has a function `probe`.
        trains: whether they train, which is left out once something is certain: what they find is never more than likely.
    """

    name: str
    probes: tuple[str, ...]
    trains: bool = False


# Seed 002 section 7.8.5, refined: what is certain and cheap comes first, what needs a training last.
STAGES: tuple[Stage, ...] = (
    Stage(
        "data",
        (
            "nonfinite_inputs",
            "constant_data",
            "label_range",
            "answer_range",
            "batch_statistics",
            "misaligned_labels",
            "leakage",
            "told_column",
            "split_shift",
            "split_relation",
            "row_order",
            "input_scale",
            "target_scale",
        ),
    ),
    Stage(
        "static",
        (
            "crash",
            "target_shape",
            "softmax_twice",
            "output_domain",
            "cut_outputs",
            "entropy_of_quantities",
            "output_range",
            "held",
            "unregistered",
            "modes",
        ),
    ),
    Stage(
        "start",
        (
            *(
                "loss_meaning",
                "loss_floor",
                "loss_lengths",
                "class_numbers",
                "loss_scale",
                "loss_extremes",
                "batch_mixing",
                "detached",
            ),
            *("cut_moments", "symmetry"),
            *("first_weights", "straight", "units"),
        ),
    ),
    Stage("fit", ("one_batch",), trains=True),
    Stage("course", ("momentum", "weight_decay", "dropout", "gradient_flow"), trains=True),
    Stage(
        "run",
        (
            *("learning_rate", "epochs", "unstable_gradient"),
            *("nonfinite_step", "overfitting", "class_imbalance", "unrelated_labels", "capacity", "underfitting"),
        ),
        trains=True,
    ),
)


def suspicions(bench: Bench, stage: Stage) -> Iterator[Suspicion]:
    """What the probes of a stage take for possible; a probe that fails on an odd setup says nothing."""
    for name in stage.probes:
        probe: Probe = importlib.import_module(f"stepwell.doctor.probes.{name}").probe
        try:
            yield from list(probe(bench))
        except Exception:
            logger.debug("the probe %s can't look at this setup", name, exc_info=True)
