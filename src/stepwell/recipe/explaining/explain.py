"""Explaining a job: the step's loop with every technique on its line, and where each value comes from."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from stepwell.core.catalog import STAGES, record_of, settings_of
from stepwell.core.updates.elementwise import ElementwiseOptimizer
from stepwell.recipe.explaining.advice import advice, situation_of
from stepwell.recipe.explaining.formulas import FORMULAS
from stepwell.recipe.explaining.group_table import group_table
from stepwell.recipe.explaining.schedule_view import courses, drawn
from stepwell.recipe.run import Assembly

WIDTH = 100  # of a line; a table's may be wider where names are long


def explanation(assembly: Assembly) -> str:
    """The text of `stepwell explain`."""
    parts = [
        _loop(assembly),
        _formulas(assembly),
        "\n\n".join(drawn(course) for course in courses(assembly)),
        group_table(assembly),
        _reports(assembly),
        _advice(assembly),
        _derived(assembly),
        _promise(assembly),
    ]
    return "\n".join(_wrapped(line) for line in "\n\n".join(part for part in parts if part).splitlines())


def _wrapped(line: str) -> str:
    """A long line in several: settings below each other, other words further in."""
    if len(line) <= WIDTH:
        return line
    name, opened, _ = line.partition("(")
    settings = bool(opened) and name.strip().isidentifier()
    indent = " " * (len(name) + 1 if settings else len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _line(item: Any) -> str:
    record = record_of(item)
    if record is None:
        return getattr(item, "__name__", type(item).__name__)
    left_out = ("name", *getattr(item, "unused", ()))  # a setting that another one stands in for says nothing true
    settings = {key: value for key, value in settings_of(item).items() if key not in left_out and value is not None}
    return record.id + (f"({', '.join(f'{key}={_short(value)}' for key, value in settings.items())})" if settings else "")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}: {_short(item)}" for key, item in value.items())
        text = "{" + text + "}"
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _loop(assembly: Assembly) -> str:
    resolved, job = assembly.resolved, assembly.parts.job

    def of(slot: str, indent: int) -> list[str]:
        return [
            " " * indent + _line(item) for item in resolved.techniques if (r := record_of(item)) is not None and r.slot == slot
        ]

    micro = job.recipe.micro_batch_size
    made = [item for item in resolved.techniques if (r := record_of(item)) is not None and r.slot == "model"]
    made.sort(key=lambda item: STAGES.index(record_of(item).stage))  # type: ignore[union-attr]
    before = [f"    {_line(item)}" for item in made]
    lines = ["once, before the optimizer exists:", *(before or ["    the model as it is"])]
    lines += [f"each of {resolved.horizon.total_steps:,} optimizer steps:"]
    lines += ["    write schedule values", *of("schedule", 8)]
    lines += [f"    take the step's whole batch of {job.recipe.batch_size}, count its units", *of("batch", 8)]
    lines += [f"    for each micro-batch of {micro}:" if micro else "    once, over the whole batch:"]
    lines += [f"        forward in {job.recipe.precision}; terms in fp32:", " " * 12 + _line(resolved.base)]
    lines += list(of("objective", 12))
    lines += ["        backward of sum / count"]
    lines += [f"    non-finite: {job.recipe.on_nonfinite}", "    gradients:", *(of("grad", 8) or ["        as they are"])]
    optimizer = list(of("optimizer", 12))
    lines += ["    update:", " " * 8 + _line(resolved.optimizer), *optimizer]
    lines += [*(["    averages:", *of("average", 8)] if of("average", 8) else []), "    the clock ticks"]
    return "\n".join([*lines, *_watching(assembly)])


def _watching(assembly: Assembly) -> list[str]:
    """Evaluations, and who looks at what; a plateau schedule watches too, and stands among the schedules."""
    resolved = assembly.resolved
    items = [item for item in resolved.techniques if (r := record_of(item)) is not None and r.slot == "observer"]
    at_steps = [item for item in items if item(resolved.horizon).watches == "steps"]
    lines = ["    the step is reported to:", *(f"        {_line(item)}" for item in at_steps)] if at_steps else []
    if assembly.parts.validation is None:
        return lines
    every, total = resolved.plan.evaluate_every, resolved.horizon.total_steps
    often = f"every {_steps(every)} and at the end" if every and every < total else "at the end"
    return [*lines, f"{often}: evaluate", *(f"        {_line(item)}" for item in items if item not in at_steps)]


def _steps(number: int) -> str:
    return "step" if number == 1 else f"{number:,} steps"


def _formulas(assembly: Assembly) -> str:
    resolved = assembly.resolved
    records = [record_of(item) for item in (resolved.base, resolved.optimizer, *resolved.techniques)]
    lines = [f"    {record.id}: {FORMULAS[record.id]}" for record in records if record is not None and record.id in FORMULAS]
    return "\n".join(["what the names mean here:", *lines]) if lines else ""


def _reports(assembly: Assembly) -> str:
    """What model techniques say they did: how many places, layers or blocks they reached."""
    items = [item for item in assembly.resolved.techniques if hasattr(item, "report")]
    lines = [f"    {item.report(assembly.step.model)}" for item in items]
    return "\n".join(["what techniques found in the model:", *lines]) if lines else ""


def _has(assembly: Assembly, id: str) -> bool:
    return any(record is not None and record.id == id for record in map(record_of, assembly.resolved.techniques))


def _advice(assembly: Assembly) -> str:
    found = advice(situation_of(assembly))
    return "\n".join(["advice:", *(f"    {item.text}  ({item.source})" for item in found)]) if found else ""


def _derived(assembly: Assembly) -> str:
    lines = ["derived values:"]
    for item in assembly.resolved.derived:
        value = "1 step" if item.value == "1 steps" else _short(item.value)
        lines.append(f"    {item.path} = {value}  ({item.reason})")
    return "\n".join(lines)


def _promise(assembly: Assembly) -> str:
    train = assembly.parts.train
    if assembly.source.steps_per_epoch is None:
        text = "best effort: iterable data is restored by its own state, or read again"
    elif getattr(train, "work_per_sample", False):
        text = "exact with seeded globals: map-style data is seeded per (seed, epoch, sample)"
    else:
        text = "exact: samplers, sources and techniques are functions of the seed and the cursor"
    return f"randomness: {text}\n{_memory(assembly)}; device {assembly.device}"


def _memory(assembly: Assembly) -> str:
    plan, optimizer = assembly.parts.job.recipe.plan, assembly.step.optimizer
    if isinstance(optimizer, ElementwiseOptimizer) and optimizer.layouts:
        buffers = "one buffer" if len(optimizer.layouts) == 1 else f"{len(optimizer.layouts)} buffers"
        return f"plan: {plan}, parameters and gradients lie in {buffers}"
    reason = "" if plan == "tensors" else f", because {type(optimizer).__name__} updates them one by one"
    return f"plan: {plan}, each parameter is a tensor by itself{reason}"
