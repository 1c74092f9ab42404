"""The optimizer's parameter groups as a table: each tensor's shape, the step from which it trains, why it isn't decayed."""

from __future__ import annotations

from typing import Any

from stepwell.core.catalog import record_of
from stepwell.recipe.run import Assembly
from stepwell.techniques.optimizer.decay_groups import decay_table

__all__ = ["group_table"]

MOST_ROWS = 60  # tensors of a group that are listed by name


def group_table(assembly: Assembly) -> str:
    """A line for each group, then one for each of its tensors."""
    step = assembly.step
    shapes = {name: str(list(p.shape)) for name, p in step.model.named_parameters()}
    ids = [record.id for item in assembly.resolved.techniques if (record := record_of(item)) is not None]
    reasons = {row.name: row.reason for row in decay_table(step.model)} if "decay_groups" in ids else {}
    starts = first_steps(assembly)
    lines = [f"parameter groups{', before any schedule' if step.parts.values else ''}:"]
    for number, group in enumerate(step.optimizer.param_groups):
        names = [name for name in group.get("names", []) if name in shapes]
        lines.append(f"    group {number}: {_described(group)}")
        wide, shape = (max((len(text) for text in texts), default=0) for texts in (names, [shapes[name] for name in names]))
        for name in names[:MOST_ROWS]:
            notes = [f"from step {starts[name]}"] if name in starts else []
            notes += [f"({reasons[name]})"] if group.get("weight_decay") == 0 and name in reasons else []
            lines.append("        " + "  ".join([f"{name:<{wide}}", f"{shapes[name]:<{shape}}", *notes]).rstrip())
        lines += [f"        ... and {len(names) - MOST_ROWS} more"] if len(names) > MOST_ROWS else []
    return "\n".join([*lines, *_frozen(assembly, starts)])


def first_steps(assembly: Assembly) -> dict[str, int]:
    """The first optimizer step, counted from 1, that trains each tensor which a technique thaws in the course of the run."""
    steps: dict[str, int] = {}
    for item in assembly.resolved.techniques:
        if hasattr(item, "thawed_after"):
            after = item.thawed_after(assembly.step.model, assembly.resolved.horizon)
            steps |= {name: completed + 1 for name, completed in after.items()}
    return steps


def _described(group: dict[str, Any]) -> str:
    """How many tensors, and what they are updated with; muon's groups say by which of its two rules."""
    rule = group.get("rule")
    settings = {key: group[key] for key in ("lr", "weight_decay", "momentum") if key in group}
    if rule == "adamw":  # beside muon: the group also holds the settings of the other rule
        settings = {"lr": group["lr"] * group["adamw_factor"], "weight_decay": group["weight_decay"]}
    size, num = sum(p.numel() for p in group["params"]), len(group["params"])
    counts = f"{num} tensor{'' if num == 1 else 's'}, {size:,} value{'' if size == 1 else 's'}"
    told = ", ".join(f"{key} {value:g}" for key, value in settings.items())
    return "; ".join([*([f"by {rule}"] if rule else []), counts, told])


def _frozen(assembly: Assembly, starts: dict[str, int]) -> list[str]:
    """What doesn't train at all, and what trains later."""
    named = dict(assembly.step.model.named_parameters())
    left = [name for name, p in named.items() if not p.requires_grad and name not in starts]
    total = sum(p.numel() for p in named.values())
    lines = []
    if left:
        share = total - sum(named[name].numel() for name in left)
        lines.append(f"    not trained: {', '.join(left[:8])}{' ...' if len(left) > 8 else ''}")
        lines.append(f"    {share:,} of {total:,} values train ({100 * share / total:.2f} %)")
    if starts:
        begin = {name: starts.get(name, 1) for name in named if name not in left}
        stages = [
            f"{sum(named[name].numel() for name, at in begin.items() if at <= step):,} from step {step}"
            for step in sorted(set(begin.values()))
        ]
        lines.append(f"    of {total:,} values train: {', '.join(stages)}")
    return lines
