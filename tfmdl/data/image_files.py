"""Some image files of a converted domain, as they are in its records."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from tfmdl.data.record_files import RecordFiles
from tfmdl.data.records import FIELDS, UNREADABLE, DatasetInfo, reason_of


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, and the name of each one's class: "" where it is unknown."""

    encoded: list[bytes]
    labels: list[str]


def some_image_files(data_dir: str | os.PathLike, domain: str, split: str, count: int) -> ImageFiles:
    """Returns `count` images of a split, or all where there are fewer; the same ones every time.

    Raises:
        FileNotFoundError, ValueError: if there is no such domain or split, or it cannot be read.
    """
    info = DatasetInfo.load(data_dir, domain)
    paths = info.shard_paths(data_dir, split)
    wanted = {key: FIELDS[key] for key in ("image/encoded", "image/class/label")}
    try:
        files = RecordFiles(paths)
        order = np.random.default_rng(0).permutation(int(files.num_records.sum()))
        fields = tf.io.parse_example(files.read(np.sort(order[:count])), wanted)
    except UNREADABLE as error:
        raise ValueError(f"images of domain {domain!r} in {data_dir} cannot be read: {reason_of(error)}") from error
    names = dict(enumerate(info.label_names))
    labels = [names.get(label, "") for label in fields["image/class/label"].numpy().tolist()]
    return ImageFiles(fields["image/encoded"].numpy().tolist(), labels)
