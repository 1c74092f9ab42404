"""How a run ends whose loss, gradients or weights are not finite: in words."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor, nn

from stepwell.core.errors import TrainingStopped
from stepwell.core.reports import StepReport


def weights_are_finite(model: nn.Module, norm: Tensor) -> bool:
    """Whether all that trains is finite.

    Args:
        norm: of all that trains, as it is now; the norm of very large weights overflows where they are finite themselves.
    """
    if math.isfinite(norm.item()):
        return True
    return all(bool(weight.isfinite().all()) for weight in model.parameters() if weight.requires_grad)


def nonfinite_step(
    report: StepReport, *, loss: float, grad_norm: float, num_skips: int, last: float | None, whole: bool, folder: Path | None
) -> TrainingStopped:
    """A step whose loss or gradient is not finite, and that may not be skipped.

    Args:
        report: of that step.
        loss, grad_norm: its numbers.
        num_skips: steps in a row that were not finite, this one included.
        last: the newest logged loss that was finite.
        whole: whether the weights before it are finite.
        folder: of the run.
    """
    row = f" {num_skips} times in a row" if num_skips > 1 else ""
    before = f"last finite {last:.4g}, " if last is not None else ""
    weights = "Weights were not updated"
    if not whole:
        weights = "The weights are not finite either, since an update before; earlier checkpoints are whole"
    return TrainingStopped(
        f"loss or gradient became non-finite{row} after step {report.step} "
        f"(loss {loss:.4g}, {before}grad_norm {grad_norm:.4g}, lr {report.lr:.3g}). {weights}",
        expected="finite losses and gradients",
        fix=f"Try a lower peak lr, a longer warmup, or clip_norm 1.0{_details(folder)}",
    )


def nonfinite_weights(steps: int, folder: Path | None) -> TrainingStopped:
    """Weights that an update made infinite, found before they were saved or delivered.

    >>> print(nonfinite_weights(12, None))
    the weights became non-finite in the update of step 12 or shortly before; they are neither saved nor delivered; \
expected finite weights. Try a lower peak lr, a longer warmup, or clip_norm 1.0.
    """
    kept = "" if folder is None else ", earlier checkpoints are whole"
    return TrainingStopped(
        f"the weights became non-finite in the update of step {steps} or shortly before; "
        f"they are neither saved nor delivered{kept}",
        expected="finite weights",
        fix=f"Try a lower peak lr, a longer warmup, or clip_norm 1.0{_details(folder)}",
    )


def _details(folder: Path | None) -> str:
    return "" if folder is None else f"; details: {folder}"
