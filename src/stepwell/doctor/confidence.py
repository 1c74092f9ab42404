"""How often a finding is right, told by how it was reached and not by what it says.

A finding's `Standing` puts it in one of a few bins; the share of right ones in a bin, over setups that the rules had not seen
when these were counted, is its confidence. Laplace's rule of succession with the overall share as what is expected before
anything was counted (Good, "The Estimation of Probabilities", 1965): a bin of few cases says little more than all of them.
The table is printed by `python -m benchmarks.clinic.calibrate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from stepwell.doctor.findings import Proof, Suspicion, Tried

Bin = Literal["certain", "certain, one of several", "measured", "clear", "fair", "slight", "last resort", "tried, one of several"]
BINS: tuple[Bin, ...] = (
    "certain",
    "certain, one of several",
    "measured",
    "clear",
    "fair",
    "slight",
    "last resort",
    "tried, one of several",
)
CLEAR, FAIR = 0.4, 0.15  # gain of validation skill: a third of all that can be gained, and three times the least one
FAINT = 0.2  # weight: a remedy that helps against nearly everything says little about the cause
PRIOR = 4.0  # cases that the overall share counts for
MOST, LEAST = 0.97, 0.3


@dataclass(frozen=True)
class Standing:
    """What a finding rests on.

    Args:
        proof: of the suspicion.
        weight: of the suspicion, 0 to 1.
        gain: of validation skill by its remedy; None where it wasn't tried.
        spread: between seeds, of the trainings with the remedy or without, the larger one.
        num_rivals: other suspicions that stood as well.
    """

    proof: Proof
    weight: float
    gain: float | None = None
    spread: float = 0.0
    num_rivals: int = 0


# Bin -> (right, all), over the seven rounds of benchmarks/clinic, each counted before a rule was mended by it.
COUNTS: Mapping[Bin, tuple[int, int]] = {
    "certain": (147, 159),
    "certain, one of several": (11, 15),
    "measured": (17, 27),
    "clear": (101, 101),
    "fair": (56, 59),
    "slight": (28, 31),
    "last resort": (7, 9),
    "tried, one of several": (0, 1),
}


def standing_of(item: Suspicion, tried: Tried | None, num_rivals: int) -> Standing:
    """What a suspicion that became a finding rests on."""
    if tried is None:
        return Standing(item.proof, item.weight, num_rivals=num_rivals)
    spread = max(max(part) - min(part) for part in (tried.before, tried.after))
    return Standing(item.proof, item.weight, tried.gain, spread, num_rivals)


def bin_of(standing: Standing) -> Bin:
    """The bin of a finding.

    >>> bin_of(Standing("symptom", 0.6, gain=0.5, spread=0.05)), bin_of(Standing("symptom", 0.6, gain=0.5, spread=0.3))
    ('clear', 'fair')
    """
    if standing.gain is None:
        if standing.proof != "certain":
            return "measured"
        return "certain, one of several" if standing.num_rivals else "certain"
    if standing.num_rivals:
        return "tried, one of several"
    if standing.weight <= FAINT:
        return "last resort"
    sure = standing.gain - standing.spread  # what is left of the gain in the worst order of seeds
    return "clear" if sure >= CLEAR else "fair" if sure >= FAIR else "slight"


def confidence(standing: Standing, counts: Mapping[Bin, tuple[int, int]] = COUNTS) -> float:
    """How often such a finding is right, `LEAST` to `MOST`.

    >>> half_right = {"fair": (6, 6), "slight": (0, 6)}
    >>> round(confidence(Standing("symptom", 0.6, gain=0.3), half_right), 2)  # (6 + 4 / 2) / (6 + 4)
    0.8
    """
    right, num = counts.get(bin_of(standing), (0, 0))
    share = (right + PRIOR * overall(counts)) / (num + PRIOR)
    return min(MOST, max(LEAST, share))


def overall(counts: Mapping[Bin, tuple[int, int]]) -> float:
    """The share of right ones in all bins, by Laplace's rule.

    >>> overall({"clear": (8, 8)}), overall({})
    (0.9, 0.5)
    """
    return (sum(right for right, _ in counts.values()) + 1) / (sum(num for _, num in counts.values()) + 2)


def counted(seen: Iterable[tuple[Standing, bool]]) -> dict[Bin, tuple[int, int]]:
    """How many findings of each bin were right."""
    counts: dict[Bin, tuple[int, int]] = {}
    for standing, good in seen:
        right, num = counts.get(bin_of(standing), (0, 0))
        counts[bin_of(standing)] = (right + int(good), num + 1)
    return {name: counts[name] for name in BINS if name in counts}
