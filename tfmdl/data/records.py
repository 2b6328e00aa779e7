"""What a converted domain looks like on disk: the features of a record, and `dataset_info.json`.

Written by data_prep/, read by tfmdl/data/: the layout is defined here and nowhere else.

    <data_dir>/<domain>/dataset_info.json
    <data_dir>/<domain>/<domain>-<split>-00000-of-00004.tfrecord
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable

import tensorflow as tf

UNKNOWN_LABEL = -1
SPLITS = ("train", "val", "test")
INFO_FILE = "dataset_info.json"

# Key names are those of TensorFlow's image classification datasets.
FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/format": tf.io.FixedLenFeature([], tf.string),
    "image/height": tf.io.FixedLenFeature([], tf.int64),
    "image/width": tf.io.FixedLenFeature([], tf.int64),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/class/text": tf.io.FixedLenFeature([], tf.string),
    "image/source_id": tf.io.FixedLenFeature([], tf.int64),
}


def serialize_example(
    *, encoded: bytes, image_format: str, height: int, width: int, label: int, text: str, image_id: int
) -> bytes:
    """Returns one serialized `tf.train.Example` of `FEATURES`, the same bytes every time."""

    example = tf.train.Example()
    features = example.features.feature
    for key, content in (
        ("image/encoded", encoded),
        ("image/format", image_format.encode()),
        ("image/class/text", text.encode()),
    ):
        features[key].bytes_list.value.append(content)
    for key, number in (
        ("image/height", height),
        ("image/width", width),
        ("image/class/label", label),
        ("image/source_id", image_id),
    ):
        features[key].int64_list.value.append(number)
    # The features are a map, whose order would otherwise change from process to process.
    return example.SerializeToString(deterministic=True)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name, how many records and bytes it has, and its SHA-256."""

    file: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """One split: `per_class[i]` images of class i; all zero where labels are unknown (`labelled` False)."""

    num_examples: int
    labelled: bool
    per_class: list[int]
    shards: list[Shard]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The contents of `dataset_info.json`.

    Attributes:
        name: The domain.
        label_names: Name of each class, in the order of the labels.
        category_ids: The source's own id of each class; results.json is written in these.
        splits: Splits by name.
        pixel_mean, pixel_std: Per-channel (R, G, B) statistics of the training pixels, pixels in 0..1.
        source: Where the images came from: "kind", and what that kind tells of itself.
        inputs: SHA-256 of each input file or archive, by its name below the input folder.
        options: The choices of the conversion that shape its records.
        skipped: Bad images left out on request: dicts of "split", "file", "reason".
        tool_version: Version of tfmdl that wrote it.
    """

    name: str
    label_names: list[str]
    category_ids: list[int]
    splits: dict[str, SplitInfo]
    pixel_mean: list[float]
    pixel_std: list[float]
    source: dict
    inputs: dict[str, str]
    options: dict
    skipped: list[dict]
    tool_version: str

    @property
    def num_classes(self) -> int:
        return len(self.label_names)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the labels and the shards' hashes: equal if and only if the records are."""
        parts = [self.name, *self.label_names]
        parts += [f"{shard.file}:{shard.sha256}" for split in self.splits.values() for shard in split.shards]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def num_examples(self, splits: Iterable[str]) -> int:
        """Returns how many records `splits` have; one that the domain has not counts as empty."""
        return sum(self.splits[split].num_examples for split in splits if split in self.splits)

    def shard_paths(self, data_dir: str | os.PathLike, split: str) -> list[str]:
        """Returns the files of `split`.

        Raises:
            ValueError: if the domain has no such split.
            FileNotFoundError: if a shard that the info lists is not there.
        """
        if split not in self.splits:
            raise ValueError(
                f"domain {self.name!r} in {str(data_dir)!r} has no split {split!r}; "
                f"it has {', '.join(self.splits)}"
            )
        paths = [pathlib.Path(data_dir, self.name, shard.file) for shard in self.splits[split].shards]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: listed in {INFO_FILE} of {self.name!r}, but not there")
        return [str(path) for path in paths]

    def save(self, directory: str | os.PathLike) -> None:
        """Writes `dataset_info.json` into `directory`, aside and renamed."""
        path = pathlib.Path(directory, INFO_FILE)
        partial = path.with_suffix(".json.partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        os.replace(partial, path)

    @classmethod
    def load(cls, data_dir: str | os.PathLike, domain: str) -> "DatasetInfo":
        """Reads `<data_dir>/<domain>/dataset_info.json`.

        Raises:
            FileNotFoundError: if there is none; the message lists the domains that are there.
            ValueError: if the file is not what `save` writes.
        """
        path = pathlib.Path(data_dir, domain, INFO_FILE)
        if not path.is_file():
            found = ", ".join(converted_domains(data_dir)) or "none"
            raise FileNotFoundError(f"{path}: no converted domain {domain!r} here; there are: {found}")
        try:
            fields = json.loads(path.read_text())
            fields["splits"] = {
                split: SplitInfo(**{**body, "shards": [Shard(**shard) for shard in body["shards"]]})
                for split, body in fields["splits"].items()
            }
            return cls(**fields)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a dataset_info.json of this tool ({error})") from error


def converted_domains(data_dir: str | os.PathLike) -> list[str]:
    """Returns the names of the domains that are whole in `data_dir`, sorted."""
    names = (path.parent.name for path in pathlib.Path(data_dir).glob(f"*/{INFO_FILE}"))
    # A domain that is being built lies in a folder whose name begins with ".".
    return sorted(name for name in names if not name.startswith("."))
