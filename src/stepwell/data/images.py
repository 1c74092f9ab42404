"""The data source "images": a folder with one folder of images per class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stepwell.core.errors import DataError, JobError, StepwellError
from stepwell.core.randomness import derive
from stepwell.core.signature import Signature
from stepwell.data.examples import Examples, MapExamples, TensorExamples
from stepwell.data.limits import MOST_PIXELS
from stepwell.data.preparation import Preparation, WithTargets
from stepwell.data.registry import DataSource, LoadedData, existing, fingerprint_of, refuse_split, refuse_task, source
from stepwell.data.split import Parts, SplitSpec, split_indices
from stepwell.data.targets import Target, TargetEncoder

__all__ = ["ImageFiles", "ImageReader", "Images"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
# The decoders for these endings and no others: those of PostScript and its like start programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Decoded once and kept where all of it stays below this size; decoded at every use, by workers, above it.
LARGEST_DECODED = 256 << 20
# Images that the mean and the spread of the pixels are taken from: more change the third digit.
_SAMPLE = 2000


@dataclass(frozen=True)
class ImageReader:
    """How image files become inputs, (channels, height, width) float32: resized, scaled to [0, 1], standardised.

    Args:
        height, width: in pixels.
        mean, scale: of the training part, one per channel (1 for grey, 3 for colour).
    """

    height: int
    width: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    kind = "images"

    def decode(self, path: Path) -> Tensor:
        """One image as bytes, (channels, height, width) uint8.

        Raises:
            DataError: the file isn't an image that can be read.
        """
        return decode(path, self.height, self.width, len(self.mean))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bytes (..., channels, height, width) as inputs, float32."""
        mean, scale = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.scale))
        return (pixels.float() / 255 - mean) / scale

    def read(self, data: Any, *, target: Target, with_targets: WithTargets) -> Examples:
        """Examples of one image, a folder of images, or a folder of class folders (with targets)."""
        folder = Path(data)
        if folder.is_file():
            files, names = [folder], None
        else:
            classes = class_folders(folder)
            files, names = list_images(folder) if classes else (_images_in(folder), None)
        if with_targets == "required" and names is None:
            raise DataError(f"{folder} has no class folders", expected="one folder per class", fix="Sort the images into folders")
        if not files:
            raise _no_images(folder)
        targets = None if names is None or with_targets == "ignored" else target.encode(_array(names), part=str(folder.name))
        return examples_of_files(files, targets, self)

    def signature(self, num_outputs: int) -> Signature:
        return Signature("image", (len(self.mean), self.height, self.width), num_outputs)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"mean": list(self.mean), "scale": list(self.scale)}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> ImageReader:
        return ImageReader(**(value | {"mean": tuple(value["mean"]), "scale": tuple(value["scale"])}))


class ImageFiles:
    """A map-style dataset of image files, decoded at each use.

    Args:
        files: their paths.
        targets: (N, ...), or None.
        reader: how they are decoded.
    """

    def __init__(self, files: Sequence[Path], targets: Tensor | None, reader: ImageReader) -> None:
        self.files, self.targets, self.reader = list(files), targets, reader

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Any:
        image = self.reader.normalise(self.reader.decode(self.files[place]))
        return (image,) if self.targets is None else (image, self.targets[place])


@source("images")
class Images(DataSource):
    """A folder with one folder of images per class; the folders' names are the classes.

    Small sets are decoded once into memory, larger ones at each use by worker processes; both give the same inputs.

    Args:
        path: the folder, relative to the job file.
        size: height and width that images are resized to, in pixels, >= 1; [height, width] or one number.
        channels: 3 for colour, 1 for grey.
    """

    path: str
    size: int | list[int] = 64
    channels: int = 3

    def load(self, *, base: Path, split: SplitSpec, task: str, seed: int) -> LoadedData:
        """Read, split and prepare; see `DataSource.load`."""
        refuse_task("images", task, "classification", "binary")
        split = split.filled(validation=0.2, test=0.2, by="stratified")
        refuse_split("images", split, "stratified", "random", "file")
        height, width = [self.size] * 2 if isinstance(self.size, int) else self.size
        if min(height, width) < 1 or self.channels not in (1, 3):
            raise JobError(
                f"data.size is {self.size} with data.channels {self.channels}",
                expected="sizes above 0 and 1 or 3 channels",
                fix="Write for example size: 64 and channels: 3",
            )
        files, names, parts = self._files(base, split, seed)
        train = [files[place] for place in parts.train.tolist()]
        labels = _array(names)
        target = TargetEncoder.fit(labels[parts.train.numpy()], task=task, names=("class",))
        reader = ImageReader(height, width, *statistics(train, height, width, self.channels, seed))
        preparation = Preparation(source="images", reader=reader, target=target)

        def examples(index: Tensor, part: str) -> Examples | None:
            if not len(index):
                return None
            targets = target.encode(labels[index.numpy()], part=part)
            return examples_of_files([files[place] for place in index.tolist()], targets, reader)

        trained = examples(parts.train, "the training part")
        assert trained is not None
        return LoadedData(
            name="images",
            train=trained,
            validation=examples(parts.validation, "the validation part"),
            test=examples(parts.test, "the test part"),
            signature=preparation.signature(),
            preparation=preparation,
            fingerprint=fingerprint_of(piece for file in files for piece in (file.name.encode(), file)),
        )

    def _files(self, base: Path, split: SplitSpec, seed: int) -> tuple[list[Path], list[str], Parts]:
        folders = [existing(self.path, base=base, what="folder of images")]
        paths = [(1, split.validation_path), (2, split.test_path)] if split.by == "file" else []
        which = [0]
        for part, path in paths:
            if path is not None:
                folders.append(existing(path, base=base, what="folder of images"))
                which.append(part)
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise DataError(
                "one folder is named for two parts of the split", expected="a folder for each part", fix="Name another"
            )
        files, names, owner = [], [], []
        for part, folder in zip(which, folders):
            found, classes = list_images(folder)
            files += found
            names += classes
            owner += [part] * len(found)
        if split.by == "file":
            where = torch.tensor(owner)
            inner = split_indices(owner.count(0), split.within_train(), seed=seed)
            where[inner.validation], where[inner.test] = 1, 2
            return files, names, Parts(*(torch.nonzero(where == part).flatten() for part in range(3)))
        return files, names, split_indices(len(files), split, targets=names, seed=seed)


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name; hidden ones are left out."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Every image in the class folders, in sorted order, and the name of its class.

    Raises:
        DataError: no class folders, or one without images.
    """
    classes = class_folders(folder) if folder.is_dir() else []
    if not classes:
        raise DataError(
            f"{folder} has no class folders", expected="one folder of images per class", fix="Sort the images into folders"
        )
    files: list[Path] = []
    names: list[str] = []
    for each in classes:
        found = _images_in(each)
        if not found:
            raise _no_images(each)
        files += found
        names += [each.name] * len(found)
    return files, names


def decode(path: Path, height: int, width: int, channels: int) -> Tensor:
    """An image file as bytes, (channels, height, width) uint8, resized bilinearly where its size differs."""
    import numpy as np
    from PIL import Image

    with opened_image(path) as file:
        image = file.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.view(height, width, channels).permute(2, 0, 1).contiguous()


@contextmanager
def opened_image(path: Path) -> Iterator[Any]:
    """An image file of a known format, decoded within the block.

    Raises:
        DataError: it can't be read, or has more than 64 million pixels.
    """
    # Loaded by name: looking for a decoder, the library would import whatever its others need.
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    try:
        # Its own limit warns first, and raises at twice as many.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels, at most {MOST_PIXELS:,} are read")
            image.load()
            yield image
    except (StepwellError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged or hostile file makes of the decoder
        raise DataError(
            f"{path.name} can't be read as an image ({(str(error).splitlines() or [type(error).__name__])[0][:200]})",
            expected="a whole image file",
            fix="Remove or replace it",
            where=str(path),
        ) from error


def statistics(
    files: list[Path], height: int, width: int, channels: int, seed: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of the pixels in [0, 1], one per channel, over the files or a seeded sample of them."""
    if len(files) > _SAMPLE:
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(derive(seed, "pixel statistics")))
        files = [files[place] for place in order[:_SAMPLE].tolist()]
    total = torch.zeros(2, channels, dtype=torch.float64)
    for file in files:
        pixels = decode(file, height, width, channels).double() / 255
        total += torch.stack([pixels.mean(dim=(1, 2)), pixels.square().mean(dim=(1, 2))])
    mean, square = (total / len(files)).unbind()
    scale = (square - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(value if value > 1e-6 else 1.0 for value in scale.tolist())


def examples_of_files(files: list[Path], targets: Tensor | None, reader: ImageReader) -> Examples:
    """In memory where they are few, else decoded at each use."""
    if len(files) * reader.height * reader.width * len(reader.mean) * 4 > LARGEST_DECODED:
        return MapExamples(ImageFiles(files, targets, reader))
    return TensorExamples(torch.stack([reader.normalise(reader.decode(file)) for file in files]), targets)


def _images_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _no_images(folder: Path) -> DataError:
    return DataError(
        f"{folder} holds no images", expected="files ending in " + ", ".join(SUFFIXES), fix="Add images, or remove the folder"
    )


def _array(names: list[str]) -> Any:
    import numpy as np

    return np.array(names)
