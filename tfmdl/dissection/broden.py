"""Images with labelled pixels in the layout of Broden (Bau et al., CVPR 2017), read and written.

    index.csv       one row per image: image, split, ih, iw, sh, sw, and a column for each category
    category.csv    name, ...: the categories
    label.csv       number, name, ...: what the numbers of all categories stand for
    c_<category>.csv    code, number, name, ...: the labels of one category
    images/         what `image` and the masks in the columns of categories name

A column of a category holds labels separated by ";", or nothing where the image was not labelled for it. A label is a
number, which then holds for the whole image, or the name of a mask: a PNG of `sh` x `sw` pixels whose number is
R + 256 * G, 0 where nothing is labelled. Both stand for the `number` of label.csv.
"""

import csv
import dataclasses
import io
import os
import pathlib
import re

import numpy as np
from PIL import Image

from tfmdl.files import write_text

INDEX_FILE = "index.csv"
IMAGES_DIR = "images"
_OF_IMAGES = ("image", "split", "ih", "iw", "sh", "sw")
_MAX_SIDE = 8192
_MAX_NUMBER = 2**16 - 1


@dataclasses.dataclass(frozen=True)
class Concept:
    """Something that pixels are labelled with.

    Attributes:
        category: Such as "color", "texture", "object" or "part".
        number: In masks.
        name: For people.
    """

    category: str
    number: int
    name: str


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """One row of the index.

    Attributes:
        file: Of the image, relative to images/.
        split: Of the data it is from.
        mask_size: Height and width of its masks.
        labels: By category, numbers for the whole image and names of masks. Categories that it is not labelled for are
            missing.
    """

    file: str
    split: str
    mask_size: tuple[int, int]
    labels: dict[str, tuple[int | str, ...]]


class ConceptSet:
    """A folder in this layout.

    Args:
        directory: The folder.

    Attributes:
        categories: Their names, in the order of category.csv.
        concepts: Of all categories. Their places in this list are their ids here.
        images: Those that are labelled for at least one category.

    Raises:
        FileNotFoundError: if one of the tables is not there.
        ValueError: if a table lacks a column, or has a value that cannot be; the message names file, row and column.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = pathlib.Path(directory)
        self.categories = tuple(row["name"] for row in self._rows("category.csv", ("name",)))
        self._check_unique("category.csv", self.categories)
        names = {
            self._number(row["number"], "label.csv", row): row["name"]
            for row in self._rows("label.csv", ("number", "name"))
        }
        concepts = []
        for category in self.categories:
            file = f"c_{category}.csv"
            for row in self._rows(file, ("number",)):
                number = self._number(row["number"], file, row)
                if number not in names:
                    raise ValueError(f"{self.directory / file}: number {number} is not in label.csv")
                if number:  # 0 stands for no label
                    concepts.append(Concept(category, number, names[number]))
        self.concepts = tuple(concepts)
        self._id_of = {(concept.category, concept.number): id for id, concept in enumerate(concepts)}
        rows = self._rows(INDEX_FILE, (*_OF_IMAGES, *self.categories))
        self.images = tuple(image for image in map(self._image, rows) if image.labels)
        if not self.images:
            raise ValueError(f"{self.directory / INDEX_FILE}: has no image that is labelled")

    def pixels(self, image: LabelledImage) -> np.ndarray:
        """Returns the pixels of an image, uint8 (height, width, 3).

        Raises:
            FileNotFoundError, ValueError: if it is not there, or no image; the message names file and index.
        """
        return self._decoded(image.file, image)

    def ids_of(self, category: str) -> list[int]:
        """Returns the ids of the concepts of a category."""
        return [id for id, concept in enumerate(self.concepts) if concept.category == category]

    def masks(self, image: LabelledImage) -> dict[int, np.ndarray]:
        """Returns where each concept is in an image that has it: bool (sh, sw), by the concept's id.

        Raises:
            FileNotFoundError: if a mask is not there.
            ValueError: if a mask has another size, or a number that is not one of its category.
        """
        found: dict[int, np.ndarray] = {}
        for category, labels in image.labels.items():
            for label in labels:
                if isinstance(label, int):
                    parts = {label: np.ones(image.mask_size, bool)} if label else {}
                else:
                    parts = self._parts(label, image)
                for number, mask in parts.items():
                    if (category, number) not in self._id_of:
                        where = self.directory / IMAGES_DIR / label if isinstance(label, str) else image.file
                        raise ValueError(f"{where}: has number {number}, which c_{category}.csv does not list")
                    id = self._id_of[category, number]
                    found[id] = found[id] | mask if id in found else mask
        return found

    def _parts(self, file, image):
        codes = self._decoded(file, image).astype("int32")
        codes = codes[..., 0] + 256 * codes[..., 1]
        if codes.shape != image.mask_size:
            raise ValueError(
                f"{self.directory / IMAGES_DIR / file}: has {codes.shape[0]} x {codes.shape[1]} pixels; expected "
                f"{image.mask_size[0]} x {image.mask_size[1]}, as {INDEX_FILE} says of {image.file}"
            )
        return {int(number): codes == number for number in np.unique(codes) if number}

    def _decoded(self, file, image):
        path = self.directory / IMAGES_DIR / file
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there, but in {INDEX_FILE} with image {image.file}")
        try:
            with Image.open(path) as opened:
                if max(opened.size) > _MAX_SIDE:
                    raise ValueError(f"is larger than {_MAX_SIDE} pixels")
                return np.asarray(opened.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: cannot be read as an image ({error})") from error

    def _image(self, row):
        numbers = {name: self._number(row[name], INDEX_FILE, row, name) for name in _OF_IMAGES[2:]}
        if not min(numbers.values()):
            raise ValueError(f"{self.directory / INDEX_FILE}: image {row['image']} has a size of 0")
        labels = {}
        for category in self.categories:
            parts = [part for part in row[category].split(";") if part]
            if parts:
                labels[category] = tuple(
                    self._number(part, INDEX_FILE, row, category) if part.isdecimal() else self._inside(part)
                    for part in parts
                )
        return LabelledImage(self._inside(row["image"]), row["split"], (numbers["sh"], numbers["sw"]), labels)

    def _inside(self, file):
        if not file or os.path.isabs(file) or ".." in pathlib.PurePath(file).parts:
            raise ValueError(f"{self.directory / INDEX_FILE}: {file!r} names no file in {IMAGES_DIR}/")
        return file

    def _rows(self, name, columns):
        path = self.directory / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there; a folder of concepts has it")
        try:
            with open(path, encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                for column in columns:
                    if column not in (reader.fieldnames or ()):
                        raise ValueError(f"has no column {column!r}")
                rows = list(reader)
                if any(None in row or None in row.values() for row in rows):
                    raise ValueError("has a row with more or fewer fields than its first line")
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        return rows

    def _number(self, text, file, row, column="number"):
        if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _MAX_NUMBER:
            first = next(iter(row.values()))
            raise ValueError(
                f"{self.directory / file}: column {column!r} must be a number up to {_MAX_NUMBER}; received {text!r} "
                f"in the row of {first!r}"
            )
        return int(text)

    def _check_unique(self, file, names):
        for name in names:
            if names.count(name) > 1 or not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"{self.directory / file}: categories are words, each once; received {name!r}")


@dataclasses.dataclass
class _Known:
    """A label that the writer gave a number: images and area of it so far, by category."""

    number: int
    name: str
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    area: dict[str, float] = dataclasses.field(default_factory=dict)


class ConceptWriter:
    """Writes a folder in this layout. The index comes last: a folder that has one is whole.

    Args:
        directory: The folder; made if it is not there.
        categories: Their names, in the order in which they are written.
    """

    def __init__(self, directory: str | os.PathLike, categories: tuple[str, ...]):
        self.directory = pathlib.Path(directory)
        self.categories = tuple(categories)
        self._known: dict[str, _Known] = {}
        self._rows = []

    def add(self, name: str, split: str, pixels: np.ndarray, labels: dict[str, dict[str, np.ndarray | None]]) -> None:
        """Writes one image and its masks.

        Args:
            name: Of the image, without an ending; may begin with a folder.
            split: As in the index.
            pixels: uint8 (height, width, 3).
            labels: By category, by name of the label: where it is, bool (height, width), or None for the whole image.
                Labels of one category that overlap come into masks of their own.
        """
        path = self.directory / IMAGES_DIR / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        height, width = pixels.shape[:2]
        row = dict(zip(_OF_IMAGES, (f"{name}.png", split, height, width, height, width), strict=True))
        for category in self.categories:
            row[category] = ";".join(self._labels(name, category, labels.get(category, {}), (height, width)))
        self._rows.append(row)

    def close(self) -> None:
        """Writes the tables.

        Raises:
            OSError: if they cannot be written.
        """
        labels = sorted(self._known.values(), key=lambda known: known.number)
        self._write("label.csv", [_summary(known) for known in labels])
        counts = []
        for category in self.categories:
            own = [known for known in labels if category in known.images]
            rows = [
                {
                    "code": code,
                    "number": known.number,
                    "name": known.name,
                    "frequency": known.images[category],
                    "coverage": round(known.area[category], 4),
                }
                for code, known in enumerate(own, start=1)
            ]
            self._write(f"c_{category}.csv", rows, ("code", "number", "name", "frequency", "coverage"))
            labelled = sum(bool(row[category]) for row in self._rows)
            numbers = [known.number for known in own] or [0]
            counts.append(
                {
                    "name": category,
                    "first": min(numbers),
                    "last": max(numbers),
                    "count": len(own),
                    "frequency": labelled,
                }
            )
        self._write("category.csv", counts)
        self._write(INDEX_FILE, self._rows, (*_OF_IMAGES, *self.categories))

    def _labels(self, name, category, labels, size):
        texts, planes = [], []
        for label, mask in labels.items():
            known = self._known.setdefault(label, _Known(len(self._known) + 1, label))
            known.images[category] = known.images.get(category, 0) + 1
            known.area[category] = known.area.get(category, 0.0) + (1.0 if mask is None else float(mask.mean()))
            if mask is None:
                texts.append(str(known.number))
                continue
            plane = next((plane for plane in planes if not plane[mask].any()), None)
            if plane is None:
                plane = np.zeros(size, "uint16")
                planes.append(plane)
            plane[mask] = known.number
        for number, plane in enumerate(planes):
            texts.append(f"{name}_{category}{number or ''}.png")
            codes = np.stack([plane % 256, plane // 256, np.zeros_like(plane)], axis=-1).astype("uint8")
            Image.fromarray(codes).save(self.directory / IMAGES_DIR / texts[-1])
        return texts

    def _write(self, name, rows, columns=None):
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.directory / name, text.getvalue())


def _summary(known):
    categories = sorted(known.images.items(), key=lambda item: -item[1])
    return {
        "number": known.number,
        "name": known.name,
        "category": ";".join(f"{category}({images})" for category, images in categories),
        "frequency": sum(known.images.values()),
        "coverage": round(sum(known.area.values()), 4),
        "syns": "",
    }
