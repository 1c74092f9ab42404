"""A step that raises.

Rule: forward, loss and backward of the first batch and of the last one of an epoch, in training mode, and the loss over further
rows. What the message says names the cause (see `stepwell.doctor.crashes`). Certain, and nothing else is asked.
Source: the messages of torch's own checks.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.doctor.bench import Bench
from stepwell.doctor.crashes import first_failure, suspicion_of
from stepwell.doctor.findings import Suspicion


def probe(bench: Bench) -> Iterator[Suspicion]:
    failed = first_failure(bench)
    if failed is not None:
        yield suspicion_of(bench, failed)
