"""What a converted domain looks like on disk: the fields of a record, and `dataset_info.json`.

Written by data_prep/, read by tfmdl/data/: the layout is defined here and nowhere else.

    <data_dir>/<domain>/dataset_info.json
    <data_dir>/<domain>/<domain>-<split>-00000-of-00004.tfrecord
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfmdl import files
from tfmdl.domains import check_name
from tfmdl.outside import is_int64, is_utf8, parse_json, printable, read_at_most

UNKNOWN_LABEL = -1
SPLITS = ("train", "val", "test")
INFO_FILE = "dataset_info.json"
_OWN_HASH = "sha256"  # the field of INFO_FILE that vouches for all others
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Of a record. Key names are those of TensorFlow's image classification datasets.
FIELDS = {
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
    """Returns one serialized `tf.train.Example` of `FIELDS`, the same bytes every time."""

    example = tf.train.Example()
    fields = example.features.feature
    for key, content in (
        ("image/encoded", encoded),
        ("image/format", image_format.encode()),
        ("image/class/text", text.encode()),
    ):
        fields[key].bytes_list.value.append(content)
    for key, number in (
        ("image/height", height),
        ("image/width", width),
        ("image/class/label", label),
        ("image/source_id", image_id),
    ):
        fields[key].int64_list.value.append(number)
    # The fields are a map, whose order would otherwise change from process to process.
    return example.SerializeToString(deterministic=True)


def shard_name(domain: str, split: str, number: int, count: int) -> str:
    """Returns the name of one of the `count` files of a split."""
    return f"{domain}-{split}-{number:05d}-of-{count:05d}.tfrecord"


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Adds a file's name to errors of writing it, and makes OSErrors of TensorFlow's: that of a full disk has no name.

    Raises:
        OSError: for any OSError or TensorFlow error of the body.
    """
    try:
        with files.naming(path):
            yield
    except tf.errors.OpError as error:
        raise OSError(f"{os.fspath(path)}: {reason_of(error)}") from error


# What TensorFlow raises for a record that it cannot read, and of that what says that the record is damaged. The last is
# for a message that would hold bytes which are no text.
UNREADABLE = (tf.errors.OpError, UnicodeDecodeError)
DAMAGED = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeDecodeError)


def reason_of(error: Exception) -> str:
    """Returns, on one line, what TensorFlow says by an error, one of `UNREADABLE`."""
    if isinstance(error, UnicodeDecodeError):
        return "is no tf.train.Example"
    return printable(error.message.strip().partition("\n")[0])


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
        category_ids: The source's own id of each class, ascending; results.json is written in these.
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
        """Returns how many records `splits` have; a split that the domain does not have counts as empty."""
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
        """Writes `dataset_info.json` into `directory`, aside and renamed, with a hash over its own content.

        Raises:
            OSError: if it cannot be written.
        """
        fields = dataclasses.asdict(self)
        files.write_json(pathlib.Path(directory, INFO_FILE), fields | {_OWN_HASH: _content_hash(fields)})

    @classmethod
    def load(cls, data_dir: str | os.PathLike, domain: str) -> "DatasetInfo":
        """Reads `<data_dir>/<domain>/dataset_info.json`.

        Earlier versions wrote no hash over the content: what they wrote is read, each field checked.

        Raises:
            FileNotFoundError: if there is none; the message lists the domains that are there.
            ValueError: if the file is not what `save` writes; the message names the field.
        """
        return cls.load_hashed(data_dir, domain)[0]

    @classmethod
    def load_hashed(cls, data_dir: str | os.PathLike, domain: str) -> tuple["DatasetInfo", bool]:
        """Reads as `load`, and returns whether a hash vouches for the content besides."""
        path = pathlib.Path(data_dir, domain, INFO_FILE)
        if not path.is_file():
            found = ", ".join(converted_domains(data_dir)) or "none"
            raise FileNotFoundError(f"{path}: no converted domain {domain!r} here; there are: {found}")
        # As TensorFlow needs it.
        _check(is_utf8(str(path)), str(path), "a path in UTF-8", str(path))
        fields = parse_json(read_at_most(path), str(path))
        _check(isinstance(fields, dict), str(path), "an object", fields)
        own_hash = fields.pop(_OWN_HASH, None)
        info = cls(**_checked_info(str(path), fields, domain))
        if own_hash not in (None, content := _content_hash(fields)):
            raise ValueError(
                f"{path}: was edited or damaged: its {_OWN_HASH} is {own_hash!r}, that of its content {content!r}"
            )
        return info, own_hash is not None


def _content_hash(fields: dict) -> str:
    # Of the content and not of its text: neither indents nor line ends matter.
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _checked_info(path: str, fields: dict, domain: str) -> dict:
    """Returns the arguments of a `DatasetInfo`; raises ValueError for the first field that cannot be true."""

    def field(name: str, kind: type, expected: str) -> Any:
        return _typed(path, fields, name, kind, expected)

    _check_keys(path, fields, DatasetInfo)
    name = field("name", str, "a string")
    _check(name == domain, f"{path}: name", f"{domain!r}, as the folder", name)
    try:
        check_name(name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    label_names = field("label_names", list, "a list")
    _check(label_names, f"{path}: label_names", "at least one class", label_names)
    for label_name in label_names:
        _check(is_utf8(label_name), f"{path}: label_names", "strings in UTF-8", label_name)
    category_ids = field("category_ids", list, "a list")
    whole = len(category_ids) == len(label_names) and all(map(is_int64, category_ids))
    ascending = whole and all(a < b for a, b in zip(category_ids, category_ids[1:], strict=False))
    _check(ascending, f"{path}: category_ids", f"{len(label_names)} integers, ascending, one per class", category_ids)
    splits = field("splits", dict, "an object")
    _check(splits and set(splits) <= set(SPLITS), f"{path}: splits", f"some of {', '.join(SPLITS)}", list(splits))
    splits = {
        split: _checked_split(f"{path}: splits: {split}", body, name, split, len(label_names))
        for split, body in splits.items()
    }
    for key, low, high in (("pixel_mean", 0.0, 1.0), ("pixel_std", 1e-9, 1.0)):
        numbers = field(key, list, "a list")
        good = len(numbers) == 3 and all(type(x) in (int, float) and low <= x <= high for x in numbers)
        _check(good, f"{path}: {key}", f"three numbers from {low} to {high}", numbers)
    for key in ("source", "inputs", "options"):
        field(key, dict, "an object")
    for key, digest in fields["inputs"].items():
        _check(_is_sha256(digest), f"{path}: inputs: {key}", "a SHA-256", digest)
    for image in field("skipped", list, "a list"):
        good = isinstance(image, dict) and all(isinstance(image.get(key), str) for key in ("split", "file", "reason"))
        _check(good, f"{path}: skipped", "objects of strings split, file, reason", image)
    field("tool_version", str, "a string")
    return {**fields, "splits": splits}


def _checked_split(path: str, body: Any, domain: str, split: str, classes: int) -> SplitInfo:
    _check_keys(path, body, SplitInfo)
    count = _typed(path, body, "num_examples", int, "an integer")
    labelled = _typed(path, body, "labelled", bool, "true or false")
    per_class = _typed(path, body, "per_class", list, "a list")
    good = len(per_class) == classes and all(type(number) is int and number >= 0 for number in per_class)
    _check(good, f"{path}: per_class", f"{classes} counts, one per class", per_class)
    _check(
        sum(per_class) == (count if labelled else 0),
        f"{path}: per_class",
        f"{count} images in all" if labelled else "no image, as labels are unknown",
        per_class,
    )
    bodies = _typed(path, body, "shards", list, "a list")
    _check(bodies, f"{path}: shards", "at least one", bodies)
    shards = []
    for number, shard in enumerate(bodies):
        told_by = f"{path}: shards: {number}"
        _check_keys(told_by, shard, Shard)
        # The whole name, so that none leaves the folder, is missing, or is another split's.
        expected = shard_name(domain, split, number, len(bodies))
        _check(shard["file"] == expected, f"{told_by}: file", repr(expected), shard["file"])
        for key in ("num_examples", "num_bytes"):
            good = type(shard[key]) is int and shard[key] > 0
            _check(good, f"{told_by}: {key}", "a positive integer", shard[key])
        _check(_is_sha256(shard["sha256"]), f"{told_by}: sha256", "a SHA-256", shard["sha256"])
        shards.append(Shard(**shard))
    in_shards = sum(shard.num_examples for shard in shards)
    _check(count == in_shards, f"{path}: num_examples", f"{in_shards}, as in its shards", count)
    return SplitInfo(count, labelled, per_class, shards)


def _check(good: Any, told_by: str, expected: str, received: Any) -> None:
    if not good:
        # Shortened: a list may have a million entries.
        raise ValueError(f"{told_by}: expected {expected}; received {reprlib.repr(received)}")


def _check_keys(told_by: str, body: Any, of: type) -> None:
    expected = [field.name for field in dataclasses.fields(of)]
    good = isinstance(body, dict) and set(body) == set(expected)
    _check(good, told_by, f"an object of {', '.join(expected)}", list(body) if isinstance(body, dict) else body)


def _typed(told_by: str, body: dict, key: str, kind: type, expected: str) -> Any:
    _check(type(body[key]) is kind, f"{told_by}: {key}", expected, body[key])
    return body[key]


def _is_sha256(digest: Any) -> bool:
    return isinstance(digest, str) and _SHA256.fullmatch(digest) is not None


def converted_domains(data_dir: str | os.PathLike) -> list[str]:
    """Returns the names of the domains that are whole in `data_dir`, sorted."""
    names = (path.parent.name for path in pathlib.Path(data_dir).glob(f"*/{INFO_FILE}"))
    # A domain that is being built lies in a folder whose name begins with ".".
    return sorted(name for name in names if not name.startswith("."))
