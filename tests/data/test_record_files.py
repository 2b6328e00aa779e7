"""Records are read by number, each as TensorFlow reads it, from files that were found whole before."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tfmdl.data.record_files import RecordFiles


@pytest.fixture
def written(tmp_path):
    """Files of 0 to 600 records, and all these records in order; some are empty."""
    random = np.random.default_rng(0)
    paths, records = [], []
    for number, count in enumerate((3, 0, 600, 1, *[2] * 300)):
        paths.append(str(tmp_path / f"{number}.tfrecord"))
        contents = [random.bytes(size) for size in random.integers(0, 20, count)]
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for content in contents:
                writer.write(content)
        records += contents
    return paths, records


def test_records_are_read_in_any_order(written):
    paths, records = written
    files = RecordFiles(paths)
    assert files.num_records.tolist() == [3, 0, 600, 1, *[2] * 300]
    order = np.random.default_rng(1).permutation(len(records))
    for numbers in np.array_split(order, 10):
        assert files.read(numbers).tolist() == [records[number] for number in numbers]


@pytest.mark.parametrize("byte", [0, 9, 13, -1])
def test_a_damaged_record_is_found_before_any_is_read(byte, tmp_path):
    path = tmp_path / "one.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"some")
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        RecordFiles([str(path)])


def test_records_of_a_file_that_is_replaced_are_its_own_or_an_error(written, tmp_path):
    paths, records = written
    files = RecordFiles(paths)
    before = files.read(np.array([0]))
    for path in (paths[0], paths[3]):
        other = tmp_path / "other.tfrecord"
        other.write_bytes(b"x" * os.path.getsize(path))
        os.utime(other, ns=(1, 1))
        os.replace(other, path)
    assert files.read(np.array([0, 1, 2])).tolist() == records[:3] and before[0] == records[0]
    with pytest.raises(ValueError, match=f"{paths[3]}: has changed since the command began to read it"):
        files.read(np.array([603]))
