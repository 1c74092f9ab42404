"""The resolved text of every shipped recipe, setting by setting: what a version changes in it shows here.

`python tests/golden/test_presets_golden.py` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell import presets
from stepwell.recipe.job import Recipe
from stepwell.recipe.values.yaml_writer import dump

FOLDER = Path(__file__).parent / "presets"


def resolved(name: str) -> str:
    return dump({"recipe": Recipe(preset=name).to_mapping()})


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_resolves_to_its_golden_text(name: str) -> None:
    assert resolved(name) == (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def test_every_golden_text_belongs_to_a_preset() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == presets.names()


if __name__ == "__main__":
    for name in presets.names():
        (FOLDER / f"{name}.yaml").write_text(resolved(name), encoding="utf-8")
