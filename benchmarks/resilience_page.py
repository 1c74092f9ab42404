"""The measured part of docs/resilience.md: what stands there by hand is left as it is."""

from __future__ import annotations

import ast
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.resilience_judge import Row, details, table

START, END = "<!-- measured: written by python -m benchmarks.resilience -->", "<!-- end of what is measured -->"
SCRIPTS = ("stepwell_fit", "hf_trainer", "lightning_trainer", "accelerate_loop", "skorch_net", "keras_fit")


def write_page(page: Path, rows: Sequence[Row], *, num_steps: int, minutes: float) -> None:
    """Replace the page's measured part; where the page has none, it is added at the end."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Resilience\n\n"
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    page.write_text(
        f"{before}{START}\n\n{measured_part(rows, num_steps=num_steps, minutes=minutes)}\n\n{END}{after or chr(10)}",
        encoding="utf-8",
    )


def measured_part(rows: Sequence[Row], *, num_steps: int, minutes: float) -> str:
    """Table, versions, details and the scripts."""
    versions = {name: version for row in rows for name, version in row.versions.items()}
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    day = datetime.now(UTC).date().isoformat()
    parts = [
        f"`python -m benchmarks.resilience`, {day}, {minutes:.0f} minutes; {listed}; {machine}.",
        table(rows, num_steps),
        "## Errors and where they came",
        details(rows),
        "## The scripts",
        "Of each script the function that trains; `benchmarks/resilience_peers/` has the rest.",
        *(f"### {name}.py\n\n```py\n{train_function(name)}\n```" for name in SCRIPTS),
    ]
    return "\n\n".join(parts)


def train_function(name: str) -> str:
    """The source of a script's `train`."""
    path = Path(__file__).with_name("resilience_peers") / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "train"]
    return ast.get_source_segment(source, functions[0]) or ""
