"""T2 for every verb that writes beside training: a refused call leaves no half file, is told in three parts, blocks nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import verb_faults
from counted import report
from forked import done as child_done
from verb_faults import ERRORS, READING, SHORT, VERBS, Verb, called, changing_calls, done, files, refused

Fault = tuple[int, str, bool]


@pytest.fixture(scope="module")
def place(commands: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder where verbs work, and a copy of it as it was when its run had just ended."""
    at = tmp_path_factory.mktemp("verbs") / "at"
    child_done(lambda: verb_faults.prepare(at))
    kept = at.with_name("kept")
    shutil.copytree(at, kept)
    return at, kept


def spread(verb: Verb, kinds: list[str], how: str) -> list[Fault]:
    """Numbers of calls, each with an error and whether it lasts: a few of them, every one, or every one in both ways."""
    most = {"share": 3 if verb.goes_on else 4, "full": 12, "soak": len(kinds)}[how]
    numbers = [index * len(kinds) // most for index in range(most)] if most < len(kinds) else list(range(len(kinds)))
    found = []
    for nth in numbers:
        errors = [*ERRORS, SHORT] if kinds[nth] == "write" else ERRORS
        ways = (False, True) if how == "soak" else (nth % 2 == 1,)
        found += [(nth, errors[(nth + lasting) % len(errors)], lasting) for lasting in ways]
    return found


@pytest.mark.parametrize("verb", VERBS, ids=str)
@pytest.mark.parametrize(
    "how",
    ["share", pytest.param("full", marks=pytest.mark.slow), pytest.param("soak", marks=pytest.mark.soak)],
)
def test_a_refused_call_of_a_verb_leaves_no_half_file_and_is_told(place: tuple[Path, Path], verb: Verb, how: str) -> None:
    at, kept = place
    verb_faults.put_back(kept, at)
    kinds = changing_calls(verb, at)
    new = files(at)
    met: Counter[str] = Counter()
    wrong = {}
    faults = spread(verb, kinds, how)
    for nth, error, lasting in faults:
        ending, problems = refused(verb, at, kept, new, nth=nth, error=error, lasting=lasting)
        met[ending] += 1
        if problems:
            wrong[f"{error} at call {nth} ({kinds[nth]}), {'lasting' if lasting else 'once'}"] = problems
    assert wrong == {}
    trials = met["went on"] + met["stopped"]
    # Threads of a run in training take turns in another order each time, so that the last call may not come.
    report("T2 write faults of verbs", floors={"trials": len(faults) * 9 // 10}, verbs=1, trials=trials, stopped=met["stopped"])


def test_verbs_that_only_look_change_no_file(place: tuple[Path, Path]) -> None:
    at, kept = place
    verb_faults.put_back(kept, at)
    before = files(at)
    for words in READING:
        verb = Verb(" ".join(words), called(*words))
        ended = done(verb.work, at)
        assert ended.code == 0, (verb, ended.told)
        assert files(at) == before, verb
    report("T2 verbs that only look", floors={"verbs": 11}, verbs=len(READING))
