"""The six patterns of loss curves, told from the numbers that a training logged.

After the debugging playbook's loss-curve diagnosis (flat, diverging, overfitting, underfitting, oscillating, memorised). A
pattern says what the curves look like; by itself it proves no cause. Thresholds are shares of what the loss was at the start or
of what it fell, so that no unit matters; each is passed only by what shows over several rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepwell.doctor.curve_course import FIXES, PATTERNS, Logged, Pattern, Verdict
from stepwell.doctor.curve_fits import Level, Swing, swing
from stepwell.doctor.findings import Number

__all__ = ["FIXES", "PATTERNS", "Logged", "Pattern", "Verdict", "verdict"]

FEWEST_ROWS = 8
FLAT = 0.06  # of the start: a model that learns anything falls further
FITTED = 0.9  # of the start: training rows that are fitted less are learnt by nobody's heart
HIGH = 0.4  # of the start: a plateau above it leaves most to be learnt
NEAR_ZERO = 0.05  # of the start
RISE = 0.1  # of the lowest validation loss: less is within what evaluations differ
CLEAR_RISE = 0.25
REASONABLE = 0.6  # of the start: a validation loss above it isn't that of a useful model
LEFT = 0.05  # of the start: validation that is as near to zero as that leaves nothing to wish for
GAP = 0.15  # of what the training loss fell
SWINGS = 0.32  # of the geometric mean of level and progress
FAR = 10.0  # times the start: from there on it is gone, however it swings
REAL_SHARE = 0.15  # swings below this share of the progress don't keep a training from converging


@dataclass(frozen=True, eq=False)
class _Seen:
    """The levels of a course, and what they are compared with."""

    course: Logged
    train: Level
    val: Level | None
    fitted: Level  # what tells how well the training rows are fitted
    skill: float | None

    @property
    def start(self) -> float:
        """The loss before anything was learnt."""
        known = self.course.constant
        return self.train.start if known is None else max(known, self.train.start)

    @property
    def whole(self) -> float:
        """The loss of knowing nothing: of a constant answer where that is known, else the start."""
        return self.start if self.course.constant is None else self.course.constant

    @property
    def missing(self) -> float:
        """What is left to be learnt, as a share: of the variance where a skill is known, else of the loss at the start."""
        if self.skill is not None:
            return 1.0 - self.skill
        shown = self.val if self.val is not None and self.course.compared != "same" else self.train
        return shown.end / self.whole if self.whole > 0 else 0.0


def verdict(course: Logged) -> Verdict:
    """Which of the six patterns the curves show; "none" is an answer.

    >>> falling = [2.3 * 0.97 ** step + 0.1 for step in range(200)]
    >>> verdict(Logged(steps=range(200), losses=falling)).pattern
    'none'
    >>> verdict(Logged(steps=range(200), losses=[2.3] * 200)).pattern
    'flat'
    """
    broken = _broken(course)
    if broken is not None:
        return broken
    train = Level.of(course.steps, course.losses)
    if train is None or train.num_rows < FEWEST_ROWS:
        return Verdict("none", evidence={"rows": 0 if train is None else train.num_rows})
    val, clean = Level.of(course.val_steps, course.val_losses), Level.of(course.clean_steps, course.clean_losses)
    seen = _Seen(course, train, val, clean or train, _skill(course))
    for rule in (_diverging, _oscillating, _flat, _overfitting, _memorised, _underfitting):
        found = rule(seen)
        if found is not None:
            return found
    last = int(train.steps[-1])
    return Verdict("none", 0.0, int(train.steps[0]), last, {"start": train.start, "end": train.end})


def _skill(course: Logged) -> float | None:
    if course.skills is None:
        return None
    known = np.asarray(course.skills, dtype=float)
    known = known[np.isfinite(known)]
    return float(np.clip(np.median(known[-max(len(known) // 10, 1) :]), 0.0, 1.0)) if len(known) else None


def _strength(ratio: float) -> float:
    """0.5 at the threshold, 0.75 at twice it, towards 1."""
    return round(1.0 - 0.5 / max(ratio, 1.0), 3)


def _broken(course: Logged) -> Verdict | None:
    """Numbers that aren't finite, at the end or again and again; a few skipped steps in between are none."""
    steps, losses = np.asarray(course.steps, dtype=float), np.asarray(course.losses, dtype=float)
    bad = ~np.isfinite(losses)
    last = steps[-1] if len(steps) else max(course.bad_steps, default=0)
    at_the_end = (len(bad) and bad[-1]) or any(step >= last for step in course.bad_steps)
    if not at_the_end and bad.sum() < max(3, 0.05 * len(bad)):
        return None
    first = min([*steps[bad].tolist(), *course.bad_steps])
    finite = losses[~bad]
    told: dict[str, Number] = {"first_bad_step": int(first), "bad_rows": int(bad.sum()) or len(course.bad_steps)}
    told |= {"last_finite_loss": float(finite[-1])} if len(finite) else {}
    return Verdict("diverging", 1.0, int(first), int(max(last, first)), told)


def _diverging(seen: _Seen) -> Verdict | None:
    """It fell, and then lost what it had gained: it ends above the start, or has left the lowest level by far."""
    train = seen.train
    size = max(abs(train.start), abs(train.low), 1e-12)
    tail = train.curve[-max(len(train.curve) // 20, 1) :]
    end = max(train.end, float(tail.min()))
    after = train.steps >= train.low_step
    lost = end - train.low
    beyond = max((end - train.start) / (0.5 * size), (lost / (0.7 * train.drop) if train.drop > 0.1 * size else 0.0))
    if beyond < 1.0 or lost < 2.0 * abs(train.low) or lost < 6.0 * train.noise:
        return None
    if end < FAR * size and _bounces(train, end):
        return None
    jump = train.steps[after][np.argmax(train.curve[after] >= train.low + 0.5 * lost)]
    told: dict[str, Number] = {"lowest": train.low, "lowest_step": int(train.low_step), "end": end, "start": train.start}
    return Verdict("diverging", _strength(beyond), int(jump), int(train.steps[-1]), told)


def _bounces(train: Level, end: float) -> bool:
    """Whether the last half goes up and down over the same range, rather than away."""
    half = train.since(0.5)
    found = swing(half)
    return found.turns >= 6 and found.size >= 0.3 * abs(end) and half[-max(len(half) // 3, 1) :].max() <= 3.0 * half.max() / 2.0


def _flat(seen: _Seen) -> Verdict | None:
    """Neither loss has fallen by more than noise and `FLAT` of the start."""
    train, val = seen.train, seen.val
    if seen.course.begins == "trained" or (seen.skill is not None and seen.skill > 0.2) or train.start == 0:
        return None
    size = abs(seen.start)
    falls = [(train.fallen, 0.0)]
    if seen.course.constant is not None:
        falls.append((seen.course.constant - float(np.median(train.curve)), _spread(train)))
    if val is not None and val.num_rows >= 3:
        falls += [(val.fallen, 0.0), (train.start - val.end, train.noise / math.sqrt(_num_first(train)))]
    fell = max(fall for fall, unsure in falls if fall >= 3.0 * unsure)
    if fell >= FLAT * size:
        return None
    told: dict[str, Number] = {"start": train.start, "end": train.end, "fell": fell / size}
    return Verdict("flat", _strength(FLAT * size / max(fell, 1e-9 * size)), int(train.steps[0]), int(train.steps[-1]), told)


def _spread(line: Level) -> float:
    """How far the median of a tenth of the rows is off by chance, as a standard deviation."""
    return line.noise / math.sqrt(max(line.num_rows / 10, 1.0))


def _num_first(train: Level) -> int:
    return min(max(train.num_rows // 100, 1), 5)  # rows that `start` is the median of


def _oscillating(seen: _Seen) -> Verdict | None:
    """Swings about as large as the level itself, again and again, over a level that doesn't fall any more.

    Evaluations have no noise of batches: where there are enough of them, they decide. Without, levels over many rows do, or rows
    that swing nearly threefold.
    """
    train, val = seen.train, seen.val
    found, shown = _widest(seen, val)
    progress = max(shown.start - shown.low, 0.0)
    scale = math.sqrt(max(abs(found.level), 1e-12) * max(progress, abs(found.level), 1e-12))
    # A loss well above that of a constant answer is no plateau: it would get there, if it settled.
    above = seen.course.constant is not None and found.level > 1.3 * seen.course.constant > 0
    ratio = found.size / scale * (2.0 if above else 1.0)
    trend = shown.fell(0.3)
    if ratio < SWINGS or found.size < REAL_SHARE * progress or found.turns < 4 or trend > max(found.size, 0.3 * progress):
        return None
    if _follows_rate(seen.course):
        return None
    told: dict[str, Number] = {"swing": found.size, "turns": found.turns, "level": found.level, "start": train.start}
    first = train.steps[0] + 0.3 * (train.steps[-1] - train.steps[0])
    return Verdict("oscillating", _strength(ratio / SWINGS), int(first), int(train.steps[-1]), told)


def _widest(seen: _Seen, val: Level | None) -> tuple[Swing, Level]:
    """The swings that count, and of which series they are."""
    course = seen.course
    if val is not None and val.num_rows >= 10:
        return swing(_after(course.val_steps, course.val_losses, 0.3)), val
    rows = _after(course.steps, course.losses, 0.3)
    by_level = swing(_raw_levels(rows))
    by_row = swing(rows)
    if len(rows) > 60 and by_row.size > 3.0 * by_level.size:
        wide = Swing(by_row.size * SWINGS / 0.9, by_row.turns, by_row.level)
        return max((by_level, wide), key=lambda item: item.size), seen.train
    return by_level, seen.train


def _raw_levels(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(rows) <= 40:
        return rows
    return np.array([float(part.mean()) for part in np.array_split(rows, 40)])


def _after(steps: ArrayLike, values: ArrayLike, share: float) -> NDArray[np.float64]:
    where, series = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    late: NDArray[np.float64] = series[np.isfinite(series) & (where >= where[0] + share * (where[-1] - where[0]))]
    return late


def _follows_rate(course: Logged) -> bool:
    """Whether the learning rate itself goes up and down (restarts, cycles): then so does the loss."""
    if course.lrs is None:
        return False
    rates = np.asarray(course.lrs, dtype=float)
    moved = np.sign(np.diff(rates[np.isfinite(rates)]))
    moved = moved[moved != 0]
    return int((np.diff(moved) > 0).sum()) >= 2  # it rose again at least twice


def _gap(seen: _Seen) -> float:
    """How far validation ends above training, as a share of what training fell; 0 where the two can't be compared."""
    if seen.val is None or (seen.course.compared == "other" and seen.fitted is seen.train):
        return 0.0
    return (seen.val.end - seen.fitted.end) / max(seen.start - seen.fitted.end, 1e-12)


def _overfitting(seen: _Seen) -> Verdict | None:
    """Validation rose again, or stopped falling far above training, while training went on falling."""
    train, val = seen.fitted, seen.val
    if val is None or val.num_rows < 5 or train.end > FITTED * seen.whole > 0:
        return None
    rise = val.end - val.low
    span = max(max(val.start, seen.start) - val.low, 1e-12)
    went_on = train.at(val.low_step) - train.end
    fell_on = went_on > max(0.1 * abs(train.at(val.low_step)), 2.0 * _spread(train))
    near_zero = train.end <= NEAR_ZERO * seen.start
    stayed = train.end <= 1.1 * train.at(val.low_step) and _gap(seen) >= 0.5 * GAP
    least = (CLEAR_RISE if near_zero else RISE) * abs(val.low)
    beyond = rise / max(least, 0.03 * span, 4.0 * _spread(val), 1e-12)
    told: dict[str, Number] = {"val_lowest": val.low, "val_lowest_step": int(val.low_step), "val_end": val.end}
    told |= {"train_end": train.end}
    if beyond >= 1.0 and (fell_on or near_zero or stayed) and (val.steps > val.low_step).sum() >= 2:
        return Verdict("overfitting", _strength(beyond), int(val.low_step), int(val.steps[-1]), told)
    stalled = val.fell(0.5) <= 0.05 * abs(val.end)
    gap, still = _gap(seen), train.fell(0.4) >= 0.2 * max(abs(train.end), 1e-12)
    reasonable = near_zero and val.end <= REASONABLE * seen.start
    if stalled and gap >= GAP and val.end >= 1.5 * train.end and (still or near_zero) and not reasonable:
        middle = 0.5 * (val.steps[0] + val.steps[-1])
        return Verdict("overfitting", _strength(gap / GAP), int(middle), int(val.steps[-1]), {**told, "gap": gap})
    return None


def _memorised(seen: _Seen) -> Verdict | None:
    """Training is fitted nearly perfectly, validation well but visibly less."""
    train, val = seen.fitted, seen.val
    if val is None or val.num_rows < 3 or seen.start <= 0 or (seen.course.compared == "other" and train is seen.train):
        return None
    share, apart = train.end / seen.start, (val.end - train.end) / seen.start
    if share > NEAR_ZERO or val.end < 3.0 * train.end or apart < LEFT or val.end > REASONABLE * seen.start:
        return None
    first = train.steps[np.argmax(train.curve <= NEAR_ZERO * seen.start)]
    told: dict[str, Number] = {"train_end": train.end, "val_end": val.end, "start": seen.start}
    return Verdict("memorised", _strength(NEAR_ZERO / max(share, 1e-9)), int(first), int(train.steps[-1]), told)


def _underfitting(seen: _Seen) -> Verdict | None:
    """Both have stopped falling while most is left to be learnt."""
    train, val = seen.train, seen.val
    missing = seen.missing
    if missing < HIGH or train.start <= 0:
        return None
    if any(line is not None and _still_falls(line, seen.start - train.low) for line in (train, val)):
        return None
    if val is not None and val.end < HIGH * seen.whole and seen.skill is None:
        return None
    stopped = train.curve <= train.end + 0.1 * (train.start - train.end)
    told: dict[str, Number] = {"start": seen.start, "end": train.end, "missing": missing}
    return Verdict("underfitting", _strength(missing / HIGH), int(train.steps[np.argmax(stopped)]), int(train.steps[-1]), told)


def _still_falls(line: Level, drop: float) -> bool:
    """Whether it fell on beyond noise over the last 40 % of the steps, or clearly over the last 60 %."""
    least = max(0.03 * abs(line.end), 0.15 * max(drop, 0.0), 3.5 * _spread(line))
    return line.fell(0.6) > least or line.fell(0.4) > max(0.35 * drop, least)
