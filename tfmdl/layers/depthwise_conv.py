"""Depthwise convolution with one kernel per domain."""

import keras
from keras import ops

from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.side_by_side import SideBySide, lay_out, take_apart


class DomainDepthwiseConv2D(DomainConvolution):
    """Depthwise 2-D convolution whose kernel belongs to the domain: the spatial correlations of the paper.

    With the domain as a name or a scalar this is the plain depthwise convolution. With one domain per image, the
    gathered kernels are applied in one op, on the images side by side.

    Args:
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the kernel.
        strides: Stride along height and width.
        shared: One kernel serves all domains, or those of these names.
        kernel_initializer: By default a normal of variance 2 / (height * width * channels), as the authors have it.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), channels): padding is "same".

    Raises:
        ValueError: if `kernel_size` or `strides` is not positive.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019,
    section "Approach".
    """

    takes_side_by_side = True
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
        # Keras takes height * width * channels for the fan-in of such a kernel, which is what the authors divide by.
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
        )
        self.kernel = self._bank(
            domains, shared, self.kernel_initializer, axis=2, dtype=self.dtype_policy, name="kernel"
        )

    def build(self, input_shape):
        self.kernel.build((self.kernel_size, self.kernel_size, input_shape[-1], 1))

    def call(self, inputs, domain):
        kernel = self.kernel.select(domain)
        return depthwise_conv(inputs, kernel, self.strides, isinstance(domain, SideBySide))

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


def depthwise_conv(inputs, kernel, strides, laid_out=False, convolve=ops.depthwise_conv, padding="same", **kwargs):
    """Convolves each channel by itself with one kernel, or each image with its own.

    Args:
        inputs: (batch, height, width, channels), or, if `laid_out`, (1, height, width, batch * channels).
        kernel: (kernel height, kernel width, channels, 1), or with one per image (..., batch, channels, 1).
        strides: Stride along height and width.
        laid_out: Whether the images lie side by side.
        convolve: What convolves; it is also given `strides`, `padding` and `kwargs`.

    Returns:
        As `inputs`, with padding "same" (batch, ceil(height / strides), ceil(width / strides), channels) or laid out.
    """
    kernel_height, kernel_width, *batch, channels, _ = kernel.shape
    how = {"strides": strides, "padding": padding, **kwargs}
    if not batch and not laid_out:
        return convolve(inputs, kernel, **how)
    if batch:
        kernel = ops.reshape(kernel, (kernel_height, kernel_width, -1, 1))
    else:
        kernel = ops.tile(kernel, (1, 1, ops.shape(inputs)[-1] // channels, 1))
    outputs = convolve(inputs if laid_out else lay_out(inputs), kernel, **how)
    return outputs if laid_out else take_apart(outputs, channels)
