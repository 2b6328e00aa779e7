"""Ops of the backend that are faster than those that Keras chooses: fused normalisation, depthwise convolution.

Keras 3 normalises by separate ops (moments, then arithmetic) on the TensorFlow backend; TensorFlow's own fused op
takes about a third of the time on CPU. This is the only module of the layers that asks which backend runs.
"""

import keras
import numpy as np
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def normalize_batch(x, gamma, beta, epsilon):
        """Normalises by the batch's own statistics.

        Args:
            x: (batch, height, width, channels), float32, bfloat16 or float16.
            gamma, beta: (channels,), float32.
            epsilon: Added to the variance.

        Returns:
            The normalised batch in the dtype of `x`, and the batch's mean and (biased) variance, float32.
        """
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
        )
        # The op reports the variance with Bessel's correction; Keras keeps the biased one.
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float32)
        return y, mean, variance * ((count - 1.0) / tf.maximum(count, 1.0))

    def normalize_shared_batch(x, gamma, beta, epsilon):
        """Normalises by the statistics of a batch that devices share in equal parts, of which `x` is one.

        Arguments and result as in `normalize_batch`. No gradient flows through the statistics that are returned.
        """
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return normalize_batch(x, gamma, beta, epsilon)

        def of_all(*values):
            return replica.all_reduce(tf.distribute.ReduceOp.MEAN, values)

        pixels = tf.cast(tf.size(x) / tf.shape(x)[-1], tf.float32)

        @tf.custom_gradient
        def normalized(x, gamma, beta):
            _, own_mean, own_variance = normalize_batch(x, tf.ones_like(gamma), tf.zeros_like(beta), epsilon)
            (mean,) = of_all(own_mean)
            (variance,) = of_all(own_variance + tf.square(own_mean - mean))

            def gradient(upstream, *_):
                dx, dgamma, dbeta = _gradient_by(upstream, x, gamma, mean, variance, epsilon)
                # So far as if the statistics were given. They depend on all images: that part is subtracted.
                slope = gamma * tf.math.rsqrt(variance + epsilon) / pixels
                through = (slope * value for value in of_all(dgamma, dbeta))
                return dx - normalize_by(x, *through, mean, variance, epsilon), dgamma, dbeta

            return (normalize_by(x, gamma, beta, mean, variance, epsilon), mean, variance), gradient

        return normalized(x, gamma, beta)

    def _gradient_by(upstream, x, gamma, mean, variance, epsilon):
        """Returns the gradients of `x`, `gamma` and `beta` of `normalize_by`, float32 but that of `x`."""
        dx, dgamma, dbeta, *_ = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=upstream,
            x=x,
            scale=gamma,
            reserve_space_1=mean,
            reserve_space_2=variance,
            reserve_space_3=variance,
            epsilon=epsilon,
            is_training=False,
        )
        return dx, dgamma, dbeta

    def normalize_by(x, gamma, beta, mean, variance, epsilon):
        """Normalises by given statistics; arguments and result as in `normalize_batch`."""
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
        ).y

    def normalize_images(wide, gamma, beta, peers, mean, variance, epsilon):
        """Normalises images that lie side by side, each by the statistics of its peers or by given ones.

        Args:
            wide: (1, height, width, batch * channels), float32, bfloat16 or float16.
            gamma, beta: (batch, channels), float32, the same for images that are peers.
            peers: (batch, batch), float32: image i takes `peers[i, j]` of image j's statistics. A row sums to one; or
                it is zero, and the image has given statistics.
            mean, variance: (batch, channels), float32, the given statistics; zero where there are none.
            epsilon: Added to the variance.

        Returns:
            The normalised images in the dtype of `wide`, and each one's mean and (biased) variance, (batch, channels).
            No gradient flows through the statistics that are returned.
        """
        pixels = tf.cast(tf.shape(wide)[1] * tf.shape(wide)[2], tf.float32)
        flat, by_image = (lambda value: tf.reshape(value, (-1,))), (lambda value: tf.reshape(value, tf.shape(gamma)))

        @tf.custom_gradient
        def normalized(wide, gamma, beta):
            _, *own = normalize_batch(wide, tf.ones_like(flat(gamma)), tf.zeros_like(flat(beta)), epsilon)
            own_mean, own_variance = map(by_image, own)
            means = mean + tf.matmul(peers, own_mean)
            variances = variance + tf.matmul(peers, own_variance + tf.square(own_mean - means))
            of_peers = {"mean": flat(means), "variance": flat(variances), "epsilon": epsilon}

            def gradient(upstream, *_):
                dx, dgamma, dbeta = _gradient_by(upstream, wide, flat(gamma), **of_peers)
                dgamma, dbeta = by_image(dgamma), by_image(dbeta)
                # So far as if the statistics were given. They depend on the peers' images: that part is subtracted.
                slope = gamma * tf.math.rsqrt(variances + epsilon) / pixels
                through = (slope * tf.matmul(peers, value) for value in (dgamma, dbeta))
                return dx - normalize_by(wide, *map(flat, through), **of_peers), dgamma, dbeta

            return (normalize_by(wide, flat(gamma), flat(beta), **of_peers), means, variances), gradient

        return normalized(wide, gamma, beta)

    def depthwise_conv(x, kernel, strides=1, padding="same", dilation_rate=1):
        """Convolves each channel by itself, as `keras.ops.depthwise_conv`, with a faster gradient of large kernels.

        On a CPU, oneDNN is the fastest there is for the convolution and for the gradient of `x`. For the gradient of a
        kernel of 5x5 it takes 1.8 to 14 times as long as TensorFlow's own op (of 3x3 0.1 to 1.3 times): on two cores a
        step of EfficientNet-Lite0 at 96 pixels took 0.76 s with one and 0.53 s with the other. oneDNN leaves to
        TensorFlow what is padded explicitly.

        Args:
            x: (batch, height, width, channels).
            kernel: (height, width, channels, 1).
            strides, dilation_rate: A number, or one for height and one for width.
            padding: "same" or "valid".
        """
        strides, dilation_rate = (tuple(np.broadcast_to(value, 2).tolist()) for value in (strides, dilation_rate))
        sides = x.shape[1:3]
        usual = strides[0] == strides[1] and dilation_rate == (1, 1) and None not in sides
        if not usual or max(kernel.shape[:2]) <= 3 or tf.config.list_physical_devices("GPU"):
            return ops.depthwise_conv(x, kernel, strides=strides, padding=padding, dilation_rate=dilation_rate)
        axes = zip(sides, kernel.shape[:2], strides, strict=True)
        around = [_padding(*axis) if padding == "same" else (0, 0) for axis in axes]
        steps = {"strides": (1, *strides, 1)}

        @tf.custom_gradient
        def convolved(x, kernel):
            def gradient(upstream):
                dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                    input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, padding=padding.upper(), **steps
                )
                dkernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=x,
                    filter_sizes=tf.shape(kernel),
                    out_backprop=upstream,
                    padding="EXPLICIT",
                    explicit_paddings=[0, 0, *around[0], *around[1], 0, 0],
                    **steps,
                )
                return dx, dkernel

            return tf.nn.depthwise_conv2d(x, kernel, padding=padding.upper(), **steps), gradient

        return convolved(x, kernel)

    def _padding(side, kernel_side, stride):
        """Returns how many zeros "same" padding puts before and after an axis."""
        total = max((-(-side // stride) - 1) * stride + kernel_side - side, 0)
        return total // 2, total - total // 2

    def scale_and_shift(x, scale, offset):
        """Returns `x * scale + offset`, with scale and offset (channels,), float32, in the dtype of `x`."""
        return normalize_by(x, scale, offset, tf.zeros_like(scale), tf.ones_like(scale), epsilon=0.0)

    def add_offset(x, offset):
        """Returns `x + offset`, offset (channels,), as the op that TensorFlow takes into a convolution before it."""
        return tf.nn.bias_add(x, tf.cast(offset, x.dtype))

else:

    def normalize_batch(x, gamma, beta, epsilon):
        """Normalises by the batch's own statistics: see the TensorFlow version above."""
        mean, variance = ops.moments(ops.cast(x, "float32"), axes=(0, 1, 2))
        return normalize_by(x, gamma, beta, mean, variance, epsilon), mean, variance

    def normalize_by(x, gamma, beta, mean, variance, epsilon):
        """Normalises by given statistics: see the TensorFlow version above."""
        # Centred first: with a small variance, x * scale and mean * scale would be large and all but equal.
        centred = ops.cast(x, "float32") - mean
        return ops.cast(centred * (gamma * ops.rsqrt(variance + epsilon)) + beta, x.dtype)

    def normalize_images(wide, gamma, beta, peers, mean, variance, epsilon):
        """Normalises images that lie side by side: see the TensorFlow version above."""
        _, height, width, _ = ops.shape(wide)
        x = ops.reshape(ops.cast(wide, "float32"), (height, width, *ops.shape(gamma)))
        means = mean + ops.matmul(peers, ops.mean(x, axis=(0, 1)))
        centred = x - means
        variances = variance + ops.matmul(peers, ops.mean(ops.square(centred), axis=(0, 1)))
        outputs = centred * (gamma * ops.rsqrt(variances + epsilon)) + beta
        outputs = ops.cast(ops.reshape(outputs, ops.shape(wide)), wide.dtype)
        return outputs, ops.stop_gradient(means), ops.stop_gradient(variances)

    normalize_shared_batch = normalize_batch  # a program for several devices is of the whole batch there
    depthwise_conv = ops.depthwise_conv

    def scale_and_shift(x, scale, offset):
        """Returns `x * scale + offset`: see the TensorFlow version above."""
        return x * ops.cast(scale, x.dtype) + ops.cast(offset, x.dtype)

    def add_offset(x, offset):
        """Returns `x + offset`: see the TensorFlow version above."""
        return x + ops.cast(offset, x.dtype)
