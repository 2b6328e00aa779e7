"""Convolution shared by all domains, with a binary mask of its weights per domain."""

import numpy as np

from tfmdl.layers.conv import DomainConv2D, conv
from tfmdl.layers.domain_mask import DomainMask


class DomainMaskedConv2D(DomainConv2D):
    """Shared convolution of which each domain uses the weights that its mask lets through.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the shared kernel.
        strides: Stride along height and width.
        threshold, initial_score: As in `DomainMask`.
        kernel_initializer: Of the shared kernel, by default as in `DomainConv2D`.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters): padding is "same".

    Raises:
        ValueError: if `filters`, `kernel_size` or `strides` is not positive, or as in `DomainMask`.

    Reference: Mallya, Davis, Lazebnik, "Piggyback", ECCV 2018.
    """

    def __init__(
        self,
        filters,
        domains,
        kernel_size=3,
        strides=1,
        threshold=5e-3,
        initial_score=1e-2,
        kernel_initializer=None,
        **kwargs,
    ):
        super().__init__(filters, domains, kernel_size, strides, True, kernel_initializer, **kwargs)
        self.threshold = threshold
        self.initial_score = initial_score
        self.mask = DomainMask(domains, threshold, initial_score, name="mask")

    def build(self, input_shape):
        super().build(input_shape)
        self.mask.build((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, inputs, domain):
        return conv(inputs, self.mask.applied(self.kernel.select(domain), domain), self.strides)

    def folded(self, domain):
        return (self.mask.applied_exactly(self.kernel.exact(domain), domain),), np.zeros(self.filters)

    def get_config(self):
        config = {**super().get_config(), "threshold": self.threshold, "initial_score": self.initial_score}
        del config["shared"]
        return config
