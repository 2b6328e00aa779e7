"""Reads converted records back, by plain TensorFlow."""

import tensorflow as tf

from tfmdl.data.records import FIELDS, DatasetInfo


def read_split(data_dir, domain: str, split: str) -> list[dict]:
    """Returns the records of a split, in their order, as dicts of Python values."""
    paths = DatasetInfo.load(data_dir, domain).shard_paths(data_dir, split)
    records = []
    for serialized in tf.data.TFRecordDataset(paths):
        parsed = tf.io.parse_single_example(serialized, FIELDS)
        records.append({key.removeprefix("image/"): value.numpy() for key, value in parsed.items()})
    return records


def shard_bytes(data_dir) -> dict[str, bytes]:
    """Returns the contents of every shard by its path."""
    return {str(path.relative_to(data_dir)): path.read_bytes() for path in sorted(data_dir.glob("*/*.tfrecord"))}
