"""Separable convolution shared by all domains, with a binary mask of its weights per domain."""

import numpy as np
from keras import ops

from tfmdl.layers.depthwise_conv import depthwise_conv
from tfmdl.layers.domain_mask import DomainMask
from tfmdl.layers.pointwise_conv import mix_channels
from tfmdl.layers.separable_conv import DomainSeparableConv2D


class DomainMaskedSeparableConv2D(DomainSeparableConv2D):
    """Shared separable convolution of which each domain uses the weights that its two masks let through.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        kernel_size: Height and width of the depthwise kernel.
        strides: Stride of the depthwise convolution.
        threshold, initial_score: As in `DomainMask`.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters).

    Raises:
        ValueError: if `filters`, `kernel_size` or `strides` is not positive, or as in `DomainMask`.

    Reference: Mallya, Davis, Lazebnik, "Piggyback", ECCV 2018; there, of plain convolutions.
    """

    takes_side_by_side = False

    def __init__(
        self, filters, domains, kernel_size=3, strides=1, threshold=5e-3, initial_score=1e-2, **kwargs
    ):
        super().__init__(filters, domains, kernel_size, strides, True, True, **kwargs)
        self.threshold = threshold
        self.initial_score = initial_score
        self.depthwise_mask = DomainMask(domains, threshold, initial_score, name="depthwise_mask")
        self.pointwise_mask = DomainMask(domains, threshold, initial_score, name="pointwise_mask")

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[-1]
        self.depthwise_mask.build((self.kernel_size, self.kernel_size, channels, 1))
        self.pointwise_mask.build((1, 1, channels, self.filters))

    def call(self, inputs, domain):
        depthwise, pointwise = (
            mask.applied(half.kernel.select(domain), domain) for half, mask in self._masked_halves
        )
        if len(depthwise.shape) == 5:
            depthwise = ops.moveaxis(depthwise, 0, 2)
        outputs = depthwise_conv(inputs, depthwise, self.strides)
        return mix_channels(outputs, ops.squeeze(pointwise, axis=(-4, -3)))

    def folded(self, domain):
        kernels = tuple(mask.applied_exactly(half.kernel.exact(domain), domain) for half, mask in self._masked_halves)
        return kernels, np.zeros(self.filters)

    @property
    def _masked_halves(self):
        return (self.depthwise, self.depthwise_mask), (self.pointwise, self.pointwise_mask)

    def get_config(self):
        config = {**super().get_config(), "threshold": self.threshold, "initial_score": self.initial_score}
        for argument in ("share_depthwise", "share_pointwise", "experts"):
            del config[argument]
        return config
