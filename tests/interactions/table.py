"""Which pairs compose, as a table: `python tests/interactions/table.py` prints it and writes docs/interactions.md."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from pairs import Verdict, catalog, exceptions, standing
from settings import EXCEPTED, NEUTRAL

PAGE = Path(__file__).parents[2] / "docs" / "interactions.md"
MARKS = {"composes": ".", "exclusive": "x", "refused": "-"}

# (techniques of one side, techniques of the other) -> why they are refused, with the source.
REFUSALS: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {
    (
        ("label_smoothing", "class_weights", "distillation"),
        ("mse", "mae", "huber", "bce", "binary_focal", "dice", "bce_dice", "contrastive", "triplet", "multi_task"),
    ): "they act on scores of classes (Szegedy et al. 2016; King & Zeng 2001; Hinton et al. 2015), and there are none",
    (("mixup", "cutmix", "hidden_mixup"), ("contrastive", "triplet", "multi_task")): (
        "mixed examples need mixed targets (Zhang et al. 2018, eq. 1), and these have none that can be mixed"
    ),
    (("mixup", "cutmix"), ("back_translation", "random_deletion", "random_insertion", "synonym_replacement")): (
        "a mixture of two token ids is another, unrelated token (Guo et al. 2019, arXiv:1905.08941: mix hidden vectors)"
    ),
    (("hidden_mixup",), ("distillation",)): "its teacher must see what the student sees (Beyer et al. 2022, arXiv:2106.05237)",
    (("lora",), ("unfreezing",)): "LoRA keeps the pretrained weights frozen for good (Hu et al. 2021, section 4.1)",
    (
        ("fixup",),
        ("zero_gamma",),
    ): "fixup is for branches without norms (Zhang et al. 2019, section 3), zero_gamma for those with",
    (("one_cycle",), ("adagrad", "schedule_free_adamw")): (
        "cycling the momentum needs one that a schedule can move (Smith & Topin 2019); momentum: keep goes without"
    ),
}


def reason_for(one: str, other: str) -> str:
    """Why two techniques are refused, or "" where no reason is on record."""
    for (left, right), reason in REFUSALS.items():
        if (one in left and other in right) or (other in left and one in right):
            return reason
    return ""


def page() -> str:
    """The whole page, from the catalog and the rules alone: what it says of composing pairs, the tests hold."""
    ids = sorted(catalog())
    found = {pair: standing(*pair) for pair in combinations(ids, 2)}
    return "\n".join([*_head(ids, found), *_grid(ids, found), *_refused(found), *_excepted(ids, found), ""])


def counts(found: dict[tuple[str, str], Verdict]) -> dict[str, int]:
    """How many pairs there are of each kind."""
    return {kind: sum(one.kind == kind for one in found.values()) for kind in MARKS}


def _head(ids: list[str], found: dict[tuple[str, str], Verdict]) -> list[str]:
    number = counts(found)
    share = 100 * number["refused"] / (number["composes"] + number["refused"])
    return [
        "# Interactions",
        "",
        "Every pair of techniques is tried in one recipe: a small model with every kind of layer is trained for a few steps, and",
        "each pair must",
        "",
        "- train to finite numbers, **both acting**: the result differs from the run with either one switched off;",
        "- give the weights of the whole batch in **micro-batches** (float64, 1e-10), where nothing is drawn at random;",
        "- **resume** from its middle to the bit: weights, optimizer, averages, clocks and metrics;",
        "- be **removable**: a value that does nothing (epsilon 0, probability 0) gives the bits of the run without it.",
        "",
        "What can't work together is refused before training, with the remedy. `make ci` tries all pairs, `make test` a fixed",
        "core and the techniques that changed; `python tests/interactions/table.py` writes this page.",
        "",
        f"{len(ids)} techniques make {len(found)} pairs: **{number['composes']} compose**, {number['exclusive']} are exclusive",
        f"(two optimizers, two base objectives, ...), **{number['refused']} are refused** ({share:.1f} % of those that one could",
        "ask for together).",
        "",
    ]


def _grid(ids: list[str], found: dict[tuple[str, str], Verdict]) -> list[str]:
    width = max(len(id) for id in ids)
    lines = ["## All pairs", "", "`.` composes, `x` exclusive, `-` refused. Columns are in the order of the rows.", "", "```text"]
    for place, id in enumerate(ids):
        marks = "".join(MARKS[found[other, id].kind] for other in ids[:place])
        lines.append(f"{id:>{width}} {marks}")
    return [*lines, "```", ""]


def _refused(found: dict[tuple[str, str], Verdict]) -> list[str]:
    lines = ["## Refused", "", "| techniques | with | pairs | why |", "|---|---|---|---|"]
    refused = [pair for pair, one in found.items() if one.kind == "refused"]
    for (left, right), reason in REFUSALS.items():
        number = sum(reason_for(*pair) == reason for pair in refused)
        lines.append(f"| {', '.join(left)} | {', '.join(right)} | {number} | {reason} |")
    return [*lines, ""]


def _excepted(ids: list[str], found: dict[tuple[str, str], Verdict]) -> list[str]:
    composing = [pair for pair, one in found.items() if one.kind == "composes"]
    cut = sum(bool(exceptions("accumulates", pair)) for pair in composing)
    lines = ["## What isn't checked, and why", "", f"Micro-batches: {cut} of {len(composing)} pairs are excepted, those with"]
    lines += [f"`{id}` ({reasons['accumulates']})," for id, reasons in EXCEPTED.items() if "accumulates" in reasons]
    lines += ["", "Acting:", ""]
    for id, reasons in EXCEPTED.items():
        lines += [
            f"- `{id}`{check.removeprefix('acts')}: {reason}" for check, reason in reasons.items() if check.startswith("acts")
        ]
    idle = [id for id in ids if id not in NEUTRAL]
    return [
        *lines,
        "",
        f"Removable: {len(idle)} techniques have no value that does nothing: {', '.join(f'`{id}`' for id in idle)}.",
    ]


if __name__ == "__main__":
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
