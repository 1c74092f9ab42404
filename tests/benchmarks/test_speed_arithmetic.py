"""What the speed figures are made of: marginal times, ratios, spreads, bars, and that contestants do the same work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from benchmarks import bars, contestants, peers, speed, startup, timing, workloads


class FakeClock:
    """Time that passes only when a contestant works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "process_time", lambda: self.now / 2)
        monkeypatch.setattr(timing, "quiet_collector", nullcontext)

    def contestant(self, *, start: float, epoch: float) -> Callable[[int], None]:
        def run(num_epochs: int) -> None:
            self.now += start + num_epochs * epoch

        return run


def test_marginal_time_has_no_trace_of_what_starting_costs() -> None:
    assert timing.marginal(7.0 + 10 * 0.25, 7.0 + 90 * 0.25, 80) == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_a_long_run_that_is_not_longer_is_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match="must take more"):
        timing.marginal(1.0, 2.0, num_steps)


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is three times slower in the second round, for both.
    assert timing.ratios([1.0, 3.0], [2.0, 6.0]) == [0.5, 0.5]


def test_ratios_of_different_numbers_of_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        timing.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize("values", [[3.0, 1.0, 2.0, 9.0, 4.0], [5.0, 1.0], [2.0, 8.0, 1.0, 7.0, 3.0, 5.0]])
def test_spread_holds_numpys_quartiles(values: list[float]) -> None:
    spread = timing.Spread.of(values)
    assert [spread.lower, spread.median, spread.upper] == pytest.approx(np.percentile(values, [25, 50, 75]).tolist())


def test_spread_of_one_value_is_that_value() -> None:
    assert timing.Spread.of([4.0]) == timing.Spread(4.0, 4.0, 4.0)


def test_contestants_take_turns_after_each_has_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeClock(monkeypatch)
    calls: list[str] = []
    runs = {name: (lambda num_epochs, name=name: calls.append(f"{name}{num_epochs}")) for name in "AB"}
    timing.interleaved(runs, short=1, long=4, steps_per_epoch=10, num_rounds=2)
    assert calls == ["A1", "B1", "A1", "A4", "B1", "B4", "A1", "A4", "B1", "B4"]


def test_interleaved_rounds_give_seconds_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)
    runs = {"ours": clock.contestant(start=5.0, epoch=2.0), "theirs": clock.contestant(start=0.5, epoch=8.0)}
    series = timing.interleaved(runs, short=1, long=4, steps_per_epoch=20, num_rounds=3)
    assert series["ours"].wall == pytest.approx([0.1] * 3)
    assert series["theirs"].wall == pytest.approx([0.4] * 3)
    assert series["theirs"].cpu == pytest.approx([0.2] * 3)
    assert timing.ratios(series["ours"].wall, series["theirs"].wall) == pytest.approx([0.25] * 3)


def test_the_collector_is_on_while_a_contestant_runs_and_walks_nothing_older() -> None:
    import gc

    with timing.quiet_collector():
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("side", "value", "verdict"),
    [
        ("at most", 0.60, "met"),
        ("at most", 0.61, "not met"),
        ("at least", 0.60, "met"),
        ("at least", 0.59, "not met"),
        ("at least", float("nan"), "not met"),
        ("at most", float("nan"), "not met"),
        ("at least", None, "skipped"),
        ("at most", None, "skipped"),
    ],
)
def test_a_bar_is_met_on_its_side_only(side: bars.Side, value: float | None, verdict: str) -> None:
    assert bars.Bar("x", side, 0.60, value).verdict == verdict


def standing(ratio: float, *, agrees: bool = True) -> speed.Standing:
    spread = timing.Spread(ratio, ratio, ratio)
    return speed.Standing("x", spread, spread, spread, loss=0.1, agrees=agrees)


def test_lightnings_bar_counts_how_many_times_as_fast_stepwell_is() -> None:
    standings = {
        "stepwell": standing(1.0),
        "slice loop": standing(0.5),
        "DataLoader loop": standing(0.3),
        "Lightning": standing(0.16),
    }
    found = {bar.name: bar for bar in speed.speed_bars(workloads.WORKLOADS["digits"], standings)}
    assert found["digits, times as fast as Lightning"].value == pytest.approx(6.25)
    assert [bar.verdict for bar in found.values()] == ["met", "met", "met"]


def test_a_contestant_that_did_other_work_meets_no_bar() -> None:
    standings = {"stepwell": standing(1.0), "slice loop": standing(0.5), "DataLoader loop": standing(0.3, agrees=False)}
    verdicts = [bar.verdict for bar in speed.speed_bars(workloads.WORKLOADS["digits"], standings)]
    assert verdicts == ["met", "skipped", "skipped"]


def test_other_work_of_our_own_meets_no_bar_at_all() -> None:
    standings = {"stepwell": standing(1.0, agrees=False), "slice loop": standing(0.5), "DataLoader loop": standing(0.3)}
    assert {bar.verdict for bar in speed.speed_bars(workloads.WORKLOADS["digits"], standings)} == {"skipped"}


@pytest.mark.parametrize("work", workloads.WORKLOADS.values(), ids=list(workloads.WORKLOADS))
def test_no_workload_has_a_short_last_batch(work: workloads.Workload) -> None:
    inputs, targets = work.make_data()
    assert len(inputs) == len(targets)
    assert len(inputs) % work.batch_size == 0
    assert work.long > 1


@pytest.mark.parametrize("work", workloads.WORKLOADS.values(), ids=list(workloads.WORKLOADS))
def test_every_contestant_starts_from_the_same_weights(work: workloads.Workload) -> None:
    task = contestants.Task.of(work)
    first, second = task.fresh(), task.fresh()
    assert first is not second
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(mine, other) and mine is not other for mine, other in pairs)


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("digits", 64 * 64 + 64 + 64 * 10 + 10),
        ("rows", 128 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64 + 64 + 1 + 2 * (256 + 128 + 64)),
        ("cnn", 16 * 9 + 16 + 32 * 16 * 9 + 32 + 32 * 49 * 10 + 10),
    ],
)
def test_models_have_the_size_that_their_title_says(name: str, num_parameters: int) -> None:
    assert sum(parameter.numel() for parameter in workloads.WORKLOADS[name].make_model().parameters()) == num_parameters


def test_the_two_hand_written_loops_do_the_same_work() -> None:
    torch.manual_seed(0)
    task = contestants.Task.of(workloads.WORKLOADS["digits"])
    start = task.final_loss(task.fresh())
    losses = [task.final_loss(loop(task, 4)) for loop in (contestants.slice_loop, contestants.dataloader_loop)]
    assert speed.agree(losses[0], losses[1], start=start)
    assert not speed.agree(losses[0], start, start=start)


def test_stepwell_does_the_work_of_the_hand_written_loop() -> None:
    torch.manual_seed(0)
    task = contestants.Task.of(workloads.WORKLOADS["digits"])
    start = task.final_loss(task.fresh())
    reference = task.final_loss(contestants.slice_loop(task, 4))
    assert speed.agree(task.final_loss(contestants.stepwell_fit(task, 4)), reference, start=start)


def test_the_cycle_given_to_keras_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=50, cycle_momentum=False)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 50:
            schedule.step()
    assert [peers.one_cycle_factor(step, 50) for step in range(50)] == pytest.approx(expected, rel=1e-9)


def test_a_missing_trainer_is_named_as_not_installed_and_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = peers.Peer("Missing", "a-distribution-that-nobody-has", peers.ignite)
    monkeypatch.setitem(peers.PEERS, "missing", missing)
    assert speed.versions()["Missing"] == "not installed"
    assert list(speed.contestants(["missing"])) == ["stepwell", "slice loop", "DataLoader loop"]


def test_startup_differences_are_taken_pair_by_pair() -> None:
    assert startup.differences([2.5, 4.0], [2.0, 3.0]) == [0.5, 1.0]


def test_a_childs_own_work_counts_as_its_processor_time() -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass"
    idle, working = (startup.reading([sys.executable, "-c", code]) for code in ("import time; time.sleep(0.3)", work))
    assert working.cpu >= 0.3
    assert idle.wall >= 0.3
    assert idle.cpu < idle.wall


def test_a_process_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="failed"):
        startup.reading([sys.executable, "-c", "import a_module_that_nobody_has"])


@pytest.mark.parametrize(
    ("given", "names"),
    [("none", []), ("all", list(peers.PEERS)), ("keras,lightning", ["keras", "lightning"]), ("ignite", ["ignite"])],
)
def test_peers_are_chosen_by_name(given: str, names: list[str]) -> None:
    assert speed.arguments(["--peers", given]).peers == names


@pytest.mark.parametrize("argv", [["--peers", "fastai"], ["--rounds", "0"], ["--workload", "imagenet"]])
def test_unknown_peers_workloads_and_no_rounds_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        speed.arguments(argv)
    assert caught.value.code == 2
