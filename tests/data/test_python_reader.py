"""Reading in Python within a pipeline: results are those of the function, and the process can end at any moment."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfmdl.data import python_reader


def test_a_call_gives_what_the_function_gives():
    numbers = tf.data.Dataset.range(6).batch(2)
    doubled = numbers.map(lambda batch: python_reader.call(lambda n: (2 * n, -n), batch, (tf.int64, tf.int64)))
    pairs = [[value.tolist() for value in pair] for pair in doubled.as_numpy_iterator()]
    assert pairs == [[[0, 2], [0, -1]], [[4, 6], [-2, -3]], [[8, 10], [-4, -5]]]


def test_an_error_is_not_the_end_of_calls():
    def read(numbers):
        if numbers[0] == 1:
            raise ValueError("record 1 is damaged")
        return numbers

    batches = tf.data.Dataset.range(3).batch(1).map(lambda batch: python_reader.call(read, batch, tf.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match="record 1 is damaged"):
        list(batches)
    again = batches.ignore_errors()
    np.testing.assert_array_equal(np.concatenate(list(again.as_numpy_iterator())), [0, 2])


PROGRAM = """
import atexit, time, tensorflow as tf
from tfmdl.data import python_reader

calls = []

def read(number):
    calls.append(number)
    return number

def count_calls():  # registered first, it runs last: whoever calls after that finds no Python
    before = len(calls)
    time.sleep(0.5)
    print(before > 0, len(calls) - before)

atexit.register(count_calls)
numbers = tf.data.Dataset.range(10**9).map(lambda number: python_reader.call(read, number, tf.int64)).prefetch(10**8)
iterator = iter(numbers)
next(iterator)
"""


def test_no_call_begins_when_the_process_ends():
    """One that did would wait for ever, and the process with it: about every third did."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr
