"""Python functions within tf.data pipelines, in a process that may end at any moment."""

import atexit
import functools

import tensorflow as tf


def call(function, numbers, types):
    """Returns what `function` gives for `numbers`, as `tf.numpy_function` does, but lets the process end.

    A pipeline reads ahead in threads of TensorFlow. One that enters Python while the interpreter shuts down waits for
    ever, and the process with it. Here each call holds a mutex of TensorFlow's, which the interpreter takes for good
    before it shuts down: calls under way come to their end, and none begins after that.

    Args:
        function: Takes a numpy array and returns numpy arrays, one for each of `types`.
        numbers: Tensor.
        types: Dtype, or tuple of dtypes, of what it returns.
    """
    lock = tf.raw_ops.MutexLock(mutex=_mutex())
    with tf.control_dependencies([lock]):
        outputs = tf.numpy_function(function, [numbers], types, stateful=False)
    with tf.control_dependencies(tf.nest.flatten(outputs)):
        released = tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
    with tf.control_dependencies([released]):
        return tf.nest.map_structure(tf.identity, outputs)


@functools.cache
def _mutex():
    """Returns the one mutex of this process; at its end it is taken, and the lock kept."""
    with tf.init_scope():
        mutex = tf.raw_ops.MutexV2(container="", shared_name="tfmdl_python_reader")
    held = []
    atexit.register(lambda: held.append(tf.raw_ops.MutexLock(mutex=mutex)))
    return mutex
