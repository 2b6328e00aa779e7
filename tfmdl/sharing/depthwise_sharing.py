"""Depthwise kernels shared, pointwise kernels per domain: the opposite of the paper's proposal."""

from tfmdl.layers import DomainBatchNormalization, DomainSeparableConv2D
from tfmdl.sharing.method import SharingMethod


class DepthwiseSharing(SharingMethod):
    """Shares the depthwise kernels (spatial correlations) between domains.

    Each domain owns all its pointwise kernels, nine tenths of the network, the normalisation and the head.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019
    ("Depthwise Sharing" of Table 1).
    """

    name = "depthwise_sharing"
    convolutions = frozenset({"separable"})
    refusal = "shares depthwise kernels, and a plain convolution has none"

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_depthwise=True,
            share_pointwise=False,
            dtype=self.dtype,
            name=name,
        )

    def normalization(self, *, name):
        return DomainBatchNormalization(self.domains, dtype=self.dtype, name=name)
