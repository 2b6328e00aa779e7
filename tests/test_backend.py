"""One process with TensorFlow, or one of several on JAX; what several do is in training/test_on_jax.py."""

import keras
import numpy as np
import pytest

from tfmdl import backend

ONLY_TENSORFLOW = pytest.mark.skipif(backend.ON_JAX, reason="JAX can do this")


def test_a_process_alone_reads_and_writes_all():
    assert backend.num_processes() == 1 and backend.writes()
    rows = np.arange(6)
    np.testing.assert_array_equal(rows[backend.rows_of_process(6)], rows)
    np.testing.assert_array_equal(backend.whole(keras.ops.convert_to_tensor(rows)), rows)
    assert backend.shared_out(7) == 7
    with pytest.raises(OSError, match="its own"), backend.together():
        raise OSError("its own")


def test_functions_are_compiled_by_the_backend():
    double = backend.compiled(lambda value: 2 * keras.ops.cast(value, "float32"))
    assert float(double(np.asarray(3, "int32"))) == 6.0


@ONLY_TENSORFLOW
def test_with_tensorflow_there_is_no_other_process():
    with pytest.raises(ValueError, match="on Keras's JAX backend only: set KERAS_BACKEND=jax"):
        backend.join_processes()
    backend.check_writes_graphs()
