"""Explaining a job: the step's loop with every technique on its line, and where each value comes from."""

from __future__ import annotations

from typing import Any

from stepwell.core.catalog import record_of, settings_of
from stepwell.core.elementwise import ElementwiseOptimizer
from stepwell.recipe.run import Assembly

FORMULAS = {
    "adamw": "w <- w - lr*weight_decay*w - lr*m/(sqrt(v)+eps): decoupled decay that follows the schedule; eps outside the root",
    "sgd": "b <- momentum*b + (1-dampening)*(g + weight_decay*w); w <- w - lr*b: the decay is L2, inside the momentum",
}


def explanation(assembly: Assembly) -> str:
    """The text of `stepwell explain`."""
    parts = [_loop(assembly), _formula(assembly), _schedule(assembly), _groups(assembly), _derived(assembly), _promise(assembly)]
    return "\n\n".join(part for part in parts if part)


def _line(item: Any) -> str:
    record = record_of(item)
    if record is None:
        return getattr(item, "__name__", type(item).__name__)
    settings = {key: value for key, value in settings_of(item).items() if key != "name"}
    return record.id + (f"({', '.join(f'{key}={_short(value)}' for key, value in settings.items())})" if settings else "")


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _loop(assembly: Assembly) -> str:
    resolved, job = assembly.resolved, assembly.parts.job

    def of(slot: str, indent: int) -> list[str]:
        return [
            " " * indent + _line(item) for item in resolved.techniques if (r := record_of(item)) is not None and r.slot == slot
        ]

    micro = job.recipe.micro_batch_size
    lines = ["once, before the optimizer exists:", *(of("model", 4) or ["    the model as it is"])]
    lines += [f"each of {resolved.horizon.total_steps} optimizer steps:"]
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
    if assembly.parts.validation is not None:
        lines += [f"every {resolved.plan.evaluate_every} steps: evaluate", *of("observer", 8)]
    return "\n".join(lines)


def _formula(assembly: Assembly) -> str:
    record = record_of(assembly.resolved.optimizer)
    text = FORMULAS.get(record.id) if record else None
    return f"{record.id} here means: {text}" if record and text else ""


def _schedule(assembly: Assembly) -> str:
    """Learning rate at a few points of the run, drawn in one line."""
    step, horizon = assembly.step, assembly.resolved.horizon
    if not step.parts.drives:
        return ""
    group = step.optimizer.param_groups[0]
    keys = [key for key, value in group.items() if isinstance(value, float)]
    before = [dict(item) for item in step.optimizer.param_groups]
    total, points = horizon.total_steps, 40
    values = []
    for point in range(points):
        for write in step.parts.drives:
            write(round(point * (total - 1) / (points - 1)) * horizon.per_step)
        values.append(group["lr"])
    for item, saved in zip(step.optimizer.param_groups, before, strict=True):
        item.update({key: saved[key] for key in [*keys, *(["betas"] if "betas" in saved else [])]})
    top = max(values) or 1.0
    bars = "".join(" .:-=+*#%@"[min(int(value / top * 9.999), 9)] for value in values)
    return f"learning rate: first {values[0]:.3g}, highest {top:.3g}, last {values[-1]:.3g}\n    |{bars}|"


def _groups(assembly: Assembly) -> str:
    step = assembly.step
    shapes = {name: tuple(p.shape) for name, p in step.model.named_parameters()}
    lines = ["parameter groups:"]
    for number, group in enumerate(step.optimizer.param_groups):
        settings = ", ".join(f"{key} {group[key]:g}" for key in ("lr", "weight_decay", "momentum") if key in group)
        names = group.get("names", [])
        lines.append(
            f"    {number}: {len(group['params'])} tensors, {sum(p.numel() for p in group['params']):,} values; {settings}"
        )
        lines += [f"        {name} {list(shapes[name])}" for name in names[:8] if name in shapes]
        lines += [f"        ... and {len(names) - 8} more"] if len(names) > 8 else []
    left = [name for name, p in step.model.named_parameters() if not p.requires_grad]
    lines += [f"    not trained: {', '.join(left[:8])}{' ...' if len(left) > 8 else ''}"] if left else []
    return "\n".join(lines)


def _derived(assembly: Assembly) -> str:
    lines = ["derived values:"]
    lines += [f"    {item.path} = {_short(item.value)}  ({item.reason})" for item in assembly.resolved.derived]
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
