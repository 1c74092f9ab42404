"""What a training logged, and what its curves can look like: the six patterns, what mends each, and what else looks like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from numpy.typing import ArrayLike

from stepwell.doctor.findings import Number

__all__ = ["FIXES", "PATTERNS", "Logged", "Pattern", "Verdict"]

Pattern = Literal["flat", "diverging", "overfitting", "underfitting", "oscillating", "memorised", "none"]
PATTERNS: tuple[Pattern, ...] = ("flat", "diverging", "overfitting", "underfitting", "oscillating", "memorised", "none")

FIXES: Mapping[Pattern, tuple[str, str]] = {
    "flat": (
        "Raise the learning rate tenfold; `stepwell find-lr` measures which one fits",
        "the labels don't belong to the inputs (shuffled or constant), or no gradient reaches the weights",
    ),
    "diverging": (
        "Lower the learning rate tenfold, warm it up, clip the gradient norm",
        "a number overflows: NaN or extreme values in the data, or a loss without bounds (log of 0)",
    ),
    "overfitting": (
        "Stop at the validation minimum; raise dropout or weight decay, augment the data, smooth labels, take a smaller model",
        "the validation rows come from another distribution than the training rows",
    ),
    "underfitting": (
        "Take a larger model, a higher learning rate or Adam instead of SGD; look for units that never are on",
        "no more can be learnt: noise in the labels, or inputs that don't tell",
    ),
    "oscillating": (
        "Lower the learning rate, enlarge the batch, warm the rate up",
        "rows come in an order with long runs of one class, or momentum is too high",
    ),
    "memorised": (
        "Keep the weights of the validation minimum (early stopping); try whether more regularisation helps",
        "the data is small for the model: that may be as good as it gets",
    ),
    "none": ("Nothing to do", ""),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Logged:
    """What a training logged.

    Args:
        steps, losses: of each logged window, (rows,); not finite where a window had no good step.
        val_steps, val_losses: of each evaluation.
        clean_steps, clean_losses: training rows as evaluated like validation rows, where somebody measured that.
        compared: how the training loss compares with the validation loss on the same rows: "same"; "raised" by dropout, mixing
            or smoothing, which evaluation leaves out; "other" where it is another measure (weights, penalties).
        lrs: learning rate of each logged window, or None.
        constant: loss of the best constant answer, where that is known: fast learners leave it before the first row is logged.
        skills: of each evaluation, 0 for a constant answer and 1 for perfect ones (R2), or None where not known.
        begins: "trained" where weights were loaded: then a loss that doesn't fall may be a good one.
        bad_steps: at which loss or gradient weren't finite.
    """

    steps: ArrayLike
    losses: ArrayLike
    val_steps: ArrayLike = ()
    val_losses: ArrayLike = ()
    clean_steps: ArrayLike = ()
    clean_losses: ArrayLike = ()
    compared: Literal["same", "raised", "other"] = "same"
    lrs: ArrayLike | None = None
    constant: float | None = None
    skills: ArrayLike | None = None
    begins: Literal["untrained", "trained"] = "untrained"
    bad_steps: Sequence[float] = ()


@dataclass(frozen=True)
class Verdict:
    """What the curves look like.

    Args:
        pattern: one of the six, or "none" of them.
        strength: 0.5 just beyond the threshold, towards 1 the further beyond it.
        first_step, last_step: where it shows.
        evidence: the numbers.
    """

    pattern: Pattern
    strength: float = 0.0
    first_step: int = 0
    last_step: int = 0
    evidence: Mapping[str, Number] = field(default_factory=dict)

    @property
    def fix(self) -> str:
        """What usually mends it."""
        return FIXES[self.pattern][0]

    @property
    def alternative(self) -> str:
        """What else looks like this."""
        return FIXES[self.pattern][1]
