"""Pointwise kernels shared, depthwise kernels per domain: the paper's proposal."""

import dataclasses

from tfmdl.layers import DomainBatchNormalization, DomainSeparableConv2D
from tfmdl.sharing import options
from tfmdl.sharing.method import SharingMethod


@dataclasses.dataclass(frozen=True)
class PointwiseSharingOptions(options.MethodOptions):
    """Options of pointwise sharing.

    Attributes:
        share_last_pointwise: The last pointwise kernel is shared like the others; by default it is each domain's own,
            as the authors have it.
    """

    share_last_pointwise: bool = options.option(False, "share the last pointwise kernel too.")


class PointwiseSharing(SharingMethod):
    """Shares the pointwise kernels (cross-channel correlations) between domains.

    Each domain owns its depthwise kernels, the last pointwise kernel, the normalisation and the head.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019
    ("Proposed Approach" of Table 1).
    """

    name = "pointwise_sharing"
    Options = PointwiseSharingOptions
    convolutions = frozenset({"separable"})
    refusal = "shares pointwise kernels, and a plain convolution has none"
    side_by_side = True

    def separable_conv(self, filters, *, strides, number, count, name):
        return DomainSeparableConv2D(
            filters,
            self.domains,
            strides=strides,
            share_depthwise=False,
            share_pointwise=self.options.share_last_pointwise or number < count,
            dtype=self.dtype,
            name=name,
        )

    def normalization(self, *, name):
        return DomainBatchNormalization(self.domains, dtype=self.dtype, name=name)
