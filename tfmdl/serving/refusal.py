"""Errors from inside a graph, that name the row and the reason."""

import tensorflow as tf


def refuse_rows(values, bad, reason):
    """Returns `values`, or fails with the first row that is `bad`, bool (rows,), and `reason(row)`, a string."""

    def message():
        row = tf.argmax(bad)
        return tf.strings.join(["row ", tf.strings.as_string(row), ": ", reason(row)])

    return refuse(values, tf.reduce_any(bad), message)


def refuse(values, bad, message):
    """Returns `values`, or fails with `message()` if the scalar `bad` is true.

    TensorFlow escapes quotes in such messages: names stand in brackets.
    """

    def fail():
        tf.debugging.Assert(False, [message()])
        return False

    # The message is made only where it is needed: it reads rows that may not be there.
    checked = tf.cond(bad, fail, lambda: True)
    with tf.control_dependencies([checked]):
        return tf.identity(values)


def refuse_rows_without_strings(values, bad, reason, *details):
    """Returns `values`, or fails with the first row that is `bad`, for graphs that compute no strings.

    Args:
        values: Any tensor.
        bad: bool (rows,).
        reason: What is wrong, a Python string.
        details: Tensors (rows,), whose value of that row is told behind the reason.
    """
    # One good row is added: there may be no rows.
    row = tf.argmax(tf.cast(tf.concat([bad, [False]], axis=0), tf.int32), output_type=tf.int32)
    told = [tf.concat([detail, tf.zeros(1, detail.dtype)], axis=0)[row] for detail in details]
    checked = tf.debugging.Assert(~tf.reduce_any(bad), ["row", row, reason, *told])
    with tf.control_dependencies([checked]):
        return tf.identity(values)
