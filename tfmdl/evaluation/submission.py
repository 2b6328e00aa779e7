"""Labels and predictions in the Visual Decathlon's own formats, joined by image id."""

import io
import json
import os
import pathlib
import zipfile

import numpy as np

from tfmdl.files import read_json, write_bytes, write_json
from tfmdl.outside import is_int64


def read_labels(labels_dir: str | os.PathLike, domain: str, category_ids: list[int]) -> dict[int, int]:
    """Reads `<labels_dir>/<domain>_test.json`, COCO-like, and returns the class index by image id.

    Args:
        labels_dir: Folder of the label files.
        domain: Name of the domain.
        category_ids: Category id of each class, in the order of the labels.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not COCO-like, has an image twice or a category that the domain does not have.
    """
    path = pathlib.Path(labels_dir, f"{domain}_test.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no labels of domain {domain!r} here")
    index_of = {category: index for index, category in enumerate(category_ids)}
    try:
        pairs = [(entry["image_id"], entry["category_id"]) for entry in read_json(path)["annotations"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not COCO-like annotations ({error!r})") from error
    label_of = {}
    for image_id, category in pairs:
        if not (is_int64(image_id) and is_int64(category)):
            raise ValueError(f"{path}: ids must be integers; received image_id {image_id!r}, category_id {category!r}")
        if category not in index_of:
            raise ValueError(f"{path}: image {image_id} has category {category}, which domain {domain!r} does not have")
        if image_id in label_of:
            raise ValueError(f"{path}: image {image_id} is there twice")
        label_of[image_id] = index_of[category]
    return label_of


def join_labels(image_ids: np.ndarray, label_of: dict[int, int], domain: str) -> np.ndarray:
    """Returns the labels of `image_ids`, int32.

    Raises:
        ValueError: if an image has none.
    """
    missing = [image_id for image_id in image_ids.tolist() if image_id not in label_of]
    if missing:
        raise ValueError(f"domain {domain!r}: no label for image {missing[0]} (and {len(missing) - 1} more of a batch)")
    return np.array([label_of[image_id] for image_id in image_ids.tolist()], "int32")


def write_submission(path: str | os.PathLike, entries: list[dict]) -> None:
    """Writes the flat list of {"image_id", "category_id"} that the server takes; zipped if the name ends in .zip."""
    path = pathlib.Path(path)
    if path.suffix != ".zip":
        write_json(path, entries)
        return
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", json.dumps(entries))
    write_bytes(path, content.getvalue())
