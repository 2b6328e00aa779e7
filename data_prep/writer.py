"""From records in the order of reading to shuffled, hashed shards, in memory for one shard at most.

A record is first appended to a spool file, and only its place there is kept. When all are in, a seeded
permutation of the *plan's* order says which record goes where, so that the shards do not depend on how the
source stores its images or on how many workers looked at them.
"""

import os
import pathlib

import numpy as np
import tensorflow as tf

from data_prep.plan import seeded
from tfmdl.data.records import Shard, naming, shard_name
from tfmdl.files import file_sha256


class Spool:
    """The records of one split, on disk in the order of their coming.

    Args:
        path: The spool file.
        size: Number of records that the plan has for this split.
    """

    def __init__(self, path: pathlib.Path, size: int):
        self._path = path
        self._file = path.open("xb", buffering=1 << 20)
        self._end = 0
        self._offsets = np.zeros(size, np.int64)
        self._sizes = np.zeros(size, np.int64)

    def add(self, index: int, record: bytes) -> None:
        """Appends the record of the image that is number `index` in the plan.

        Raises:
            OSError: if it cannot be written.
        """
        with naming(self._path):
            self._file.write(record)
        self._offsets[index], self._sizes[index] = self._end, len(record)
        self._end += len(record)

    def write_shards(self, domain: str, split: str, shard_bytes: int, seed: int) -> list[Shard]:
        """Writes the records to `<domain>-<split>-00000-of-00004.tfrecord` and so on, and removes the spool.

        Args:
            domain, split: What the shards are named after.
            shard_bytes: Size per shard to aim for; all have the same number of records, or one less.
            seed: Seed of the shuffle.

        Returns:
            What was written; nothing if there is no record.

        Raises:
            OSError: if a shard cannot be written.
        """
        with naming(self._path):
            self._file.close()
        order = np.flatnonzero(self._sizes)
        if not len(order):
            return []
        order = order[seeded(seed, f"{domain}-{split}").permutation(len(order))]
        num_shards = min(len(order), max(1, -(-self._end // shard_bytes)))
        shards = []
        with open(self._path, "rb") as spool:
            for number, members in enumerate(np.array_split(order, num_shards)):
                path = self._path.with_name(shard_name(domain, split, number, num_shards))
                self._write_shard(spool, members, path)
                shards.append(Shard(path.name, len(members), path.stat().st_size, file_sha256(path)))
        self._path.unlink()
        return shards

    def _write_shard(self, spool, members: np.ndarray, path: pathlib.Path) -> None:
        records = [b""] * len(members)
        # Forwards through the spool: otherwise a disk that turns would have to seek once per record.
        for rank in np.argsort(self._offsets[members]):
            spool.seek(self._offsets[members[rank]])
            records[rank] = spool.read(self._sizes[members[rank]])
        with naming(path), tf.io.TFRecordWriter(os.fspath(path)) as writer:
            for record in records:
                writer.write(record)
