"""Convolution shared by all domains, to whose kernel each adds a matrix of low rank."""

import numpy as np
from keras import ops

from tfmdl.layers.conv import DomainConv2D, conv
from tfmdl.layers.low_rank_update import DomainLowRankUpdate
from tfmdl.layers.pointwise_conv import mix_channels


class DomainLowRankConv2D(DomainConv2D):
    """Shared convolution, to whose kernel, as a matrix of height * width * channels rows, each domain adds an update.

    The update is applied as what it is: a convolution with few filters, then a 1x1 one. Training finds no gradient of
    the large kernel, and a batch that mixes domains shares the large convolution.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        rank: As in `DomainLowRankUpdate`.
        kernel_size: Height and width of the shared kernel.
        strides: Stride along height and width.
        kernel_initializer: Of the shared kernel, by default as in `DomainConv2D`.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters): padding is "same".

    Raises:
        ValueError: if `filters`, `rank`, `kernel_size` or `strides` is not positive.

    Reference: Hu et al., "LoRA", ICLR 2022; there, of dense layers.
    """

    def __init__(self, filters, domains, rank, kernel_size=3, strides=1, kernel_initializer=None, **kwargs):
        super().__init__(filters, domains, kernel_size, strides, True, kernel_initializer, **kwargs)
        self.rank = rank
        self.update = DomainLowRankUpdate(domains, rank, dtype=self.dtype_policy, name="update")

    def build(self, input_shape):
        super().build(input_shape)
        self.update.build((self.kernel_size**2 * input_shape[-1], self.filters))

    def call(self, inputs, domain):
        kernel, factors = self.kernel.select(domain), self.update.factors(domain)
        outputs = conv(inputs, kernel, self.strides)
        if factors is None:
            return outputs
        left, right = factors
        *batch, _, rank = left.shape
        few = ops.reshape(left, (*((-1,) if batch else ()), *kernel.shape[:3], rank))
        return outputs + mix_channels(conv(inputs, few, self.strides), right)

    def folded(self, domain):
        return (self.update.applied_exactly(self.kernel.exact(domain), domain),), np.zeros(self.filters)

    def get_config(self):
        config = {**super().get_config(), "rank": self.rank}
        del config["shared"]
        return config
