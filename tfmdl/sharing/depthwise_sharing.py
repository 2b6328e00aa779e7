"""Depthwise kernels shared, pointwise kernels per domain: the opposite of the paper's proposal."""

from tfmdl.sharing.method import SharingMethod


class DepthwiseSharing(SharingMethod):
    """Shares the depthwise kernels (spatial correlations) between domains.

    Each domain owns all its pointwise kernels, nine tenths of the network, the normalisation and the head. In a network
    of Keras, larger convolutions that are not depthwise are shared too.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019
    ("Depthwise Sharing" of Table 1).
    """

    name = "depthwise_sharing"
    convolutions = frozenset({"separable", "keras"})
    refusal = "shares depthwise kernels, and a plain convolution has none"

    def shares(self, part, *, last=False):
        return part in ("depthwise", "plain")
