"""Pointwise kernels shared, depthwise kernels per domain: the paper's proposal."""

from tfmdl.layers import DomainBatchNormalization, DomainSeparableConv2D
from tfmdl.sharing.method import SharingMethod


class PointwiseSharing(SharingMethod):
    """Shares the pointwise kernels (cross-channel correlations) between domains.

    Each domain owns its depthwise kernels, the last pointwise kernel, the normalisation and the head.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019
    ("Proposed Approach" of Table 1).
    """

    name = "pointwise_sharing"
    convolutions = frozenset({"separable"})
    refusal = "shares pointwise kernels, and a plain convolution has none"
    side_by_side = True
    sets_last_pointwise_apart = True

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_depthwise=False,
            share_pointwise=self.share_last_pointwise or number < count,
            dtype=self.dtype,
            name=name,
        )

    def normalization(self, *, name):
        return DomainBatchNormalization(self.domains, dtype=self.dtype, name=name)
