"""Files of events for TensorBoard."""

import contextlib
import errno
from collections.abc import Iterator

import tensorflow as tf

from tfmdl.data.records import naming


class EventsFile:
    """A file of events in a folder that is made if it is not there.

    Args:
        folder: The folder.

    Raises:
        OSError: if it cannot be made or written.
    """

    def __init__(self, folder):
        self._folder = folder
        self._others = set(self._files())
        self._written = 0  # bytes that are known to hold whole records
        with naming(self._folder):
            self._writer = tf.summary.create_file_writer(str(folder))

    @contextlib.contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Has `tf.summary` write here, as of `step`, while the context lasts; something must be written.

        Raises:
            OSError: if it could not be written. TensorFlow may drop what a full disk does not take, and say nothing.
        """
        with naming(self._folder), self._writer.as_default(step=step):
            yield
        written = set(self._files()) - self._others
        if not written:
            # As on a bucket that is mounted: there a file is seen when it is closed.
            told = "TensorBoard's events are not seen after they were written; --tensorboard=false does without"
            raise OSError(errno.EIO, told, str(self._folder))
        (path,) = written
        end = _end_of_records(path, self._written)
        if end == self._written or end != path.stat().st_size:
            raise OSError(errno.EIO, "TensorBoard's events were not written whole; is the disk full?", str(path))
        self._written = end

    def close(self) -> None:
        """Closes the file."""
        with naming(self._folder):
            self._writer.close()

    def _files(self):
        return self._folder.glob("events.out.tfevents.*.v2")  # the profiler's have another end


def _end_of_records(path, start):
    """Returns where the last whole record of a TFRecord file ends; `start` is where one does."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        while True:
            file.seek(start)
            # A record is the length of its data in 8 bytes, a checksum of 4, the data, and a checksum of 4.
            end = start + 8 + 4 + int.from_bytes(file.read(8), "little") + 4
            if end > size:
                return start
            start = end
