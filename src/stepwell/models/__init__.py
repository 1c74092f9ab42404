"""Small ready models, each built from the data's signature. `names()`, `settings(name)` and `build(name, ...)` find them."""

from stepwell.models.registry import build, import_file, kinds, model, names, settings

__all__ = ["build", "import_file", "kinds", "model", "names", "settings"]
