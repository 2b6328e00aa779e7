"""Depthwise convolution with one kernel per domain."""

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank


class DomainDepthwiseConv2D(keras.layers.Layer):
    """Depthwise 2-D convolution whose kernel belongs to the domain: the spatial correlations of the paper.

    With the domain as a name or a scalar this is the plain depthwise convolution. With one domain an image, the
    gathered kernels are applied in one op: the batch is moved into the channels, (1, H, W, batch * C), which a
    depthwise convolution keeps apart anyway.

    Args:
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the kernel.
        strides: Stride along height and width.
        shared: One kernel serves all domains.
        kernel_initializer: By default a normal of variance 2 / (height * width * channels), as the authors have it.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), channels): padding is "same".

    Raises:
        ValueError: if `kernel_size` or `strides` is not positive.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019,
    section "Approach".
    """

    _bank = DomainBank

    def __init__(self, domains, kernel_size=3, strides=1, shared=False, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        if kernel_size < 1:
            raise ValueError(f"`kernel_size` must be positive; received kernel_size={kernel_size}")
        if strides < 1:
            raise ValueError(f"`strides` must be positive; received strides={strides}")
        self.domains = tuple(domains)
        self.kernel_size = kernel_size
        self.strides = strides
        self.shared = shared
        # A depthwise kernel is (height, width, channels, 1): what Keras takes for its fan-in is what is meant here.
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
        )
        self.kernel = self._bank(
            domains, shared=shared, initializer=self.kernel_initializer, dtype=self.dtype_policy, name="kernel"
        )

    def build(self, input_shape):
        self.kernel.build((self.kernel_size, self.kernel_size, input_shape[-1], 1))

    def call(self, inputs, domain):
        return depthwise_conv(inputs, self.kernel.select(domain), self.strides)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, *(None if side is None else -(-side // self.strides) for side in (height, width)), channels)

    def get_config(self):
        return {
            **super().get_config(),
            "domains": list(self.domains),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "shared": self.shared,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def depthwise_conv(inputs, kernel, strides):
    """Convolves each channel by itself with one kernel, or each image with its own.

    Args:
        inputs: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels, 1), or (batch, ...) of such.
        strides: Stride along height and width.

    Returns:
        (batch, ceil(height / strides), ceil(width / strides), channels).
    """
    if len(kernel.shape) == 4:
        return ops.depthwise_conv(inputs, kernel, strides=strides, padding="same")
    kernel_height, kernel_width, channels = kernel.shape[1:4]
    batch, height, width, _ = ops.shape(inputs)
    merged = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (1, height, width, batch * channels))
    merged_kernel = ops.reshape(
        ops.transpose(kernel, (1, 2, 0, 3, 4)), (kernel_height, kernel_width, batch * channels, 1)
    )
    outputs = ops.depthwise_conv(merged, merged_kernel, strides=strides, padding="same")
    _, height, width, _ = ops.shape(outputs)
    return ops.transpose(ops.reshape(outputs, (height, width, batch, channels)), (2, 0, 1, 3))
