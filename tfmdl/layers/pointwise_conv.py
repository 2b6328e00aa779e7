"""Pointwise (1x1) convolution, shared or with one kernel per domain."""

import keras
from keras import ops

from tfmdl.layers.domain_bank import DomainBank


class DomainPointwiseConv2D(keras.layers.Layer):
    """1x1 convolution: the cross-channel correlations that the paper shares between domains.

    Computed as a matrix product over the flattened pixels, whose gradients are faster than a convolution's on CPU.
    With one domain an image and a kernel per domain, it is a batched matrix product.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        shared: One kernel serves all domains.
        kernel_initializer: By default a normal of variance 2 / filters, as the authors have it.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, height, width, filters).

    Raises:
        ValueError: if `filters` is not positive.

    Reference: Guo et al., AAAI 2019, section "Approach".
    """

    def __init__(self, filters, domains, shared=True, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"`filters` must be positive; received filters={filters}")
        self.filters = filters
        self.domains = tuple(domains)
        self.shared = shared
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        )
        self.kernel = DomainBank(
            domains, shared=shared, initializer=self.kernel_initializer, dtype=self.dtype_policy, name="kernel"
        )

    def build(self, input_shape):
        self.kernel.build((1, 1, input_shape[-1], self.filters))

    def call(self, inputs, domain):
        return mix_channels(inputs, ops.squeeze(self.kernel.select(domain), axis=(-4, -3)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "domains": list(self.domains),
            "shared": self.shared,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def mix_channels(inputs, matrix):
    """Multiplies the channels of every pixel by one matrix, or those of each image by its own.

    Args:
        inputs: (batch, height, width, channels).
        matrix: (channels, filters) or (batch, channels, filters).

    Returns:
        (batch, height, width, filters).
    """
    channels, filters = matrix.shape[-2:]
    batch, height, width, _ = ops.shape(inputs)
    pixels = (-1, channels) if len(matrix.shape) == 2 else (batch, height * width, channels)
    return ops.reshape(ops.matmul(ops.reshape(inputs, pixels), matrix), (batch, height, width, filters))
