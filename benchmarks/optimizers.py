"""Our optimizers' steps beside torch's fused AdamW: time per byte that the rule must move, in turns, on one thread.

`python -m benchmarks.optimizers` prints one table per model size. The bytes of a rule are what no implementation can
avoid: weights read and written, gradients read, every state buffer read and written. LARS and LAMB can't do with that,
since they know how far to go only once all of a tensor was read: the bar holds for the plain count all the same, and a
column beside it counts their second pass. The last column is the step's time over that of torch's foreach AdamW, which
is the peer of rules for which torch has no fused kernel, per byte.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.bars import Bar, summary
from benchmarks.timing import Spread, quiet_collector, ratios
from stepwell import techniques
from stepwell.core.updates.elementwise import ElementwiseOptimizer

LIMIT = 1.15
SIZES = (1_000_000, 20_000_000)


@dataclass(frozen=True)
class Contestant:
    """An optimizer of ours.

    Args:
        name: its line in the table.
        build: parameters -> optimizer.
        num_buffers: state tensors per parameter that a step reads and writes.
        second_pass: bytes per parameter of the pass that a norm of the whole tensor makes necessary.
    """

    name: str
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    num_buffers: int
    second_pass: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes that the rule must move per fp32 parameter.

        >>> Contestant("adamw", torch.optim.AdamW, 2).num_bytes
        28
        """
        return 4 * (2 + 1 + 2 * self.num_buffers)


def contestants() -> list[Contestant]:
    """Every optimizer that the bar is for, with its options where they change what is moved."""
    made = {
        "sgd": (techniques.Sgd(), 1),
        "adamw": (techniques.AdamW(), 2),
        "adam": (techniques.Adam(), 2),
        "adagrad": (techniques.Adagrad(), 1),
        "rmsprop": (techniques.RMSprop(), 1),
        "rmsprop momentum": (techniques.RMSprop(momentum=0.9), 2),
        "rmsprop centered": (techniques.RMSprop(centered=True), 2),
        "lion": (techniques.Lion(weight_decay=0.1), 1),
        "lars": (techniques.Lars(weight_decay=1e-4), 1),
        "lamb": (techniques.Lamb(), 2),
    }
    # LARS reads w and g for their norms. LAMB writes its update, then reads it, reads w again.
    again = {"lars": 8, "lamb": 12}
    return [Contestant(name, technique, count, again.get(name, 0)) for name, (technique, count) in made.items()]


def shapes(num_parameters: int) -> list[tuple[int, ...]]:
    """A decoder's tensors, 75 of them: an embedding, six layers of eleven or twelve, a last norm; about so many values.

    >>> sum(torch.Size(shape).numel() for shape in shapes(20_000_000)) / 20_000_000
    1.0
    """
    width = 16 * round((num_parameters / (6 * 12 + 4)) ** 0.5 / 16)
    layer = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    layer += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    found = [*layer * 6, (width,), (width,)]
    rest = num_parameters - sum(torch.Size(shape).numel() for shape in found)
    return [(max(1, rest // width), width), *found, (rest % width,)]


def model_of(num_parameters: int) -> list[nn.Parameter]:
    """Parameters of realistic sizes with small random values."""
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw) * 0.02) for shape in shapes(num_parameters) if all(shape)]


def ready(build: Callable[[list[nn.Parameter]], torch.optim.Optimizer], num_parameters: int) -> torch.optim.Optimizer:
    """An optimizer as the engine uses it, with gradients and state in place."""
    parameters = model_of(num_parameters)
    optimizer = build(parameters)
    if isinstance(optimizer, ElementwiseOptimizer):
        optimizer.lay_out()
    draw = torch.Generator().manual_seed(1)
    for parameter in parameters:
        gradient = torch.randn(parameter.shape, generator=draw) * 0.01
        if parameter.grad is None:
            parameter.grad = gradient
        else:  # laid out
            parameter.grad.copy_(gradient)
    for group in optimizer.param_groups:
        group["lr"] = 1e-6  # the weights stay of a size that costs what weights cost, however long this runs
    optimizer.step()
    return optimizer


def nanoseconds_per_parameter(optimizer: torch.optim.Optimizer, num_parameters: int, num_steps: int) -> float:
    """Processor time of a step."""
    before = time.process_time()
    for _ in range(num_steps):
        optimizer.step()
    return (time.process_time() - before) / num_steps / num_parameters * 1e9


@dataclass(frozen=True)
class Row:
    """What was measured of one contestant.

    Args:
        name: whose.
        num_parameters: of the model.
        num_bytes: that its rule must move per parameter.
        second_pass: bytes on top of that, where norms come first.
        ours: nanoseconds per parameter, one a round.
        fused, foreach: the same of torch's AdamW, of the same rounds; foreach may have been measured once.
    """

    name: str
    num_parameters: int
    num_bytes: int
    second_pass: int
    ours: tuple[float, ...]
    fused: tuple[float, ...]
    foreach: float

    @property
    def ratio(self) -> Spread:
        """Time per byte over that of fused AdamW, which moves 28 bytes, round by round.

        >>> Row("sgd", 100, 14, 0, (1.0, 1.0), (2.0, 2.0), 8.0).ratio.median
        1.0
        """
        return Spread.of(ratios([time_ / self.num_bytes for time_ in self.ours], [time_ / 28 for time_ in self.fused]))

    @property
    def ratio_of_minima(self) -> float:
        """The same of each one's fastest round: what the machine can do when nobody else asks for memory."""
        return (min(self.ours) / self.num_bytes) / (min(self.fused) / 28)

    @property
    def over_foreach(self) -> float:
        """Time per byte over that of foreach AdamW, each one's fastest round.

        >>> Row("sgd", 100, 14, 0, (1.0, 3.0), (2.0, 2.0), 8.0).over_foreach
        0.25
        """
        return (min(self.ours) / self.num_bytes) / (self.foreach / 28)

    @property
    def line(self) -> str:
        """Its line in the table."""
        ratio = self.ratio
        return (
            f"{self.name:18s} {self.num_bytes:6d} {min(self.ours):8.3f} {Spread.of(self.ours).median:8.3f} {ratio.median:7.2f}"
            f"  {ratio.lower:5.2f} - {ratio.upper:5.2f} {self.ratio_of_minima:8.2f}"
            f" {ratio.median * self.num_bytes / (self.num_bytes + self.second_pass):10.2f} {self.over_foreach:8.2f}"
        )


HEADER = (
    f"{'':18s} {'bytes':>6s} {'ns min':>8s} {'median':>8s} {'ratio':>7s}  {'quartiles':>13s} {'of min.':>8s} {'two passes':>10s}"
    f" {'/foreach':>8s}"
)


def measure(which: Sequence[Contestant], num_parameters: int, num_rounds: int) -> Iterator[Row]:
    """Each contestant in turns with torch's fused AdamW: A B, A B, ..., after one unmeasured round."""
    reference = ready(lambda parameters: torch.optim.AdamW(parameters, fused=True), num_parameters)
    slow = ready(lambda parameters: torch.optim.AdamW(parameters, foreach=True), num_parameters)
    foreach = min(nanoseconds_per_parameter(slow, num_parameters, 1) for _ in range(3))
    del slow
    num_steps = max(1, 20_000_000 // num_parameters)
    for contestant in which:
        optimizer = ready(contestant.build, num_parameters)
        ours: list[float] = []
        fused: list[float] = []
        with quiet_collector():
            for round_ in range(num_rounds + 1):
                pair = [nanoseconds_per_parameter(each, num_parameters, num_steps) for each in (optimizer, reference)]
                if round_ > 0:
                    ours.append(pair[0])
                    fused.append(pair[1])
        line = (contestant.name, num_parameters, contestant.num_bytes, contestant.second_pass)
        yield Row(*line, tuple(ours), tuple(fused), foreach)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """The promise, for every contestant and size, about the median."""
    return [
        Bar(f"{row.name}, {row.num_parameters / 1e6:g}M: per byte over fused AdamW", "at most", LIMIT, row.ratio.median)
        for row in rows
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", help="names of the table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    which = [contestant for contestant in contestants() if options.only is None or contestant.name in options.only]
    rows = []
    for size in options.sizes:
        print(f"\n{size / 1e6:g}M parameters in {len(model_of(size))} tensors, fp32, one thread, processor time per parameter")
        print(HEADER)
        for row in measure(which, size, options.rounds):
            rows.append(row)
            print(row.line, flush=True)
    print("\n" + summary(bars(rows)))


if __name__ == "__main__":
    main()
