"""Plain convolution, shared or with one kernel per domain."""

import keras
from keras import ops

from tfmdl.layers.convolution import DomainConvolution
from tfmdl.layers.domain_bank import DomainBank


class DomainConv2D(DomainConvolution):
    """2-D convolution without bias: what the plain ResNet-26 of the adapter papers is made of.

    With one domain per image and one kernel per domain, the images are convolved one after the other.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the kernel.
        strides: Stride along height and width.
        shared: One kernel serves all domains.
        kernel_initializer: By default a normal of variance 2 / (height * width * filters), as the authors have it.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters): padding is "same".

    Raises:
        ValueError: if `filters`, `kernel_size` or `strides` is not positive.

    Reference: Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017.
    """

    def __init__(
        self, filters, domains, kernel_size=3, strides=1, shared=True, kernel_initializer=None, **kwargs
    ):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size), ("strides", strides)):
            if value < 1:
                raise ValueError(f"`{name}` must be positive; received {name}={value}")
        self.filters = filters
        self.domains = tuple(domains)
        self.kernel_size = kernel_size
        self.strides = strides
        self.shared = shared
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        )
        self.kernel = DomainBank(
            domains, shared=shared, initializer=self.kernel_initializer, dtype=self.dtype_policy, name="kernel"
        )

    def build(self, input_shape):
        self.kernel.build((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, inputs, domain):
        return conv(inputs, self.kernel.select(domain), self.strides)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = (None if side is None else -(-side // self.strides) for side in (height, width))
        return (batch, *sides, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "domains": list(self.domains),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "shared": self.shared,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def conv(inputs, kernel, strides):
    """Convolves with one kernel, or each image with its own.

    Args:
        inputs: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels, filters), or (batch, ...) of such.
        strides: Stride along height and width.

    Returns:
        (batch, ceil(height / strides), ceil(width / strides), filters).
    """
    if len(kernel.shape) == 4:
        return ops.conv(inputs, kernel, strides=strides, padding="same")
    # One image per step: no backend's grouped convolution takes a number of groups that is known only at run time.
    return ops.map(
        lambda pair: ops.conv(pair[0][None], pair[1], strides=strides, padding="same")[0], (inputs, kernel)
    )
