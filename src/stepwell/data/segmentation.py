"""The data source "segmentation": images with a mask each, which says the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError, JobError
from stepwell.core.signature import Signature
from stepwell.data.arrays import ArrayReader, fit_reader, require_same_length, shaped_as
from stepwell.data.examples import Examples, MapExamples, TensorExamples
from stepwell.data.images import LARGEST_DECODED, SUFFIXES, ImageReader, opened_image, statistics
from stepwell.data.npz import array_in, open_npz
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import SplitSpec, split_indices
from stepwell.data.target_kinds import MaskTarget
from stepwell.data.targets import Target

__all__ = ["MaskedFiles", "MaskedImageReader", "Segmentation"]


@dataclass(frozen=True)
class MaskedImageReader:
    """How images that are to be masked become inputs: files of a folder, or arrays of an .npz file.

    Args:
        inner: how the images alone are read.
        images, masks: folders inside the given one, or keys of the archive.
    """

    inner: ImageReader | ArrayReader
    images: str
    masks: str

    kind = "masked_images"

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Examples of an .npz file; of a folder with one of images and one of masks; of images alone, without masks."""
        path = Path(data)
        if isinstance(self.inner, ArrayReader):
            return self.inner.read(path, target=target, with_targets=with_targets)
        inside = path / self.images
        folder = inside if inside.is_dir() else path
        masked = inside.is_dir() and (path / self.masks).is_dir() and with_targets != "ignored"
        if with_targets == "required" and not masked:
            raise DataError(
                f"{path.name} has no folder {self.masks!r}", expected="a mask for each image", fix=f"Put masks into {self.masks}"
            )
        files = files_in(folder)
        masks = partners(files, path / self.masks) if masked else None
        return masked_examples(files, masks, self.inner, target)

    def signature(self, num_outputs: int) -> Signature:
        return replace(self.inner.signature(num_outputs), kind="mask")

    def to_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.to_dict(), "reader": self.inner.kind, "images": self.images, "masks": self.masks}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> MaskedImageReader:
        kind = ImageReader if value["reader"] == ImageReader.kind else ArrayReader
        return MaskedImageReader(kind.from_dict(value["inner"]), value["images"], value["masks"])


class MaskedFiles:
    """A map-style dataset of image files with mask files, decoded at each use."""

    def __init__(self, files: Sequence[Path], masks: Sequence[Path] | None, reader: ImageReader, target: Target) -> None:
        self.files, self.masks, self.reader, self.target = list(files), masks, reader, target

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Any:
        image = self.reader.normalise(self.reader.decode(self.files[place]))
        if self.masks is None:
            return (image,)
        mask = decode_mask(self.masks[place], self.reader.height, self.reader.width)
        return image, self.target.encode(mask, part=self.masks[place].name)


@source("segmentation")
class Segmentation(DataSource):
    """Images with masks: a folder of images beside a folder of masks of the same names, or two arrays of an .npz file.

    Each different value of the training masks' pixels is a class, in ascending order. Images are standardised by the
    training part's mean and spread, one per channel. Masks are resized to the nearest pixel, never blended.

    Args:
        path: the folder that holds both folders, or the .npz file; relative to the job file.
        images: folder of the images; key of an array (N, H, W), (N, C, H, W) or (N, H, W, C).
        masks: folder of the masks, files without loss such as png; key of an array (N, H, W) of whole numbers.
        size: of files: height and width that both are resized to, in pixels, >= 1; [height, width] or one number.
            The first image's own where None.
        channels: of files: 3 for colour, 1 for grey.
    """

    path: str
    images: str = "images"
    masks: str = "masks"
    size: int | list[int] | None = None
    channels: int = 3

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("segmentation", task, "segmentation")
        split = split.filled(validation=0.2, test=0.2, by="random")
        refuse_split("segmentation", split, "random", "time")
        path = existing(self.path, base=base, what="folder of images and masks")
        return self._of_arrays(path, split, seed) if path.is_file() else self._of_files(path, split, seed)

    def _of_arrays(self, path: Path, split: SplitSpec, seed: int) -> LoadedData:
        import numpy as np

        arrays = open_npz(path)
        images, masks = array_in(arrays, self.images, path), array_in(arrays, self.masks, path)
        require_same_length(images, masks, (self.images, self.masks), where=path.name)
        shaped = shaped_as(images, "image")
        masks = masks[:, 0] if masks.ndim == 4 and masks.shape[1] == 1 else masks
        if masks.shape != (len(shaped), *shaped.shape[2:]) or masks.dtype.kind not in "biu":
            raise DataError(
                f"the masks are {masks.dtype} of shape {masks.shape} for images of shape {shaped.shape[1:]}",
                expected="one whole number per pixel, (N, H, W)",
                fix="Check how the file was made",
                where=path.name,
            )
        masks = masks.astype("int64")
        parts = split_indices(len(shaped), split, seed=seed)
        train = parts.train.numpy()
        keys = {"inputs": self.images, "targets": self.masks}
        inner = fit_reader(shaped[train], form="npz", layout="image", standardise=True, **keys)
        target = MaskTarget.fit(np.unique(masks[train]), where=path.name)

        def examples(index: Tensor, part: str) -> Examples | None:
            if not len(index):
                return None
            rows = index.numpy()
            return TensorExamples(inner.encode(shaped[rows], where=path.name), target.encode(masks[rows], part=part))

        made = [examples(index, part) for index, part in zip((parts.train, parts.validation, parts.test), _PARTS)]
        return self._loaded(made, MaskedImageReader(inner, self.images, self.masks), target, fingerprint_of([path]))

    def _of_files(self, path: Path, split: SplitSpec, seed: int) -> LoadedData:
        files = files_in(existing(self.images, base=path, what="folder of images"))
        masks = partners(files, existing(self.masks, base=path, what="folder of masks"))
        height, width = self._size(files[0])
        parts = split_indices(len(files), split, seed=seed)
        train = parts.train.tolist()
        inner = ImageReader(height, width, *statistics([files[k] for k in train], height, width, self.channels, seed))
        values: set[int] = set()
        for place in train:
            values |= set(_distinct(decode_mask(masks[place], height, width)))
        target = MaskTarget.fit(sorted(values), where=path.name)
        made = []
        for index in (parts.train, parts.validation, parts.test):
            chosen = index.tolist()
            some = [files[k] for k in chosen], [masks[k] for k in chosen]
            made.append(masked_examples(*some, inner, target) if chosen else None)
        content = fingerprint_of(piece for file in [*files, *masks] for piece in (file.name.encode(), file))
        return self._loaded(made, MaskedImageReader(inner, self.images, self.masks), target, content)

    def _size(self, first: Path) -> tuple[int, int]:
        if self.channels not in (1, 3):
            raise JobError(f"data.channels is {self.channels}", expected="1 or 3", fix="Write for example channels: 3")
        if self.size is None:
            shape = decode_mask(first, None, None).shape
            return int(shape[0]), int(shape[1])
        sizes = [self.size] * 2 if isinstance(self.size, int) else self.size
        if len(sizes) != 2 or min(sizes) < 1:
            raise JobError(f"data.size is {self.size}", expected="one or two sizes above 0", fix="Write for example size: 64")
        return sizes[0], sizes[1]

    def _loaded(
        self, parts: list[Examples | None], reader: MaskedImageReader, target: MaskTarget, fingerprint: str
    ) -> LoadedData:
        train, validation, test = parts
        assert train is not None
        preparation = Preparation(source="segmentation", reader=reader, target=target)
        return LoadedData(
            name="segmentation",
            train=train,
            validation=validation,
            test=test,
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint,
        )


_PARTS = ("the training part", "the validation part", "the test part")


def files_in(folder: Path) -> list[Path]:
    """The images in a folder, sorted by name; a file is taken as it is.

    Raises:
        DataError: there are none.
    """
    if folder.is_file():
        return [folder]
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"{folder} holds no images", expected="files ending in " + ", ".join(SUFFIXES), fix="Check the folder")
    return files


def partners(files: Sequence[Path], masks: Path) -> list[Path]:
    """The mask of each image: the file of the same name, whatever its ending.

    Raises:
        DataError: an image without a mask, or with two.
    """
    known: dict[str, list[Path]] = {}
    for file in files_in(masks):
        known.setdefault(file.stem, []).append(file)
    for file in files:
        found = known.get(file.stem, [])
        if len(found) != 1:
            raise DataError(
                f"image {file.name} has {len(found)} masks in {masks.name}",
                expected=f"one file called {file.stem} with any ending",
                fix="Add the mask or remove the image" if not found else f"Keep one of {', '.join(f.name for f in found)}",
                where=str(file),
            )
    return [known[file.stem][0] for file in files]


def decode_mask(path: Path, height: int | None, width: int | None) -> Any:
    """A mask file as whole numbers, (H, W) int64: grey values or palette numbers, resized to the nearest pixel.

    Raises:
        DataError: it can't be read, or its pixels are colours.
    """
    import numpy as np
    from PIL import Image

    with opened_image(path) as image:
        sized = image if height is None or width is None else image.resize((width, height), Image.Resampling.NEAREST)
        values = np.array(sized)
    if values.ndim == 3 and height is not None:
        if (values[..., 1:3] != values[..., :1]).any() or values.shape[2] not in (3, 4):
            raise DataError(
                f"mask {path.name} holds colours",
                expected="one number per pixel: a grey or palette image",
                fix="Save each class's colour as a number",
                where=str(path),
            )
        values = values[..., 0]
    return values.astype("int64")


def masked_examples(files: Sequence[Path], masks: Sequence[Path] | None, reader: ImageReader, target: Target) -> Examples:
    """In memory where they are few, else decoded at each use."""
    dataset = MaskedFiles(files, masks, reader, target)
    if len(files) * reader.height * reader.width * (4 * len(reader.mean) + 8) > LARGEST_DECODED:
        return MapExamples(dataset)
    items = [dataset[place] for place in range(len(files))]
    inputs = torch.stack([item[0] for item in items])
    return TensorExamples(inputs, None if masks is None else torch.stack([item[1] for item in items]))


def _distinct(values: Any) -> list[int]:
    import numpy as np

    return [int(value) for value in np.unique(values)]
