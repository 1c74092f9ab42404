"""Renew what the pages take from the code: python docs/generate.py

A page holds `<!-- from the code: NAME -->` and, further down, `<!-- end -->`; what stands between is written here.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stepwell.core.catalog import Field, Record, discover
from stepwell.core.slots import SLOTS

WHERE = {
    "model": "Under `techniques:`. Change the model once before the optimizer exists, in the order of their stages (head, "
    "structure, init, refine, adapter, freeze, sync, wrap); some follow the clock.",
    "batch": "Under `techniques:`. Turn the step's batch into another one.",
    "objective": "The base stands under `objective:`, modifiers under `techniques:` in the order in which they wrap.",
    "grad": "Under `techniques:`. Act on the gradients in list order, after the norm has been measured.",
    "optimizer": "The base stands under `optimizer:`, group rules under `techniques:`.",
    "schedule": "Under `schedule:`; a second one, for another value, and factors under `techniques:`.",
    "average": "Under `techniques:`. A second set of weights: what is evaluated and delivered once it has averaged anything.",
    "observer": "Under `techniques:`. Read reports, and may end the run.",
}


def ours() -> list[Record]:
    """Every technique of stepwell's own."""
    return [record for record in discover().values() if record.factory.__module__.startswith("stepwell.")]


def techniques_text() -> str:
    """A table of every technique, slot by slot, each with a link to its card."""
    parts = []
    for slot in SLOTS:
        parts += [f"## {slot}", "", WHERE[slot], "", row(["technique", "what it does"]), row(["---", "---"])]
        chosen = [record for record in ours() if record.slot == slot]
        parts += [row([f"[{record.id}](techniques/{slot}.md#{anchor(record)})", record.summary]) for record in chosen]
        parts.append("")
    return "\n".join(parts)


def cards_text(slot: str) -> str:
    """The cards of one slot."""
    return "\n".join([WHERE[slot], "", *(technique_card(record) for record in ours() if record.slot == slot)])


def heading(record: Record) -> str:
    return f"{record.id} ({record.role})" if record.role else record.id


def anchor(record: Record) -> str:
    """What a heading's link is called on the usual sites."""
    return re.sub(r"[^\w -]", "", heading(record)).replace(" ", "-")


def technique_card(record: Record) -> str:
    """One technique: what it does, its settings, cost, interactions and paper, and an example that runs."""
    text = inspect.getdoc(record.factory) or ""
    prose, arguments, paper = sections(text)
    lines = [f"## {heading(record)}", "", prose, "", *settings_table(record.fields, arguments)]
    for word, tags in (("Needs", record.needs), ("Provides", record.provides)):
        if tags:
            lines += [f"{word}: {', '.join(tags)}.", ""]
    lines += [f"Cost: {cost_of(record.id)}", "", *interactions_of(record), f"Paper: {paper or record.paper}", ""]
    example = text[text.index(">>>") :] if ">>>" in text else ""
    return "\n".join([*lines, *(["```pycon", example.rstrip(), "```", ""] if example else [])])


def interactions_of(record: Record) -> list[str]:
    """What it can't stand beside, and why."""
    lines = [f"Not together with {other}: {reason}." for other, reason in record.conflicts.items()]
    return [line for text in lines for line in (text, "")]


def cost_of(id: str) -> str:
    """What a step costs with it, from the measured table."""
    costs = json.loads((Path(__file__).parent / "costs.json").read_text(encoding="utf-8"))
    found = costs["techniques"].get(id)
    if found is None:
        return "not measured."
    if found < 1.1:
        return f"within a tenth of the step without it, for {costs['about']}."
    return f"about {found:.1f} times the step of {costs['about']} without it."


def models_text() -> str:
    """Every model that has a name."""
    from stepwell.models import registry

    parts = []
    for name in registry.names():
        prose, arguments, paper = sections(inspect.getdoc(registry._lookup(name).builder) or "")
        table = settings_table(registry.settings(name), arguments)
        lines = [f"### {name}", "", prose, "", f"Takes: {', '.join(registry.kinds(name))}.", "", *table]
        parts.append("\n".join([*lines, *([f"Paper: {paper}", ""] if paper else [])]))
    return "\n".join(parts)


def sources_text() -> str:
    """Every source of data that a job file can name."""
    from stepwell.data.catalog import SOURCES

    every = {"sampling": "how often an epoch draws each training example, see [below](#weights-and-sampling)."}
    return "\n".join(dataclass_card(f"### {name}", kind, every) for name, kind in sorted(SOURCES.items()))


def split_text() -> str:
    """The settings of a split."""
    from stepwell.data.split import SplitSpec

    return dataclass_card("", SplitSpec)


def job_text() -> str:
    """The keys of a job."""
    from stepwell.recipe.job import Job

    return dataclass_card("", Job)


def recipe_text() -> str:
    """The keys of a recipe."""
    from stepwell.recipe.job import Recipe

    return dataclass_card("", Recipe)


def stop_text() -> str:
    """The keys of stop."""
    from stepwell.recipe.job import StopRules

    return dataclass_card("", StopRules)


def keep_text() -> str:
    """The keys of keep."""
    from stepwell.recipe.job import KeepRules

    return dataclass_card("", KeepRules)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "techniques": techniques_text,
    **{f"cards_{slot}": partial(cards_text, slot) for slot in SLOTS},
    "models": models_text,
    "sources": sources_text,
    "split": split_text,
    "job": job_text,
    "keep": keep_text,
    "recipe": recipe_text,
    "stop": stop_text,
}


def renewed(text: str) -> str:
    """A page with everything between its marks written anew."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{BLOCKS[match[2]]().strip()}\n\n<!-- end -->"

    return re.sub(r"(<!-- from the code: (\w+) -->)\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def dataclass_card(heading: str, kind: type, shared: Mapping[str, str] = MappingProxyType({})) -> str:
    """A settings class: what it is and its fields; `shared` says what fields mean that no docstring of its own has."""
    from stepwell.recipe.values.schema import fields_of

    prose, arguments, _ = sections(inspect.getdoc(kind) or "")
    head = [heading, "", prose, ""] if heading else []
    return "\n".join([*head, *settings_table(fields_of(kind), {**shared, **arguments})])


def settings_table(fields: Mapping[str, Field], arguments: Mapping[str, str]) -> list[str]:
    """A table of settings, with a column of search ranges where there is one."""
    if not fields:
        return []
    searched = any(item.search is not None for item in fields.values())
    head = ["setting", "type", "default", *(["search range"] if searched else []), "meaning"]
    lines = [row(head), row(["---"] * len(head))]
    for item in fields.values():
        default = default_of(item)
        search = [""] if item.search is None else [f"`{', '.join(map(shown, item.search))}`"]
        cells = [item.name, f"`{type_name(item.type)}`", default, *(search if searched else []), arguments.get(item.name, "")]
        lines.append(row(cells))
    return [*lines, ""]


def row(cells: list[str]) -> str:
    flat = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(flat)} |"


def default_of(item: Field) -> str:
    if item.default is MISSING:
        return "required"
    plain = isinstance(item.default, (str, int, float, tuple, list, dict, type(None)))
    return f"`{shown(item.default)}`" if plain else ""


def sections(text: str) -> tuple[str, dict[str, str], str]:
    """A docstring as its prose, its arguments and its paper; examples, shapes and errors are left to the source."""
    blocks = re.split(r"\n\s*\n", text.split(">>>")[0].strip())
    prose, arguments, paper = [], {}, ""
    for block in blocks:
        if block.startswith("Args:"):
            entries = re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", block, flags=re.MULTILINE)
            for names, meaning in entries:
                arguments |= dict.fromkeys(names.split(", "), meaning)
        elif block.startswith("Paper"):
            paper = " ".join(block.split(":", 1)[1].split())
        elif not re.match(r"(Raises|Shapes?|Returns|Examples?):", block):
            prose.append(" ".join(block.split()))
    return "\n\n".join(prose), arguments, paper


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint).replace("typing.", "")


if __name__ == "__main__":
    for page in sorted(Path(__file__).parent.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"renewed {page}")
