"""Separable convolution to whose two kernels each domain adds a matrix of low rank."""

import numpy as np
from keras import ops

from tfmdl.layers.depthwise_conv import depthwise_conv
from tfmdl.layers.low_rank_update import DomainLowRankUpdate
from tfmdl.layers.pointwise_conv import mix_channels
from tfmdl.layers.separable_conv import DomainSeparableConv2D


class DomainLowRankSeparableConv2D(DomainSeparableConv2D):
    """Separable convolution, mostly shared, to whose kernels domains add updates of low rank.

    As matrices, the depthwise kernel has height * width rows and a column per channel, the pointwise kernel a row per
    channel and a column per filter.

    Args:
        filters: Number of output channels.
        domains: Names of the domains, in the order of their ids.
        rank: As in `DomainLowRankUpdate`.
        kernel_size: Height and width of the depthwise kernel.
        strides: Stride of the depthwise convolution.
        share_depthwise, share_pointwise: As in `DomainSeparableConv2D`.

    Input shape: (batch, height, width, channels).
    Output shape: (batch, ceil(height / strides), ceil(width / strides), filters).

    Raises:
        ValueError: if `filters`, `rank`, `kernel_size` or `strides` is not positive.

    Reference: Hu et al., "LoRA", ICLR 2022; there, of dense layers.
    """

    takes_side_by_side = False

    def __init__(
        self, filters, domains, rank, kernel_size=3, strides=1, share_depthwise=True, share_pointwise=True, **kwargs
    ):
        super().__init__(filters, domains, kernel_size, strides, share_depthwise, share_pointwise, **kwargs)
        self.rank = rank
        self.depthwise_update, self.pointwise_update = (
            DomainLowRankUpdate(domains, rank, dtype=self.dtype_policy, name=f"{half}_update")
            for half in ("depthwise", "pointwise")
        )

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[-1]
        self.depthwise_update.build((self.kernel_size**2, channels))
        self.pointwise_update.build((channels, self.filters))

    def call(self, inputs, domain):
        outputs = depthwise_conv(inputs, self._depthwise_kernel(domain), self.strides)
        mixed = mix_channels(outputs, ops.squeeze(self.pointwise.kernel.select(domain), axis=(-4, -3)))
        factors = self.pointwise_update.factors(domain)
        if factors is None:
            return mixed
        left, right = factors
        return mixed + mix_channels(mix_channels(outputs, left), right)

    def _depthwise_kernel(self, domain):
        """Returns (height, width, channels, 1), with the batch in front of the channels for one domain per image."""
        kernel = self.depthwise.kernel.select(domain)
        update = self.depthwise_update.select(domain)
        if update is None:
            return kernel
        if len(update.shape) == 3:
            update = ops.swapaxes(update, 0, 1)
            kernel = kernel if len(kernel.shape) == 5 else kernel[:, :, None]
        return kernel + ops.reshape(update, (*kernel.shape[:2], *ops.shape(update)[1:], 1))

    def folded(self, domain):
        kernels = (
            update.applied_exactly(half.kernel.exact(domain), domain)
            for half, update in ((self.depthwise, self.depthwise_update), (self.pointwise, self.pointwise_update))
        )
        return tuple(kernels), np.zeros(self.filters)

    def get_config(self):
        config = {**super().get_config(), "rank": self.rank}
        del config["experts"]
        return config
