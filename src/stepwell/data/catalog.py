"""The data sources a job can name. Importing this module registers all of stepwell's own."""

from __future__ import annotations

from stepwell.core.errors import JobError, nearest
from stepwell.data import documents, drawn, embedded, idx, images, npy, npz, pairs, segmentation, series, table_source, text
from stepwell.data.registry import SOURCES, DataSource, LoadedData, source
from stepwell.data.split import SplitSpec

__all__ = ["SOURCES", "DataSource", "LoadedData", "SplitSpec", "source", "source_named"]

_MODULES = (documents, drawn, embedded, idx, images, npy, npz, pairs, segmentation, series, table_source, text)


def source_named(name: str) -> type[DataSource]:
    """The class of a data source.

    Raises:
        JobError: there is none of that name.

    >>> source_named("digits").__name__
    'Digits'
    """
    if name not in SOURCES:
        raise JobError(f"unknown data source {name!r}", expected="the name of a data source", fix=nearest(name, SOURCES))
    return SOURCES[name]
