"""How often the curve rules are right, on simulated and on real curves: `python -m benchmarks.curves`.

The simulated curves come from formulas of learning (exponential, power-law and late falls, gaps, growth, swings) drawn at random:
unit of the loss, noise, how often something is logged. They know nothing of how the rules measure.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bars import Bar, summary
from stepwell.doctor.curves import PATTERNS, Logged, Pattern, verdict

Values = NDArray[np.float64]
REAL = Path(__file__).parents[1] / "tests" / "doctor" / "curves"
NOISES = {"calm": 0.01, "usual": 0.04, "noisy": 0.1}  # standard deviation of a row, as a share of its value
ROWS, EVALUATIONS = (20, 40, 120, 400, 1500), (6, 12, 30, 60)


@dataclass(frozen=True)
class Example:
    """A curve and what it shows.

    Args:
        name: of what made it.
        pattern: the right answer.
        course: what was logged.
        group: what the table counts by.
    """

    name: str
    pattern: Pattern
    course: Logged
    group: str


@dataclass
class Drawn:
    """A draw of the circumstances; `t` runs from 0 to 1.

    Args:
        start: loss of the untrained model, in some unit.
    """

    rng: np.random.Generator
    noise: float
    start: float
    t: Values
    val_t: Values

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def fall(self, t: Values, end: float, *, speed: float, kind: int) -> Values:
        """A fall from 1 towards `end`."""
        if kind == 0:
            shape = np.exp(-speed * t)
        elif kind == 1:
            shape = (1.0 + 4.0 * speed * t) ** -1.2
        else:
            late = 0.02 + 0.6 / speed
            shape = 1.0 / (1.0 + np.exp((t - late) * 3.0 * speed))
            shape = shape / shape[0]
        return np.asarray(end + (1.0 - end) * shape)

    def rough(self, values: Values, share: float = 1.0) -> Values:
        """The same with noise, and now and then a single spike."""
        noisy = values * np.exp(share * self.noise * self.rng.standard_normal(len(values)))
        if share == 1.0 and self.rng.random() < 0.3 and len(values) >= 40:
            places = self.rng.integers(3, len(values) - 3, size=max(len(values) // 300, 1))
            noisy[places] *= self.rng.uniform(1.5, 4.0, size=len(places))
        return np.asarray(noisy)


Curves = tuple[Values, Values]


def _healthy(d: Drawn) -> Curves:
    speed, kind = d.between(5, 25), int(d.rng.integers(3))
    end = d.between(0.03, 0.25)
    train = d.fall(d.t, end, speed=speed, kind=kind)
    val = d.fall(d.val_t, end * d.between(1.0, 1.3) + d.between(0.0, 0.02), speed=speed, kind=kind)
    if d.rng.random() < 0.2:  # one bad moment, from which it recovers
        place = d.between(0.3, 0.7)
        train = train + d.between(0.2, 1.0) * np.exp(-(((d.t - place) / 0.01) ** 2))
    return train, val


def _still_falling(d: Drawn) -> Curves:
    slope = d.between(0.3, 0.7)
    return 1.0 - slope * d.t, 1.0 - slope * d.val_t * d.between(0.9, 1.0)


def _flat(d: Drawn) -> Curves:
    drift = d.between(-0.01, 0.03)
    level = d.between(0.97, 1.05)
    return 1.0 - drift * d.t, level - drift * d.val_t


def _diverging(d: Drawn) -> Curves:
    """Learning, then growth that feeds itself; some end in numbers that aren't finite, some lose all and stay up."""
    place, end = d.between(0.2, 0.85), d.between(0.1, 0.6)
    speed = d.between(6, 20)
    kind = int(d.rng.integers(3))

    def course(t: Values) -> Values:
        calm = d.fall(t, end, speed=speed, kind=0)
        over = np.clip(t - place, 0.0, None)
        if kind == 0:
            return np.asarray(calm * np.exp(np.minimum(over / max(1.0 - place, 0.05) * d_growth, 60.0)))
        if kind == 1:
            grown = calm * np.exp(over * 80.0)
            return np.asarray(np.where(grown > 1e3, np.nan, grown))
        return np.asarray(np.where(over > 0, high, calm))

    d_growth, high = d.between(4, 12), d.between(1.7, 40.0)
    return course(d.t), course(d.val_t)


def _overfitting(d: Drawn) -> Curves:
    speed, low = d.between(5, 20), d.between(0.15, 0.6)
    train = d.fall(d.t, d.between(0.005, 0.6 * low), speed=speed * d.between(0.4, 0.9), kind=0)
    if d.rng.random() < 0.7:
        place, rise = d.between(0.15, 0.6), d.between(0.35, 2.0)
        val = d.fall(d.val_t, low, speed=speed / place / 2.0, kind=0)
        val = val * (1.0 + rise * (np.clip(d.val_t - place, 0.0, None) / (1.0 - place)) ** d.between(0.7, 1.5))
    else:
        low = d.between(0.62, 0.85)
        train = d.fall(d.t, d.between(0.01, 0.25), speed=d.between(2.5, 5), kind=0)
        val = d.fall(d.val_t, low, speed=d.between(12, 30), kind=0)
    return train, val


def _underfitting(d: Drawn) -> Curves:
    # A fall that is lost in the noise has no right answer: noisier curves fall further.
    end, speed, kind = d.between(0.5, 0.8 - 2.0 * d.noise), d.between(6, 25), int(d.rng.integers(2))
    val = d.fall(d.val_t, end * d.between(0.98, 1.06), speed=speed, kind=0)
    return d.fall(d.t, end, speed=speed, kind=kind if speed > 15 else 0), val


def _oscillating(d: Drawn) -> Curves:
    """Swings of a slow or a fast period, or of none, around a level that stays."""
    level, speed = d.between(0.35, 1.1), d.between(10, 40)
    size = d.between(0.3, 0.6) * level
    kind = int(d.rng.integers(3))
    periods, phase = d.between(6, 25), d.between(0, 6)

    def course(t: Values, draw: np.random.Generator) -> Values:
        calm = level + (1.0 - level) * np.exp(-speed * t)
        if kind == 0:
            wave = np.sin(2 * np.pi * periods * t + phase)
        elif kind == 1:
            wave = np.where(np.sin(2 * np.pi * periods * t + phase) > 0, 1.0, -1.0) * draw.uniform(0.6, 1.2, len(t))
        else:
            wave = draw.uniform(-1.5, 1.5, len(t))
        return np.asarray(np.maximum(calm + size * wave * np.minimum(t * 20.0, 1.0), 0.02))

    return course(d.t, d.rng), course(d.val_t, d.rng)


def _memorised(d: Drawn) -> Curves:
    speed = d.between(8, 25)
    good = d.between(0.1, 0.35)
    train = d.fall(d.t, d.between(0.0005, 0.015), speed=speed, kind=0)
    val = d.fall(d.val_t, good, speed=speed * d.between(1.0, 1.5), kind=0) * (1.0 + d.between(0.0, 0.1) * d.val_t)
    return train, val


MAKERS: Mapping[str, tuple[Pattern, Callable[[Drawn], Curves]]] = {
    "flat": ("flat", _flat),
    "diverging": ("diverging", _diverging),
    "overfitting": ("overfitting", _overfitting),
    "underfitting": ("underfitting", _underfitting),
    "oscillating": ("oscillating", _oscillating),
    "memorised": ("memorised", _memorised),
    "healthy": ("none", _healthy),
    "still falling": ("none", _still_falling),
}


def simulated(num_each: int, *, seed: int) -> list[Example]:
    """So many curves of every kind at every level of noise."""
    made = []
    for number, (name, (pattern, make)) in enumerate(MAKERS.items()):
        for level, (word, noise) in enumerate(NOISES.items()):
            for index in range(num_each):
                rng = np.random.default_rng([seed, number, level, index])
                made.append(Example(name, pattern, _course(name, make, rng, noise), word))
    return made


def _course(name: str, make: Callable[[Drawn], Curves], rng: np.random.Generator, noise: float) -> Logged:
    rows, evaluations = int(rng.choice(ROWS)), int(rng.choice(EVALUATIONS))
    if name == "oscillating":  # swings can't be seen between rows that are further apart than they are long
        rows, evaluations = max(rows, 40), max(evaluations, 30)
    t, val_t = (np.arange(rows) + 0.5) / rows, (np.arange(evaluations) + 1.0) / evaluations
    start = float(np.exp(rng.uniform(np.log(0.3), np.log(50.0))))
    drawn = Drawn(rng, noise, start, t, val_t)
    train, val = make(drawn)
    train, val = start * drawn.rough(train), start * drawn.rough(val, 0.3)
    compared = "same"
    if name == "healthy" and rng.random() < 0.3:  # dropout or mixing: the training loss is raised
        train, compared = train + start * rng.uniform(0.1, 0.5) * (0.3 + 0.7 * train / start), "raised"
    constant = start if rng.random() < 0.3 else None  # some tell what a constant answer would lose
    num_steps = int(rng.choice([400, 3000, 50_000]))
    without = name in ("flat", "diverging", "healthy", "still falling", "underfitting", "oscillating") and rng.random() < 0.25
    if without:
        return Logged(steps=t * num_steps, losses=train, constant=constant)
    logged: dict[str, Any] = {"val_steps": val_t * num_steps, "val_losses": val, "compared": compared, "constant": constant}
    return Logged(steps=t * num_steps, losses=train, **logged)


def recorded(folder: Path = REAL) -> list[Example]:
    """The real curves, as `tests/doctor/curves/record.py` wrote them."""
    kept = json.loads((folder / "curves.json").read_text(encoding="utf-8"))
    return [Example(item["name"], item["pattern"], course_of(item), item["group"]) for item in kept]


def course_of(item: Mapping[str, Any]) -> Logged:
    """A recorded curve; null is a number that isn't finite."""

    def numbers(name: str) -> list[float]:
        return [float("nan") if value is None else float(value) for value in item[name]]

    return Logged(
        steps=item["steps"],
        losses=numbers("losses"),
        val_steps=item["val_steps"],
        val_losses=numbers("val_losses"),
        compared=item["compared"],
        lrs=item["lrs"],
        constant=item["constant"],
    )


def table(examples: Iterable[Example]) -> tuple[str, dict[str, float]]:
    """Right answers, of every pattern and in every group, as text; and the share that is right by pattern, and of "all"."""
    told = [(item, verdict(item.course).pattern) for item in examples]
    groups = list(dict.fromkeys(item.group for item, _ in told))
    lines = [f"{'pattern':14s} {'curves':>6s} {'right':>8s}  " + "".join(f"{group:>14s}" for group in groups) + "  taken for"]
    shares: dict[str, float] = {}
    for pattern in PATTERNS:
        mine = [(item, said) for item, said in told if item.pattern == pattern]
        if not mine:
            continue
        shares[pattern] = sum(said == pattern for _, said in mine) / len(mine)
        cells = [[said == pattern for item, said in mine if item.group == group] for group in groups]
        row = "".join(f"{f'{sum(cell)} of {len(cell)}' if cell else '':>14s}" for cell in cells)
        wrong = Counter(said for _, said in mine if said != pattern)
        others = ", ".join(f"{said} {count}" for said, count in wrong.most_common())
        lines.append(f"{pattern:14s} {len(mine):6d} {shares[pattern]:8.1%}  {row}  {others}")
    shares["all"] = sum(said == item.pattern for item, said in told) / max(len(told), 1)
    lines.append(f"{'all':14s} {len(told):6d} {shares['all']:8.1%}")
    return "\n".join(lines), shares


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description="How often the curve rules are right.")
    parser.add_argument("--each", type=int, default=40, help="simulated curves of every kind at every level of noise")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated curves; the rules were tuned on seed 0")
    chosen = parser.parse_args()
    bars = []
    for title, examples, limit in (("simulated", simulated(chosen.each, seed=chosen.seed), 0.95), ("real", recorded(), 0.85)):
        text, shares = table(examples)
        print(f"\n{title} curves\n{text}")
        bars += [Bar(f"{title}: {name}", "at least", limit, share) for name, share in shares.items()]
    print("\n" + summary(bars))
    return 0 if all(bar.verdict == "met" for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
