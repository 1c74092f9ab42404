"""Everything fitted on the training part, stored with the model: how new files become inputs, and outputs answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor

from stepwell.core.errors import DataError
from stepwell.core.signature import Signature
from stepwell.data.examples import Examples
from stepwell.data.targets import TargetEncoder

__all__ = ["InputReader", "Preparation", "WithTargets"]

WithTargets = Literal["required", "optional", "ignored"]


class InputReader(Protocol):
    """How one kind of file is read into examples; all of it fitted on the training part, small and JSON-able."""

    kind: str

    def read(self, data: Any, *, target: TargetEncoder, with_targets: WithTargets) -> Examples: ...
    def signature(self, num_outputs: int) -> Signature: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How data was prepared for a model.

    Args:
        source: name of the data source.
        reader: how its files become inputs.
        target: what its targets mean.

    >>> from stepwell.data.embedded import Digits
    >>> from stepwell.data.split import SplitSpec
    >>> loaded = Digits().load(base=Path("."), split=SplitSpec(), task="classification", seed=0)
    >>> Preparation.from_dict(loaded.preparation.to_dict()) == loaded.preparation
    True
    """

    source: str
    reader: InputReader
    target: TargetEncoder

    @property
    def task(self) -> str:
        return self.target.task

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of their codes."""
        return self.target.classes

    @property
    def target_mean(self) -> float:
        """A regression model's output times `target_scale` plus this is in the target's own units."""
        return self.target.mean

    @property
    def target_scale(self) -> float:
        return self.target.scale

    def signature(self) -> Signature:
        """What a model for this data looks like from outside."""
        return self.reader.signature(self.target.num_outputs)

    def examples_from(self, data: Any, *, with_targets: WithTargets = "optional") -> Examples:
        """Examples of new data of the same kind.

        Args:
            data: a path, or a frame where the source reads tables.
            with_targets: "required" refuses data without targets; "optional" takes them where they are;
                "ignored" doesn't look at them: they may be gaps, or classes that training didn't have.

        Raises:
            DataError: the file is missing or can't be read, or lacks a column the model was trained with. Values of
                a category that training didn't have are coded as unknown; other columns and their order don't matter.
        """
        if isinstance(data, (str, Path)):
            data = Path(data).expanduser()
            if not data.exists():
                raise DataError(f"{data} does not exist", expected="a file or folder", fix="Check the path")
        return self.reader.read(data, target=self.target, with_targets=with_targets)

    def decode(self, outputs: Tensor) -> dict[str, Any]:
        """A model's outputs as columns of answers, see `TargetEncoder.decode`."""
        return self.target.decode(outputs)

    def to_dict(self) -> dict[str, Any]:
        target = asdict(self.target) | {"names": list(self.target.names)}
        return {"source": self.source, "kind": self.reader.kind, "inputs": self.reader.to_dict(), "target": target}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Preparation:
        target = TargetEncoder(**(value["target"] | {"names": tuple(value["target"]["names"])}))
        return Preparation(source=value["source"], reader=_reader(value["kind"], value["inputs"]), target=target)


def _reader(kind: str, value: dict[str, Any]) -> InputReader:
    # Imported here: the sources import this module.
    from stepwell.data.arrays import ArrayReader
    from stepwell.data.images import ImageReader
    from stepwell.data.series import SeriesReader
    from stepwell.data.table_source import TableReader
    from stepwell.data.text import TextReader

    readers: tuple[Any, ...] = (ArrayReader, ImageReader, SeriesReader, TableReader, TextReader)
    for reader in readers:
        if reader.kind == kind:
            return reader.from_dict(value)  # type: ignore[no-any-return]
    raise DataError(
        f"this model was prepared by an unknown reader {kind!r}",
        expected="one of " + ", ".join(reader.kind for reader in readers),
        fix="Use the version of stepwell that trained it",
    )
