"""Records are read by number, each as TensorFlow reads it, from files that were found whole before."""

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
