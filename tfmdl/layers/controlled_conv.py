"""Convolution shared by all domains, whose filters each domain recombines."""

import numpy as np

from tfmdl.layers.conv import DomainConv2D, conv
from tfmdl.layers.domain_bank import DomainBank
from tfmdl.layers.pointwise_conv import mix_channels


class DomainControlledConv2D(DomainConv2D):
    """Shared convolution whose filters a controller matrix of the domain recombines linearly.

    Filter j of a domain is the sum over i of controller[i, j] times the shared filter i. A convolution is linear, so
    the responses are recombined instead of the filters: one matrix product, also with one domain per image. A new
    controller is the identity.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the shared kernel.
        strides: Stride along height and width.
        kernel_initializer: Of the shared kernel, by default as in `DomainConv2D`.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters): padding is "same".

    Raises:
        ValueError: if `filters`, `kernel_size` or `strides` is not positive.

    Reference: Rosenfeld and Tsotsos, "Incremental Learning Through Deep Adaptation", 2018.
    """

    def __init__(self, filters, domains, kernel_size=3, strides=1, kernel_initializer=None, **kwargs):
        super().__init__(filters, domains, kernel_size, strides, True, kernel_initializer, **kwargs)
        self.controller = DomainBank(domains, initializer="identity", dtype=self.dtype_policy, name="controller")

    def build(self, input_shape):
        super().build(input_shape)
        self.controller.build((self.filters, self.filters))

    def call(self, inputs, domain):
        outputs = conv(inputs, self.kernel.select(domain), self.strides)
        return mix_channels(outputs, self.controller.select(domain))

    def folded(self, domain):
        return (self.kernel.exact(domain) @ self.controller.exact(domain),), np.zeros(self.filters)

    def get_config(self):
        config = super().get_config()
        del config["shared"]
        return config
