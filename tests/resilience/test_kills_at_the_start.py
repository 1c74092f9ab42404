"""T1 before the first checkpoint: whatever a start had done when it was killed, the same command or a resume makes it whole."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest
from audited import audited
from counted import report
from forked import done, forked
from safetensors.torch import save_file
from small_runs import (
    Aim,
    command,
    count_calls,
    differences,
    kill_this_process,
    network,
    remains,
    temporaries,
    train,
    write_job,
)
from system_calls import Listed, put_in
from verb_faults import quick_pictures


def kill_at(moment: str, step: int) -> Aim:
    return lambda what, at: kill_this_process() if (what, at) == (moment, step) else None


@pytest.mark.parametrize(("moment", "step"), [("began", 0), ("stepped", 3), ("saved", 5), ("stepped", 7)])
def test_a_run_from_given_weights_that_was_killed_starts_from_them_again(
    memory: Path, loaded: None, moment: str, step: int
) -> None:
    """Also before its first checkpoint, where nothing but the job and its manifest tells of them."""
    weights = {name: tensor * 0.3 for name, tensor in network().state_dict().items() if tensor.is_floating_point()}
    save_file(weights, str(memory / "weights.safetensors"))
    changes = {"init_from": str(memory / "weights.safetensors"), "saving": "wait"}
    done(lambda: train("dropout", memory / "whole", **changes))
    done(lambda: train("dropout", memory / "anew", saving="wait"))
    assert differences(remains(memory / "whole"), remains(memory / "anew")) != []  # they do make a difference
    assert forked(lambda: train("dropout", memory / "run", aim=kill_at(moment, step), **changes)).killed
    assert audited(memory / "run", Counter()) == []
    done(lambda: train("dropout", memory / "run", **changes))
    assert differences(remains(memory / "run"), remains(memory / "whole")) == []
    assert audited(memory / "run", Counter(), ended=True) == []
    report("T1 kills of runs from given weights", kills=1, same_bytes=1)


def test_weights_that_have_changed_since_the_start_are_refused_where_they_are_needed_again(memory: Path, loaded: None) -> None:
    weights = {name: tensor * 0.3 for name, tensor in network().state_dict().items() if tensor.is_floating_point()}
    changes = {"init_from": str(memory / "weights.safetensors"), "saving": "wait"}
    for name, step in (("early", 3), ("late", 7)):
        save_file(weights, str(memory / "weights.safetensors"))
        assert forked(lambda: train("dropout", memory / name, aim=kill_at("stepped", step), **changes)).killed  # noqa: B023
        save_file({key: tensor * 2 for key, tensor in weights.items()}, str(memory / "weights.safetensors"))
    refused = forked(lambda: train("dropout", memory / "early", **changes))
    assert refused.code == 2
    assert "have changed since" in refused.error
    assert forked(lambda: train("dropout", memory / "late", **changes)).code == 0  # it has them in its checkpoint


@pytest.mark.parametrize("stride", [pytest.param(6, id="share"), pytest.param(1, id="full", marks=pytest.mark.slow)])
def test_a_command_killed_at_any_call_of_its_start_can_be_given_again(memory: Path, commands: None, stride: int) -> None:
    """Where it had written enough to be resumed it says so."""
    job = write_job(memory)

    def words(folder: Path) -> tuple[str | Path, ...]:
        return ("train", job, "--out", folder, "--quiet")

    def whole() -> int:
        quick_pictures()
        listed = Listed()
        put_in(listed)
        with contextlib.suppress(SystemExit):
            command(*words(memory / "whole"))
        return next(number for number, call in enumerate(listed.calls) if call.path.endswith("/events.jsonl"))

    calls = done(whole)
    expected = remains(memory / "whole")
    problems, found, resumed = [], Counter[str](), 0
    for target in range(0, calls + 3, stride):
        folder = memory / str(target)

        def killed(folder: Path = folder, target: int = target) -> None:
            count_calls(lambda number, side, call: kill_this_process() if (number, side) == (target, "after") else None)
            command(*words(folder))

        def again(*given: str | Path) -> int:
            return forked(lambda: (quick_pictures(), command(*given))).code

        assert forked(killed).killed
        problems += [f"call {target}: {problem}" for problem in audited(folder, found)]
        code = again(*words(folder))
        if code == 2:
            code, resumed = again("resume", folder, "--quiet"), resumed + 1
        if code:
            problems.append(f"call {target}: exit {code}")
            continue
        problems += [f"call {target}: {name} differs" for name in differences(remains(folder), expected)]
        problems += [f"call {target}: {name} was left" for name in temporaries(folder)]
        problems += [f"call {target}: {problem}" for problem in audited(folder, found, ended=True)]
    assert problems == []
    kills = len(range(0, calls + 3, stride))
    report("T1 kills of a start", floors={"kills": 20 // stride, "audits": 2 * kills}, kills=kills, resumed=resumed, **found)
