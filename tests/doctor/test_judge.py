"""What of all suspicions becomes a finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from stepwell.doctor.findings import Remedy, Suspicion, Tried
from stepwell.doctor.judge import MOST_RIVALS, helps, judged, try_first


def _tried(before: tuple[float, ...], after: tuple[float, ...]) -> Tried:
    return Tried(before, after, (1.0,) * len(before), (0.5,) * len(after), 10)


class _Bench:
    """Answers a trial of a remedy with the skills that a test names; without any it helps nothing."""

    def __init__(
        self, after: Mapping[str, float], *, left: float = 1.0, best: float | None = None, learns_nothing: bool = False
    ) -> None:
        self.after, self.left, self.asked, self.learns_nothing = after, left, list[str](), learns_nothing
        self.reference = None if best is None else SimpleNamespace(best=best)
        self.setup = object()

    def mended(self, remedy: Remedy) -> Any:
        assert remedy.change is not None
        return remedy.change(self.setup)  # type: ignore[arg-type]

    def affords(self, mended: Any, **given: Any) -> bool:
        return self.left >= 0.5

    def tried(self, mended: Any, **given: Any) -> Tried:
        self.asked.append(mended)
        after = self.after.get(mended, 0.5)
        return _tried((0.5, 0.5), (after, after))


def _item(name: str, *, change: bool = True, **given: Any) -> Suspicion:
    found = Suspicion(name, "seen", "cause", {}, Remedy(name, (lambda setup: name) if change else None))  # type: ignore[arg-type,return-value]
    return replace(found, **given)


def _ids(bench: _Bench, *items: Suspicion) -> list[str]:
    return [finding.id for finding in judged(bench, items)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((0.50, 0.50), (0.60, 0.60), True),
        ((0.50, 0.50), (0.54, 0.54), False),  # 0.04 is less than 0.05
        ((0.20, 0.20), (0.27, 0.27), False),  # 0.07 is less than a tenth of what is missing, 0.08
        ((0.95, 0.95), (0.99, 0.99), False),  # 0.04 of the 0.05 that are missing, but less than seeds differ
        ((0.50, 0.50), (0.90, 0.49), False),  # better with one seed, worse with the other
        ((0.50,), (0.64,), False),  # of one seed three times as much is asked: 0.15
        ((0.50,), (0.66,), True),
        ((0.30, 0.70), (0.80, 0.82), True),  # 0.5 and 0.12: mean 0.31, spread 0.27
    ],
)
def test_a_remedy_helps_only_by_more_than_seeds_differ(
    before: tuple[float, ...], after: tuple[float, ...], verdict: bool
) -> None:
    assert helps(_tried(before, after)) is verdict


def test_what_is_certain_stands_alone_and_nothing_is_tried() -> None:
    bench = _Bench({"slow": 0.9})
    assert _ids(bench, _item("slow"), _item("nan", proof="certain"), _item("shape", proof="certain", weight=0.9)) == [
        "shape",
        "nan",
    ]
    assert bench.asked == []


def test_a_certain_finding_that_explains_another_is_told_without_it() -> None:
    first = _item("nan", proof="certain", weight=0.9, explains=("loss",))
    assert _ids(_Bench({}), _item("loss", proof="certain"), first) == ["nan"]


def test_a_finding_that_blocks_is_a_blocker_and_others_harm() -> None:
    found = judged(_Bench({}), [_item("crash", proof="certain", blocks=True), _item("scale", proof="certain")])  # type: ignore[arg-type]
    assert {finding.id: finding.severity for finding in found} == {"crash": "blocker", "scale": "harm"}


def test_a_remedy_that_does_not_help_is_no_finding() -> None:
    assert _ids(_Bench({"a": 0.52}), _item("a"), _item("b", proof="mechanism")) == []


def test_where_nothing_is_learnt_a_weighty_mechanism_is_told_though_its_remedy_brings_nothing() -> None:
    cause = _item("cause", proof="mechanism", weight=0.8, explains=("underfitting",))
    others = (
        _item("slight", proof="mechanism", weight=0.5, explains=("underfitting",)),
        _item("beside", proof="mechanism", weight=0.8),
    )
    last = _item("underfitting", change=False, proof="mechanism", weight=0.1)
    assert _ids(_Bench({}, learns_nothing=True), last, cause, *others) == ["cause"]
    assert _ids(_Bench({}, learns_nothing=False), last, cause, *others) == ["underfitting"]


def test_remedies_are_tried_from_the_weightiest_and_once_nothing_is_left_to_gain_only_a_few_more() -> None:
    rivals = [_item(f"rival {number}", weight=0.4) for number in range(MOST_RIVALS + 2)]
    bench = _Bench({"heavy": 0.99})
    assert _ids(bench, *rivals, _item("heavy", weight=0.8), _item("none", weight=0.9)) == ["heavy"]
    assert bench.asked == ["none", "heavy", *(f"rival {number}" for number in range(MOST_RIVALS))]
    # Simple methods reach 0.8 here: 0.78 leaves nothing to gain, 0.7 does.
    for after, num_asked in ((0.78, 1 + MOST_RIVALS), (0.70, 1 + len(rivals))):
        bench = _Bench({"heavy": after}, best=0.8)
        _ids(bench, *rivals, _item("heavy", weight=0.8))
        assert len(bench.asked) == num_asked


def test_of_two_remedies_that_help_the_much_better_one_is_told() -> None:
    assert _ids(_Bench({"some": 0.60, "much": 0.90}), _item("some", weight=0.9), _item("much", weight=0.5)) == ["much"]
    assert _ids(_Bench({"some": 0.85, "much": 0.90}), _item("some", weight=0.9), _item("much", weight=0.5)) == ["some", "much"]


def test_what_a_weightier_remedy_explains_is_not_told_beside_it() -> None:
    root = _item("root", weight=0.9, explains=("sign",))
    assert _ids(_Bench({"root": 0.85, "sign": 0.90}), root, _item("sign", weight=0.5)) == ["root"]


def test_what_a_weightier_remedy_explains_is_tried_too_where_something_is_left_to_gain() -> None:
    root = _item("root", weight=0.75, explains=("rate",))
    assert _ids(_Bench({"root": 0.60, "rate": 0.95}), root, _item("rate", weight=0.6)) == ["rate"]
    bench = _Bench({"root": 0.99, "rate": 0.95})
    assert _ids(bench, root, _item("rate", weight=0.6)) == ["root"]
    assert bench.asked == ["root"]


def test_a_strong_measurement_for_the_author_comes_before_a_little_gain_that_it_explains() -> None:
    strong = _item("splits differ", weight=0.92, change=False, proof="mechanism", explains=("overfitting",))
    assert _ids(_Bench({"overfitting": 0.60}), strong, _item("overfitting", weight=0.7)) == ["splits differ"]
    assert _ids(_Bench({"overfitting": 0.99}), strong, _item("overfitting", weight=0.7)) == ["overfitting"]
    assert _ids(_Bench({"rate": 0.60}), strong, _item("rate", weight=0.7)) == ["rate"]


def test_a_last_resort_is_not_tried_where_something_helped() -> None:
    bench = _Bench({"cause": 0.70, "wider": 0.95})
    assert _ids(bench, _item("cause", weight=0.6), _item("wider", weight=0.2)) == ["cause"]
    assert _ids(_Bench({"wider": 0.95}), _item("cause", weight=0.6), _item("wider", weight=0.2)) == ["wider"]


def test_what_was_measured_comes_before_a_last_resort_that_helped() -> None:
    measured = _item("measured", weight=0.75, proof="mechanism")
    assert _ids(_Bench({"wider": 0.95}), measured, _item("wider", weight=0.2)) == ["measured", "wider"]


def test_the_weightiest_are_tried_first_until_nothing_is_left_to_gain() -> None:
    items = [_item(name, weight=weight) for name, weight in (("a", 0.71), ("b", 0.9), ("c", 0.8), ("rate", 0.6))]
    for after, asked in (({"c": 0.99}, ["b", "c"]), ({}, ["b", "c", "a"])):
        bench = _Bench(after)
        try_first(bench, [*items, _item("author", weight=0.95, change=False)])  # type: ignore[arg-type]
        assert bench.asked == asked


def test_what_was_measured_and_has_no_remedy_is_told_only_if_no_other_helped() -> None:
    measured = _item("measured", change=False, proof="mechanism")
    assert _ids(_Bench({"cause": 0.7}), measured, _item("cause")) == ["cause"]
    assert _ids(_Bench({}), measured, _item("cause")) == ["measured"]
    assert _ids(_Bench({}), _item("guess", change=False)) == []


def test_a_remedy_that_can_not_be_applied_is_passed_over() -> None:
    def impossible(setup: Any) -> Any:
        raise ValueError("a branch needs one tensor of inputs")

    broken = _item("broken", remedy=Remedy("broken", impossible), weight=0.9)
    assert _ids(_Bench({"sound": 0.9}), broken, _item("sound")) == ["sound"]


def test_nothing_is_tried_once_the_budget_is_spent() -> None:
    for left in (0.0, 0.4):  # of trials that cost 0.5
        bench = _Bench({"cause": 0.9}, left=left)
        assert _ids(bench, _item("cause")) == []
        assert bench.asked == []
