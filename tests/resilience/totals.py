"""The counts of all suites here, added up over the tests and processes of a run, and the least that each must come to.

Every test asserts the floors of its own counts. These are asserted beside them when all of this folder was asked for with one
of the three marks, so that a suite that was taken out, renamed or skipped can't look like one that passed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from counted import added_up, line

HERE = Path(__file__).parent
Floors = dict[str, dict[str, int]]

SHARE: Floors = {
    "T1 random kills": {"kills": 25, "in_save": 2, "in_evaluation": 2, "at_epoch_border": 2, "after_resume": 2},
    "T1 calls of one save": {"kills": 8},
    "T1 calls of a run": {"kills": 4},
    "T1 audits after random kills": {"audits": 37, "chain_holds": 30},
    "T1 torn ends of the log": {"torn_end": 600},
    "T1 lost work": {"measured": 12},
    "T1 kills while logging": {"trials": 60},
    "T2 write faults": {"trials": 20},
    "T2 write faults of verbs": {"verbs": 12, "trials": 36},
    "T3 corruptions": {"trials": 300, "noticed": 300},
    "T4 non-finite": {"stopped": 24, "went_on": 12, "metrics": 9},
    "T5 signals": {"stopped": 30, "requested": 8},
    "T6 workers": {"trials": 15},
    "T9 starters": {"refused": 21},
    "T10 planted before": {"trials": 20},
    "T10 planted between": {"trials": 20},
    "T11 job files": {"files": 300},
    "T11 bombs": {"files": 60},
    "T12 hostile files": {"files": 150},
    "T13 page": {"injections": 300},
    "T14 secrets refused in job files, as value and as key": {"refused": 80},
    "T14 look-alikes": {"kept": 20},
    "T15 source": {"files": 150},
    "T15 verbs": {"verbs": 7},
    "T17 clocks": {"trials": 12},
    "T19 old formats": {"went_on": 1},
    "planted bugs": {"noticed": 10},
}
SLOW: Floors = {
    "T1 random kills": {"kills": 200, "in_save": 20, "in_evaluation": 20, "at_epoch_border": 20, "after_resume": 20},
    "T1 calls of one save": {"kills": 150},
    "T1 audits after random kills": {"audits": 296, "chain_holds": 260},
    "T1 kills of a start": {"kills": 20},
    "T2 write faults": {"trials": 60},
    "T2 write faults of verbs": {"verbs": 12, "trials": 100},
    "T6 workers": {"trials": 27},
    "T9 starters": {"refused": 7},
    "T10 planted before": {"trials": 20},
    "T10 planted between": {"trials": 20},
    "T11 job files": {"files": 3_000},
    "T12 hostile files": {"files": 1_100},
    "T16 growth": {"steps": 1_000_000},
}
SOAK: Floors = {
    "T1 random kills": {"kills": 1_000, "in_save": 100, "in_evaluation": 100, "at_epoch_border": 100, "after_resume": 100},
    "T1 calls of a run": {"kills": 250},
    "T1 audits after random kills": {"audits": 1_480, "chain_holds": 1_300},
    "T2 write faults": {"trials": 192},
    "T2 write faults of verbs": {"verbs": 12, "trials": 600},
    "T3 corruptions": {"trials": 3_000, "noticed": 3_000},
    "T11 job files": {"files": 50_000},
}
FLOORS = {"not slow and not soak": SHARE, "slow": SLOW, "soak": SOAK}


def totals(reporter: Any) -> Floors:
    """The counts so far, by suite.

    Args:
        reporter: pytest's own, of the process that gathers the results.
    """
    reports = [item for items in reporter.stats.values() for item in items if getattr(item, "when", "") == "call"]
    return added_up([pair for item in reports for pair in item.user_properties])


def floors_of(config: Any) -> Floors:
    """What a run must come to: nothing where it was asked for a part of this folder."""
    asked = [Path(config.invocation_params.dir, word.split("::")[0]) for word in config.args if "::" not in word]
    whole = any(place.resolve() in (HERE, *HERE.parents) for place in asked)
    parts = config.option.keyword or config.option.collectonly or config.getoption("deselect", None)
    return FLOORS.get(config.option.markexpr, {}) if whole and not parts else {}


def short_of(total: Floors, floors: Floors) -> list[str]:
    """The counts that are below their floor, in words.

    >>> short_of({"T3 corruptions": {"trials": 12}}, {"T3 corruptions": {"trials": 300}})
    ['T3 corruptions: trials 12, not 300']
    """
    found = [
        (name, what, total.get(name, {}).get(what, 0), least) for name, counts in floors.items() for what, least in counts.items()
    ]
    return [f"{name}: {what.replace('_', ' ')} {count}, not {least}" for name, what, count, least in found if count < least]


def summary(total: Floors) -> list[str]:
    """A line for each suite."""
    return [line(name, total[name]) for name in sorted(total)]
