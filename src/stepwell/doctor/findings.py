"""What the doctor says: suspicions while it looks, findings when it is sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from stepwell.doctor.confidence import Standing
    from stepwell.doctor.setup import Setup

Proof = Literal["certain", "mechanism", "symptom"]
Measure = Literal["skill", "balanced"]
Number = float | int | str | bool | list[Any] | None


@dataclass(frozen=True)
class Remedy:
    """What mends it.

    Args:
        text: what to do, in words.
        change: gives a mended copy of a setup; None where only the author of the model or the data can mend it.
        job: the same as changes of a job file, dotted path -> new value; empty where a job has no word for it.
        line: the line of the user's code to change, where one is known.
    """

    text: str
    change: Callable[[Setup], Setup] | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    line: str | None = None


@dataclass(frozen=True)
class Suspicion:
    """What a probe takes for possible.

    Args:
        id: of the finding that it would be.
        symptom: what was seen.
        cause: by what mechanism that harms.
        evidence: the numbers.
        remedy: what would mend it.
        proof: "certain" is a mechanical proof, which stands alone; "mechanism" was measured directly, and stands unless its
            remedy, tried, is of no use or the training does well anyway; "symptom" stands only if its remedy, tried, helps.
        weight: how likely it is before anything was tried, 0 to 1; orders suspicions of the same proof.
        explains: ids that follow from it, and aren't told beside it.
        blocks: nothing else need be asked.
        measure: by what its remedy is judged: "skill", or "balanced": the mean over classes, so that rare ones count as much.
    """

    id: str
    symptom: str
    cause: str
    evidence: Mapping[str, Number]
    remedy: Remedy
    proof: Proof = "symptom"
    weight: float = 0.5
    explains: tuple[str, ...] = ()
    blocks: bool = False
    measure: Measure = "skill"


@dataclass(frozen=True)
class Tried:
    """What a remedy did on a copy: this setup and the mended one, trained side by side.

    Args:
        before, after: validation skill of each seed (0 to 1, 1 is perfect), or None where it can't be judged.
        loss_before, loss_after: loss over training rows at the end, of each seed.
        num_steps: of each training.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    loss_before: tuple[float, ...]
    loss_after: tuple[float, ...]
    num_steps: int

    @property
    def gain(self) -> float:
        """Mean gain of validation skill."""
        return sum(self.after) / len(self.after) - sum(self.before) / len(self.before)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        id: its word in the vocabulary.
        confidence: how often such a finding is right, 0 to 1.
        symptom, cause: what was seen, and by what mechanism it harms.
        evidence: the numbers.
        remedy: what mends it.
        tried: what the remedy did on a copy; None where it wasn't tried.
        severity: "blocker": nothing is learnt; "harm": less is learnt than could be; "note": told, and no alarm.
        standing: what its confidence follows from; None where it isn't the judge's.
    """

    id: str
    confidence: float
    symptom: str
    cause: str
    evidence: Mapping[str, Number]
    remedy: Remedy
    tried: Tried | None = None
    severity: Literal["blocker", "harm", "note"] = "harm"
    standing: Standing | None = None
