"""Dropout: switch parts of the network off at random while it trains, at rates set from the recipe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from stepwell.core.catalog import technique
from stepwell.core.check import require, require_between, require_one_of
from stepwell.core.clock import Clock, Horizon
from stepwell.core.errors import JobError, nearest
from stepwell.core.modules.dropout_places import (
    DropoutPlace,
    bare_activations,
    behind_the_last_layer,
    dropout_places,
    insert_dropout_,
    unreachable_dropout,
)
from stepwell.core.modules.dropout_positions import DROPOUT_RATES, dropout_position
from stepwell.core.modules.dropout_room import require_room
from stepwell.core.randomness import Rng

__all__ = ["DROPOUT_RATES", "Dropout", "dropout_position"]

logger = logging.getLogger("stepwell.dropout")
_PLAN = "_stepwell_dropout_plan"
_DEFAULT = 0.1


@dataclass
class _Plan:
    """Each place with its rate, and the probability that the rates belong to."""

    rates: list[tuple[DropoutPlace, float]]
    base: float
    current: float | None = None

    def apply(self, probability: float) -> None:
        if probability == self.current:
            return
        self.current = probability
        for place, rate in self.rates:
            # A schedule moves every rate in proportion; where nothing moved, not even the last bit does.
            if rate == self.base:
                place.set_(probability)
            else:
                place.set_(rate if probability == self.base else min(rate * probability / self.base, 1.0))


@technique(
    id="dropout",
    slot="model",
    stage="structure",
    paper="Srivastava et al. 2014, JMLR 15",
    search={"probability": (0.0, 0.5, "linear")},
)
class Dropout:
    """Set the dropout of any model, by place, by name, or all alike; put it in where there is none.

    What: in training each number is dropped with its place's probability and what is left is scaled by
    1 / (1 - probability), so that evaluation needs no change. Rates that modules hold as numbers (attention, recurrent
    layers) are set too. On CPUs masks are drawn three and more times as fast as torch draws them. Why: units can't rely
    on each other; an ensemble for the price of one. When not: a model that doesn't overfit; right before batch norm,
    whose statistics it disturbs. The outputs are never dropped: what stands behind the last layer is left alone.

    Args:
        probability: of dropping, in [0, 1); 0 switches every rate off. A schedule that moves it moves all rates in
            proportion. Leave it out beside rates by position.
        rates: "same" gives every place `probability`; "typical" and "guideline" give it by position, see `DROPOUT_RATES`
            (hidden 0.5 / 0.4, convolution 0.25 / 0.2, head 0.5 / 0.4, attention and feed-forward 0.1 / 0.2,
            recurrent 0.35, embedding 0.1 / 0.2, input 0 / 0.1).
        patterns: rates by name, {"blocks.*.attention*": 0.2, "head": 0.5}; the first that covers a place counts.
        kind: "kept" leaves layers what they are; "element", "spatial" (whole channels) or "variational" (one mask for
            all steps of a sequence) makes them so, vectors (N, F) excepted, which have nothing to share a mask over.
            Inserted ones are element by element unless told.
        insert: "existing" sets what is there; "after_activations" also drops behind activations that have no
            dropout behind them, the last layer's excepted.

    Shapes: any; spatial (N, C, ...), variational (N, T, C).

    Raises:
        JobError: a rate out of range, a pattern that covers nothing, nothing to set, a probability beside rates by
            position, a kind that nothing in the model can take, or dropout in a module's code at a rate that nothing
            outside it can reach.

    Papers: Srivastava et al. 2014; Tompson et al. 2015, arXiv:1411.4280 (spatial); Gal and Ghahramani 2016,
    arXiv:1512.05287 (variational) and arXiv:1506.02142 (Monte-Carlo: `stepwell predict --samples`).
    Paper: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014.

    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 1))
    >>> Dropout(probability=0.2)(model, Rng(0))[2]
    DropoutLayer(p=0.2, kind=element)
    """

    probability: float = _DEFAULT
    rates: Literal["same", "typical", "guideline"] = "same"
    patterns: dict[str, float] | None = None
    kind: Literal["kept", "element", "spatial", "variational"] = "kept"
    insert: Literal["existing", "after_activations"] = "existing"

    def __post_init__(self) -> None:
        fix = "To train without dropout, set it to 0"
        require_between("dropout.probability", self.probability, 0.0, 1.0, fix, ends="[)")
        require_one_of("dropout.rates", self.rates, ("same", "typical", "guideline"))
        require_one_of("dropout.kind", self.kind, ("kept", "element", "spatial", "variational"))
        require_one_of("dropout.insert", self.insert, ("existing", "after_activations"))
        good = self.patterns is None or (isinstance(self.patterns, Mapping) and bool(self.patterns))
        require(good, "dropout.patterns", self.patterns, "rates by name", 'Write e.g. patterns: {"head": 0.5}')
        for pattern, rate in (self.patterns or {}).items():
            require_between(f"dropout.patterns[{pattern!r}]", rate, 0.0, 1.0, fix, ends="[)")

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that another one stands in for."""
        return ("probability",) if self.rates != "same" and self.probability else ()

    def __call__(self, model: nn.Module, rng: Rng) -> nn.Module:
        # Not in __post_init__: a schedule makes copies with the probability of the moment.
        require(
            not self.unused or self.probability == _DEFAULT,
            "dropout.probability",
            self.probability,
            f"one of probability and rates: rates: {self.rates} gives each place a rate of its own",
            "Leave probability out, or write rates: same",
        )
        kind = None if self.kind == "kept" else self.kind
        if self.insert == "after_activations":
            for module in bare_activations(model):
                insert_dropout_(module, kind or "element")
        behind = {id(module) for module in behind_the_last_layer(model)}
        places = [place for place in dropout_places(model) if id(place.module) not in behind]
        self._refuse_hidden(model, places)
        rates = self._rates(model, places)
        for place, _ in rates:
            place.use_(kind)
        self._refuse_no_kind(rates)
        # Kept with the model: a copy of it has its own plan, and no driven copy of this technique needs to look again.
        model.__dict__[_PLAN] = plan = _Plan(rates, self.probability)
        plan.apply(self.probability)
        logger.info("%s", self.report(model))
        return model

    def at(self, model: nn.Module, clock: Clock, horizon: Horizon | None) -> bool:
        """Apply the probability of the moment; which tensors train never changes."""
        plan = _plan_of(model)
        if plan is not None:
            plan.apply(self.probability)
        return False

    def check_forward(self, model: nn.Module, call: Callable[[], Any]) -> None:
        """Refuse a kind that the activations have no dimensions for, see `require_room`.

        Args:
            call: calls the model on a few examples.
        """
        plan = _plan_of(model)
        if plan is not None and self.kind != "kept":
            require_room(self.kind, [place for place, rate in plan.rates if rate], call)

    def report(self, model: nn.Module) -> str:
        """How many places were set, and to what."""
        plan = _plan_of(model)
        counts: dict[float, int] = {}
        for place, _ in plan.rates if plan is not None else []:
            counts[place.probability] = counts.get(place.probability, 0) + 1
        return "dropout sets " + ", ".join(
            f"{number} {'place' if number == 1 else 'places'} to {rate:g}" for rate, number in sorted(counts.items())
        )

    def _rates(self, model: nn.Module, places: list[DropoutPlace]) -> list[tuple[DropoutPlace, float]]:
        named = {pattern: [place for place in places if _covers(pattern, place.name)] for pattern in self.patterns or {}}
        for pattern, found in named.items():
            if not found:
                raise JobError(
                    f"dropout.patterns has {pattern!r}, which covers nothing that drops",
                    expected="the name of a dropout layer or of a module that holds some, wildcards allowed",
                    fix=nearest(pattern, {place.name for place in places}),
                )
        rates = []
        for place in places:
            by_name = next((rate for pattern, rate in (self.patterns or {}).items() if place in named[pattern]), None)
            same = self.probability if self.rates == "same" else None
            rate = by_name if by_name is not None else same
            rate = DROPOUT_RATES[self.rates][dropout_position(model, place)] if rate is None else rate
            rates.append((place, rate if self.probability else 0.0))
        return rates

    def _refuse_no_kind(self, rates: list[tuple[DropoutPlace, float]]) -> None:
        if self.kind in ("spatial", "variational") and not any(place.has_kind for place, _ in rates):
            raise JobError(
                f"dropout.kind is {self.kind!r}, but {rates[0][0].name!r} and all else that drops draws its own masks",
                expected="dropout layers, or activations that dropout is put behind",
                fix="Leave kind out: attention, recurrent layers and alpha dropout have only their own",
            )

    def _refuse_hidden(self, model: nn.Module, places: list[DropoutPlace]) -> None:
        hidden = unreachable_dropout(model)
        if hidden:
            raise JobError(
                f"dropout can't reach the rate of {', '.join(hidden[:3])}: it is written into the code",
                expected="rates in nn.Dropout layers, or in attributes such as self.dropout",
                fix="Give the module a layer, e.g. self.dropout = nn.Dropout(0.1), and call that",
            )
        if not places:
            raise JobError(
                "dropout found nothing in the model whose rate could be set",
                expected="dropout layers, attention or stacked recurrent layers"
                + ("" if self.insert == "existing" else ", or activations as modules"),
                fix="Set insert: after_activations" if self.insert == "existing" else "Add nn.Dropout layers to the model",
            )


def _plan_of(model: nn.Module) -> _Plan | None:
    return next((module.__dict__[_PLAN] for module in model.modules() if _PLAN in module.__dict__), None)


def _covers(pattern: str, name: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))
