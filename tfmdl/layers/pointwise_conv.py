"""Pointwise (1x1) convolution, shared or with one kernel per domain."""

import math

import keras
from keras import ops

from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.side_by_side import SideBySide, lay_out, take_apart


class DomainPointwiseConv2D(DomainConvolution):
    """1x1 convolution: the cross-channel correlations that the paper shares between domains.

    Computed as a matrix product over the flattened pixels, whose gradients are faster than a convolution's on CPU.
    With one domain per image and one kernel per domain, it is a batched matrix product. With `trainable` False and one
    kernel, it is a convolution, which TensorFlow computes in one op with an offset and a ReLU behind it.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        shared: One kernel serves all domains, or those of these names.
        kernel_initializer: By default a normal of variance 2 / filters, as the authors have it.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, height, width, filters).

    Raises:
        ValueError: if `filters` is not positive.

    Reference: Guo et al., AAAI 2019, section "Approach".
    """

    takes_side_by_side = True

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
        kernel = self.kernel.select(domain)
        if not self.trainable and len(kernel.shape) == 4 and not isinstance(domain, SideBySide):
            return ops.conv(inputs, kernel, padding="same")
        matrix = ops.squeeze(kernel, axis=(-4, -3))
        return mix_channels(inputs, matrix, isinstance(domain, SideBySide))

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


def mix_channels(inputs, matrix, laid_out=False):
    """Multiplies the channels of every pixel by one matrix, or those of each image by its own.

    Args:
        inputs: (batch, ..., channels), or, if `laid_out`, (1, height, width, batch * channels).
        matrix: (channels, filters) or (batch, channels, filters).
        laid_out: Whether the images lie side by side.

    Returns:
        As `inputs`, with filters in place of channels.
    """
    *own, channels, filters = matrix.shape
    if own and laid_out:
        return lay_out(mix_channels(take_apart(inputs, channels), matrix))
    batch, *sides, last = ops.shape(inputs)
    pixels = (batch, math.prod(sides), channels) if own else (-1, channels)
    outputs = ops.matmul(ops.reshape(inputs, pixels), matrix)
    return ops.reshape(outputs, (batch, *sides, last // channels * filters))
