"""Which pairs are tried at every commit: a fixed core, and those of techniques whose files changed."""

from __future__ import annotations

import subprocess
from itertools import combinations, pairwise
from pathlib import Path

from pairs import catalog

from stepwell import presets
from stepwell.core.catalog import record_of
from stepwell.recipe.job import Recipe

ROOT = Path(__file__).parents[2]
MOST_CHANGED = 4  # techniques whose pairs are tried at every commit; with more, the long suite has to tell

# The stacks that the field's recipes are made of, and pairs that other trainers are known to get wrong.
STACKS: dict[str, tuple[str, ...]] = {
    "image classification": (
        "sgd",
        "warmup",
        "cosine",
        "label_smoothing",
        "decay_groups",
        "mixup",
        "zero_gamma",
        "distillation",
        "ema",
    ),
    "small data": ("adamw", "dropout", "label_smoothing", "mixup", "early_stopping", "ema", "l2_penalty"),
    "large data": ("sgd", "one_cycle", "flip", "random_crop", "cutmix", "stochastic_depth", "decay_groups"),
    "transformer": ("adamw", "warmup_cosine", "clip_norm", "decay_groups", "label_smoothing", "dropout", "ema"),
    "fine-tuning": ("adamw", "unfreezing", "lr_groups", "new_head", "early_stopping", "fine_tuning_phase"),
    "adapters": ("adamw", "lora", "new_head", "warmup_linear", "clip_norm", "dropout", "early_stopping"),
    "large batches": ("lamb", "lr_scaling", "warmup", "decay_groups", "label_smoothing"),
    "weighted classes": ("cross_entropy", "label_smoothing", "mixup", "class_weights"),
    "small images": ("kaiming_init", "swap_norm", "color_jitter", "erasing", "rotation", "plateau"),
}


def must_compose() -> list[tuple[str, str]]:
    """Pairs that may never be refused: all within each stack and each shipped recipe."""
    groups = [*STACKS.values(), *(ids_of(Recipe(preset=name)) for name in presets.names())]
    found = {tuple(sorted(pair)) for group in groups for pair in combinations(dict.fromkeys(group), 2)}
    return sorted(found)  # type: ignore[arg-type]


def ids_of(recipe: Recipe) -> tuple[str, ...]:
    """The techniques of a recipe."""
    parts = (recipe.objective, recipe.optimizer, recipe.schedule, *recipe.techniques)
    return tuple(record.id for part in parts if (record := record_of(part)) is not None)


def core_pairs() -> list[tuple[str, str]]:
    """What every commit tries: each technique beside the next one in the catalog, and the stacks' neighbours."""
    ids = sorted(catalog())
    chosen = {*pairwise(ids), *(tuple(sorted(pair)) for stack in STACKS.values() for pair in pairwise(stack))}
    chosen |= {tuple(sorted((id, other))) for id in changed() for other in ids if other != id}
    return sorted(chosen)  # type: ignore[arg-type]


def changed() -> list[str]:
    """Techniques whose files differ from the commit before the last, where git can tell; none where too many do."""
    command = ["git", "diff", "--name-only", "HEAD~1", "--", "src/stepwell/techniques"]
    try:
        lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
    ids = sorted({Path(line).stem for line in lines} & set(catalog()))
    return ids if len(ids) <= MOST_CHANGED else []
