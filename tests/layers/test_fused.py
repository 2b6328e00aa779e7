"""The backend's fast ops against those that Keras chooses."""

import keras
import numpy as np
import pytest

from tfmdl.layers import fused


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's ops")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel_size", "strides"), [(3, 1), (5, 1), (5, 2), (7, 2), (4, 1)])
@pytest.mark.parametrize(("sides", "channels"), [((8, 8), 3), ((9, 11), 3), ((7, 10), 3), ((7, 10), None)], ids=str)
def test_gradients_of_depthwise_convolution_are_those_of_keras(rng, sides, channels, kernel_size, strides, padding):
    import tensorflow as tf

    images = tf.constant(rng.normal(size=(2, *sides, 3)).astype("float32"))
    kernel = tf.constant(rng.normal(size=(kernel_size, kernel_size, 3, 1)).astype("float32"))

    def of(convolve):
        return tf.function(
            lambda images, kernel: traced(convolve, images, kernel),
            [tf.TensorSpec((2, *sides, channels)), tf.TensorSpec((kernel_size, kernel_size, channels, 1))],
        )(images, kernel)

    def traced(convolve, images, kernel):
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            outputs = convolve(images, kernel, strides=strides, padding=padding)
            loss = tf.reduce_sum(tf.sin(outputs))
        return outputs, *tape.gradient(loss, (images, kernel))

    for ours, theirs in zip(of(fused.depthwise_conv), of(keras.ops.depthwise_conv), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
