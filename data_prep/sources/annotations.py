"""The release's annotation files: COCO-like JSON with images, annotations and categories."""

import reprlib
from typing import Any, NamedTuple

from data_prep.plan import DataError, Reference
from data_prep.sources.stores import check_relative
from tfmdl import outside


class Categories(NamedTuple):
    """The classes of a domain: names and ids, both in the order of the ids."""

    label_names: list[str]
    category_ids: list[int]

    def difference(self, others: "Categories") -> str:
        """Returns a text about the first category that differs in `others`: the one here, then the one there."""
        here, there = (dict(zip(c.category_ids, c.label_names, strict=True)) for c in (self, others))
        category_id = min(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        names = [repr(c[category_id]) if category_id in c else "not there" for c in (here, there)]
        return f"category_id {category_id} is {names[0]} here, and {names[1]}"


def parse_json(file_name: str, text: bytes) -> dict[str, Any]:
    """Returns the contents of an annotation file.

    Raises:
        DataError: if it is not JSON, or not an object with a list "images", a list "categories" and, if any, a list
            "annotations".
    """
    try:
        contents = outside.parse_json(text, file_name)
    except ValueError as error:
        raise DataError(str(error)) from error
    for key in ("images", "categories", "annotations"):
        value = contents.get(key) if isinstance(contents, dict) else None
        if not isinstance(value, list) and not (key == "annotations" and value is None):
            raise DataError(
                f"{file_name}: expected an object with a list {key!r}; received {reprlib.repr(value or contents)}"
            )
    return contents


def read_categories(file_name: str, contents: dict[str, Any]) -> Categories:
    """Returns the classes, sorted by category_id: the order of the names is not numeric.

    Raises:
        DataError: if there is none, one lacks its id or name, or an id occurs twice.
    """
    found: dict[int, str] = {}
    for category in contents["categories"]:
        category_id = _field(file_name, "categories", category, "id", int)
        if category_id in found:
            raise DataError(f"{file_name}: category_id {category_id} occurs twice among the categories")
        found[category_id] = _field(file_name, "categories", category, "name", str)
    if not found:
        raise DataError(f"{file_name}: lists no categories")
    return Categories([found[key] for key in sorted(found)], sorted(found))


def read_references(
    file_name: str, contents: dict[str, Any], domain: str, categories: Categories, labelled: bool
) -> list[Reference]:
    """Returns the images of one file in its order, named relative to `data/`.

    Args:
        file_name: What to call the file in messages.
        contents: What `parse_json` returned.
        domain: Each file_name must lie in `data/<domain>/`.
        categories: The classes of the domain.
        labelled: Whether each image must have a label. Otherwise a file without annotations gives None for
            all.

    Raises:
        DataError: if a field is missing or of another type, an image_id occurs twice, a file_name leaves
            `data/<domain>/`, an annotation names an unknown image or category, or an image has two.
    """
    labels = _labels(file_name, contents, categories)
    references, seen = [], set()
    for image in contents["images"]:
        image_id = _field(file_name, "images", image, "id", int)
        if image_id in seen:
            raise DataError(f"{file_name}: image_id {image_id} occurs twice among the images")
        seen.add(image_id)
        named = _field(file_name, "images", image, "file_name", str)
        parts = check_relative(named, f"{file_name}: file_name of image {image_id}")
        if parts[:2] != ("data", domain) or len(parts) < 3:
            raise DataError(f"{file_name}: file_name of image {image_id} is {named!r}; expected it in data/{domain}/")
        if image_id not in labels and (labelled or labels):
            raise DataError(f"{file_name}: image {image_id} ({named}) has no annotation")
        references.append(Reference(image_id, labels.get(image_id), "/".join(parts[1:])))
    for image_id in labels:
        if image_id not in seen:
            raise DataError(f"{file_name}: an annotation is of image_id {image_id}, which is not among the images")
    return references


def _labels(file_name: str, contents: dict[str, Any], categories: Categories) -> dict[int, int]:
    label_of = {category_id: label for label, category_id in enumerate(categories.category_ids)}
    labels: dict[int, int] = {}
    for annotation in contents.get("annotations") or ():
        image_id = _field(file_name, "annotations", annotation, "image_id", int)
        category_id = _field(file_name, "annotations", annotation, "category_id", int)
        if category_id not in label_of:
            ids = categories.category_ids
            raise DataError(
                f"{file_name}: image {image_id} has category_id {category_id}, which is outside the "
                f"{len(ids)} categories ({ids[0]} to {ids[-1]})"
            )
        if image_id in labels:
            raise DataError(f"{file_name}: image_id {image_id} has two annotations; expected one")
        labels[image_id] = label_of[category_id]
    return labels


def _field(file_name: str, where: str, entry: Any, key: str, kind: type) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not kind:
        expected = kind.__name__
    elif kind is int and not outside.is_int64(value):
        expected = "an integer of 64 bits"
    elif kind is str and not outside.is_utf8(value):
        expected = "a text in UTF-8"
    else:
        return value
    told, of = reprlib.repr(value), reprlib.repr(entry)
    raise DataError(f"{file_name}: an entry of {where!r} has {key} {told}; expected {expected}: {of}")
