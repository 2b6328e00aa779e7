"""Pointwise kernels shared, depthwise kernels per domain: the paper's proposal."""

import dataclasses

from tfmdl.sharing import options
from tfmdl.sharing.method import SharingMethod


@dataclasses.dataclass(frozen=True)
class PointwiseSharingOptions(options.MethodOptions):
    """Options of pointwise sharing.

    Attributes:
        share_last_pointwise: The last pointwise kernel is shared like the others. None becomes what suits the backbone:
            each domain has its own in a ResNet-26, as the authors have it, and shares it in a network of Keras, where
            it would be larger than all else that is the domain's own.
    """

    share_last_pointwise: bool | None = options.option(
        None, "share the last pointwise kernel too; by default in networks of Keras.", bool
    )

    def for_backbone(self, backbone):
        if self.share_last_pointwise is not None:
            return self
        return dataclasses.replace(self, share_last_pointwise=backbone.shares_last_pointwise)


class PointwiseSharing(SharingMethod):
    """Shares the pointwise kernels (cross-channel correlations) between domains.

    Each domain owns its depthwise kernels, the last pointwise kernel where that is not shared too, the normalisation
    and the head. In a network of Keras, larger convolutions that are not depthwise are shared.

    Reference: Guo et al., "Depthwise Convolution is All You Need for Learning Multiple Visual Domains", AAAI 2019
    ("Proposed Approach" of Table 1).
    """

    name = "pointwise_sharing"
    Options = PointwiseSharingOptions
    convolutions = frozenset({"separable", "keras"})
    refusal = "shares pointwise kernels, and a plain convolution has none"
    side_by_side = True
    together = "own_budgets"

    def shares(self, part, *, last=False):
        if part == "pointwise":
            return self.options.share_last_pointwise or not last
        return part == "plain"
