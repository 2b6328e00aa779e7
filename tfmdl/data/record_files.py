"""TFRecord files whose records are read by number, in any order."""

import functools
import os

import numpy as np
import tensorflow as tf

# Before a record stand its length, 8 bytes, and the length's checksum, 4; behind it its own checksum, 4.
_BEFORE, _BEHIND = 12, 4
_BATCH = 256
_OPEN_FILES = 256


class RecordFiles:
    """Records of several files, numbered through.

    The files are read once from end to end: that finds where each record lies, and checks its checksum, before the
    first is used. After that the disk is read at random; records that do not fit into the operating system's file
    cache should lie on a disk that does not turn. Memory holds 8 bytes for each record.

    Args:
        paths: TFRecord files, uncompressed.

    Attributes:
        num_records: int (files,), how many records each file holds.

    Raises:
        tf.errors.DataLossError: if a record is damaged.
    """

    def __init__(self, paths):
        self._paths = list(paths)
        stats = [os.stat(path) for path in self._paths]
        self._written = {path: stat.st_mtime_ns for path, stat in zip(self._paths, stats, strict=True)}
        # Places are counted as if the files were one.
        self._file_starts = np.cumsum([0, *(stat.st_size for stat in stats)])
        records = tf.data.TFRecordDataset(self._paths).batch(_BATCH)
        framed = [_BEFORE + tf.strings.length(batch).numpy() + _BEHIND for batch in records]
        self._starts = np.cumsum(np.concatenate([np.zeros(1, "int32"), *framed]), dtype="int64")
        self.num_records = np.diff(np.searchsorted(self._starts, self._file_starts))
        # Not all of them at once: there may be more than a process may have open.
        self._opened = functools.lru_cache(_OPEN_FILES)(self._open)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the records of `numbers`, int (batch,), as objects (batch,).

        Raises:
            ValueError: if a file has become shorter, or another one has taken its place.
        """
        starts = self._starts[numbers]
        lengths = self._starts[numbers + 1] - starts - _BEFORE - _BEHIND
        files = np.searchsorted(self._file_starts, starts, "right") - 1
        offsets = starts - self._file_starts[files] + _BEFORE
        records = []
        for file, length, offset in zip(files.tolist(), lengths.tolist(), offsets.tolist(), strict=True):
            path = self._paths[file]
            records.append(os.pread(self._opened(path).fileno(), length, offset))
            if len(records[-1]) != length:
                raise ValueError(f"{path}: ends within the {length:,} bytes from byte {offset:,}")
        return np.array(records, dtype=object)

    def _open(self, path):
        file = open(path, mode="rb", buffering=0)  # noqa: SIM115  (open as long as it is among the last)
        check_written(path, self._written[path], os.fstat(file.fileno()))
        return file


def check_written(path: str, then: int, stat: os.stat_result) -> None:
    """Checks that a file that was last written at `then`, in ns, is still the one, by what the system says of it.

    Raises:
        ValueError: if it is not.
    """
    if stat.st_mtime_ns != then:
        raise ValueError(f"{path}: has changed since the command began to read it; type the same command again")
