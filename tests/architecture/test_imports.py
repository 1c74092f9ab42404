"""What importing costs: nothing heavy at import, and no torch for help."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "pandas",
    "sklearn",
    "matplotlib",
    "pydantic",
    "torchmetrics",
    "yaml",
    "pyarrow",
    "scipy",
    "rich",
    "typer",
    "safetensors",
)


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after running some code."""
    listing = "\nimport sys; print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}))"
    shown = subprocess.run([sys.executable, "-c", code + listing], capture_output=True, text=True, check=True)
    return set(shown.stdout.rsplit("MODULES", 1)[1].split())


def test_importing_stepwell_imports_nothing_but_the_standard_library() -> None:
    loaded = loaded_after("import stepwell; stepwell.__version__; dir(stepwell)")
    assert "stepwell" in loaded
    assert not loaded & {"torch", "numpy", *HEAVY}


def test_the_step_and_the_techniques_import_nothing_heavy_beyond_torch() -> None:
    loaded = loaded_after("import stepwell; stepwell.TrainStep; stepwell.techniques.Mixup; stepwell.Batch")
    assert "torch" in loaded
    assert not loaded & set(HEAVY)


def test_help_does_not_import_torch() -> None:
    code = """
import sys
from stepwell.cli.main import main
sys.argv = ["stepwell", "--help"]
try:
    main()
except SystemExit:
    pass
"""
    loaded = loaded_after(code)
    assert "stepwell" in loaded
    assert not loaded & {"torch", "pandas", "sklearn", "matplotlib", "pydantic", "torchmetrics"}
